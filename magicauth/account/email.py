"""`/account/email`: moving the account to another address, and taking that back."""

from flask import Blueprint, Response

from magicauth import guards
from magicauth.flows import email
from magicauth.guards import current_user, fresh_sign_in_required
from magicauth.reader import read, read_query, read_query_leniently
from magicauth.respond import again, go, page
from magicauth.visitor import visitor

bp = Blueprint("account_email", __name__)


@bp.get("/account/email")
@fresh_sign_in_required
def ask() -> Response:
    pending = guards.pending()
    waiting = pending.email if pending and pending.purpose == "change_email" else read_query_leniently("email")
    return page("account/email.html", user=current_user, pending_email=waiting or None)


@bp.post("/account/email")
@fresh_sign_in_required
@again(ask)
def start() -> Response:
    guards.keep_pending(email.start(current_user.row, read("email"), visitor()))
    return go("/verify", "Letter sent to your email!")


@bp.get("/account/email/undo")
def ask_undo() -> Response:
    token = read("token") or read_query("token")
    return page("account/email_undo.html", token=token, old_email=email.look_at_undo(token).email)


@bp.post("/account/email/undo")
@again(ask_undo)
def undo() -> Response:
    email.undo(read("token") or read_query("token"), visitor())
    return go("/auth", "Change undone. All sessions ended.")
