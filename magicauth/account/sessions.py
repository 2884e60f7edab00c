"""`/account/sessions`: where one is signed in; ending one session, or all others."""

from flask import Blueprint, Response

from magicauth import guards, notices, sessions
from magicauth.crypto import digest
from magicauth.errors import N_, NotFound
from magicauth.flows import security
from magicauth.guards import current_user, fresh_sign_in_required, login_required
from magicauth.models import iso
from magicauth.reader import read
from magicauth.respond import again, go, page
from magicauth.sessions import Listed, this_session
from magicauth.visitor import visitor

bp = Blueprint("sessions", __name__)


@bp.get("/account/sessions")
@login_required
def show() -> Response:
    row = current_user.row
    live = sessions.listed(row.id.hex, row.session_epoch, this_session())
    return page(
        "account/sessions.html",
        json={"sessions": [session_as_json(one) for one in live]},
        sessions=live,
    )


# Fresh, both of them: with a stolen session a thief could end every sign-in that its owner begins.
@bp.post("/account/sessions/end")
@fresh_sign_in_required
@again(show)
def end() -> Response:
    row = current_user.row
    store_id = sessions.find(row.id.hex, read("session"))
    if store_id is None or not security.end_one(row, store_id, visitor()):
        raise NotFound(N_("Session not found."))
    if store_id == digest(this_session().sid or ""):
        guards.end_session()
        notices.bid_farewell("signed_out")
        return go("/auth", "Session ended.")
    notices.notify(N_("That session is ended."))
    return go("/account/sessions", "Session ended.")


@bp.post("/account/sessions/end_others")
@fresh_sign_in_required
@again(show)
def end_others() -> Response:
    row = current_user.row
    security.end_others(row, visitor(), this_session())
    guards.continue_session(row)
    notices.notify(N_("All other sessions are ended."))
    return go("/account/sessions", "Sessions ended.")


def session_as_json(session: Listed) -> dict[str, object]:
    """What programs see of a session."""
    return {
        "session": session.handle,
        "browser": session.browser,
        "address": session.address,
        "created_at": iso(session.created),
        "seen_at": iso(session.seen),
        "current": session.current,
    }
