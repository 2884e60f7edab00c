"""`/account/password`: another password, or a first one."""

from flask import Blueprint, Response

from magicauth import guards, notices
from magicauth.errors import N_
from magicauth.flows import password
from magicauth.guards import current_user, fresh_sign_in_required
from magicauth.reader import read
from magicauth.respond import again, go, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

bp = Blueprint("account_password", __name__)
bp.before_request(guards.passwords_in_use)


@bp.get("/.well-known/change-password")
def lead_here() -> Response:
    """Password managers look there (W3C, A Well-Known URL for Changing Passwords)."""
    return go("/account/password")


@bp.get("/account/password")
@fresh_sign_in_required
def ask() -> Response:
    return page("account/password.html", json={"has_password": current_user.has_password})


@bp.post("/account/password")
@fresh_sign_in_required
@again(ask)
def change() -> Response:
    row = current_user.row
    password.change(row, read("old_password"), read("password"), visitor(), this_session())
    guards.continue_session(row)
    notices.notify(N_("Your password is changed."))
    return go("/account", "Password changed.")
