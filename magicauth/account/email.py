"""`/account/email`: moving the account to another address, and taking that back."""

from flask import Blueprint, Response

from magicauth import notices
from magicauth.errors import Denied
from magicauth.flows import email
from magicauth.guards import current_user, fresh_sign_in_required
from magicauth.pending import keep_pending, under_way
from magicauth.reader import read, read_token
from magicauth.respond import again, go, link_gone, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

bp = Blueprint("account_email", __name__)


@bp.get("/account/email")
@fresh_sign_in_required
def ask() -> Response:
    # Never from the query: a link of somebody else's could put his address where one press gives him the account.
    pending = under_way()
    waiting = pending.email if pending and pending.purpose == "change_email" else None
    return page("account/email.html", pending_email=waiting)


@bp.post("/account/email")
@fresh_sign_in_required
@again(ask)
def start() -> Response:
    keep_pending(email.start(current_user.row, read("email"), visitor(), under_way(), this_session()))
    return go("/verify", "Letter sent to your email!")


@bp.get("/account/email/undo")
def ask_undo() -> Response:
    token = read_token()
    try:
        change = email.look_at_undo(token)
    except Denied as refusal:
        return link_gone(refusal)
    return page("account/email_undo.html", token=token, old_email=change.email)


@bp.post("/account/email/undo")
@again(ask_undo)
def undo() -> Response:
    email.undo(read_token(), visitor())
    notices.bid_farewell("moved_back")
    return go("/auth", "Change undone. All sessions ended.")
