"""`/auth/fresh`: saying again who one is, and back to the page that wanted it."""

from flask import Blueprint, Response, current_app

from magicauth import guards, wanted
from magicauth.flows import fresh
from magicauth.guards import current_user, login_required
from magicauth.reader import read
from magicauth.respond import again, go, page
from magicauth.visitor import visitor

bp = Blueprint("fresh", __name__)


@bp.get("/auth/fresh")
@login_required
def ask() -> Response:
    pending = guards.pending()
    return page(
        "auth/fresh.html",
        email=current_user.email,
        has_password=current_user.row.has_password,
        code_sent=pending is not None and pending.purpose == "fresh",
        digits=current_app.config["MAGICAUTH_CODE_DIGITS"],
    )


@bp.post("/auth/fresh")
@login_required
@again(ask)
def confirm() -> Response:
    typed = read("OTP")
    if typed:
        fresh.by_code(current_user.row, guards.pending(), typed, visitor())
        guards.drop_pending()
    else:
        fresh.by_password(current_user.row, read("password"), visitor())
    guards.freshen("email" if typed else "password")
    return go(wanted.page(), "It is you.")


@bp.post("/auth/fresh/code")
@login_required
@again(ask)
def send_code() -> Response:
    guards.keep_pending(fresh.send_code(current_user.row, guards.pending(), visitor()))
    return go("/auth/fresh", "Letter sent to your email!")
