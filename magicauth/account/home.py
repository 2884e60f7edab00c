"""`/home`: the guarded example page."""

from flask import Blueprint, Response

from magicauth.guards import current_user, login_required
from magicauth.models import as_json
from magicauth.respond import page

bp = Blueprint("home", __name__)


@bp.get("/home")
@login_required
def home() -> Response:
    return page("account/home.html", json={"user": as_json(current_user)})
