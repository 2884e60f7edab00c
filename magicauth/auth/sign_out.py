"""`/logout`: the session is destroyed on the server."""

from flask import Blueprint, Response

from magicauth import guards
from magicauth.guards import login_required
from magicauth.respond import go

bp = Blueprint("sign_out", __name__)


@bp.post("/logout")
@login_required
def sign_out() -> Response:
    guards.end_session()
    response = go("/auth", "Signed out.")
    # Nothing of what was shown stays in this browser's cache.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response
