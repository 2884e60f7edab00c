"""`/auth/not_me`: the link of every letter of warning. A GET changes nothing."""

from flask import Blueprint, Response

from magicauth import guards, notices
from magicauth.errors import N_, Denied
from magicauth.flows import not_me
from magicauth.pending import keep_pending
from magicauth.reader import read_token
from magicauth.respond import again, go, link_gone, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

bp = Blueprint("not_me", __name__)


@bp.get("/auth/not_me")
def ask() -> Response:
    token = read_token()
    try:
        challenge = not_me.look_at(token)
    except Denied as refusal:
        return link_gone(refusal, "/auth/reset")
    return page("auth/not_me.html", token=token, other_account=guards.other_account(challenge.user_id))


@bp.post("/auth/not_me")
@again(ask)
def secure() -> Response:
    challenge = not_me.look_at(read_token())
    pending = not_me.secure(challenge, visitor(), this_session())
    if guards.other_account(challenge.user_id):
        notices.notify(N_("That account is signed out everywhere. You stay signed in here."))
    else:
        guards.end_session()
        notices.bid_farewell("secured")
    if pending is None:
        return go("/auth", "All sessions ended.")
    keep_pending(pending)
    return go("/verify", "All sessions ended. Letter sent to your email!")
