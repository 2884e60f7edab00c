"""The page that wanted a fresh sign-in: kept in the session with what was typed on it, and gone back to."""

from flask import request, session

from magicauth.next_page import here, path_of
from magicauth.reader import is_read_by_view, typed, wants_json
from magicauth.sessions import this_session


def keep() -> None:
    """Keeps the page that is asked for, or whose button was pressed, and what was typed on it, secrets apart, until the
    sign-in is fresh."""
    if wants_json() or request.method == "HEAD":
        return
    page = here()
    # What a view reads itself is not kept, and a button alone would not send it again.
    sent = bool(page) and request.method == "POST" and not is_read_by_view()
    this_session().keep(wanted={"path": page or "/account", "typed": typed(), "sent": sent})


def page() -> str:
    """The page that wanted a fresh sign-in, which shows again what was typed there; or the account's."""
    wanted = session.get("wanted")
    return wanted["path"] if wanted else "/account"


def holds_form() -> bool:
    """Whether a form was put aside, which is to be sent once more."""
    return bool(session.get("wanted", {}).get("sent"))


def typed_before() -> dict[str, str]:
    """What was typed on this page before a fresh sign-in was asked for, once."""
    wanted = session.get("wanted") if this_session().has_cookie and request.method == "GET" else None
    if not wanted or path_of(wanted["path"]) != request.path:
        return {}
    this_session().forget("wanted")
    typed: dict[str, str] = wanted["typed"]
    return typed
