"""`/logout`: the session is destroyed on the server."""

import logging

from flask import Blueprint, Response, request

from magicauth import audit, guards, notices
from magicauth.errors import reason_of
from magicauth.extensions import DATABASE_IS_AWAY
from magicauth.guards import current_user, login_required
from magicauth.models import Action, User
from magicauth.respond import go
from magicauth.sessions import this_session
from magicauth.visitor import visitor

log = logging.getLogger("magicauth")

bp = Blueprint("sign_out", __name__)


@bp.before_request
def end_what_it_was_renewed_to() -> None:
    """The answer that brings this browser the new id of its session may still be on its way."""
    if request.method == "POST" and this_session().has_ended:
        this_session().end_renewed()


@bp.post("/logout")
@login_required
def sign_out() -> Response:
    user_id = current_user.id.hex
    # First, so that it is done though the database cannot record it.
    guards.end_session()
    try:
        if (user := User.by_id(user_id)) is not None:
            audit.commit(Action.SIGNED_OUT, visitor(), user)
    except DATABASE_IS_AWAY as error:
        log.warning("a sign-out is not recorded: %s", reason_of(error))
    notices.bid_farewell("signed_out")
    response = go("/auth", "Signed out.")
    # Nothing of what was shown stays in this browser's cache.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response
