"""What the next page says of what an earlier request did: in the session, or where that has ended in a cookie."""

from collections.abc import Iterable

from flask import Response, after_this_request, get_flashed_messages, request, session
from markupsafe import Markup

from magicauth import cookies
from magicauth.errors import N_
from magicauth.reader import wants_json
from magicauth.sessions import this_session

# Names the sentence for somebody who has no session any more, for as long as that page takes.
_FAREWELL_COOKIE = "magicauth-farewell"
_FAREWELLS = {
    "signed_out": N_("You are signed out."),
    "secured": N_("Your account is signed out everywhere."),
    "moved": N_("The address is changed. Sign in with the new one."),
    "moved_back": N_("Your old address is back, and your account is signed out everywhere."),
    "deleted": N_("Your account is deleted."),
    "ended": N_("Your session has ended. Sign in, and you go on where you were."),
    "ended_unsaved": N_("Your session has ended, and what you sent was not saved. Sign in, and send it again."),
}
_FAREWELL_LIFE = 60


def notify(message: str) -> None:
    """Keeps a sentence for the next page of this session. A program has its answer: what it did is no news for the page
    that somebody opens later."""
    if not wants_json():
        this_session().keep(notice=message)


def bid_farewell(name: str) -> None:
    """Keeps one of our sentences for the next page of somebody who has no session to keep it in."""
    if not wants_json():

        @after_this_request
        def keep(response: Response) -> Response:
            cookies.give(response, _FAREWELL_COOKIE, name, _FAREWELL_LIFE)
            return response


def flashes() -> Iterable[str]:
    """What views of a site's own left by Flask's `flash` for the next page, once."""
    kept = this_session().has_cookie and request.method != "HEAD" and "_flashes" in session
    return (
        (message if isinstance(message, Markup) else str(message) for message in get_flashed_messages()) if kept else ()
    )


def notice() -> str | None:
    """The sentence that an earlier request left for this page, once."""
    if this_session().has_cookie and "notice" in session:
        # A browser, or a proxy, that asks by HEAD shows nothing.
        return str(session["notice"] if request.method == "HEAD" else this_session().drop("notice"))
    farewell = _FAREWELLS.get(request.cookies.get(_FAREWELL_COOKIE, ""))
    if farewell and request.method != "HEAD":

        @after_this_request
        def forget(response: Response) -> Response:
            cookies.take_back(response, _FAREWELL_COOKIE)
            return response

    return farewell
