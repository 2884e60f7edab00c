"""`/auth`: where a sign-in begins."""

from flask import Blueprint, Response, g

from magicauth.auth import steps
from magicauth.flows import sign_in
from magicauth.guards import current_user
from magicauth.next_page import own_path
from magicauth.pending import keep_pending, under_way
from magicauth.reader import TICKS, read, read_flag, read_password, read_query_leniently, typed
from magicauth.respond import again, go, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

bp = Blueprint("sign_in", __name__)


@bp.get("/")
def front() -> Response:
    return go("/home" if current_user else "/auth")


@bp.get("/auth")
def ask() -> Response:
    next_page = own_path(typed().get("next") or read_query_leniently("next"))
    if current_user and "_magicauth_refusal" not in g:
        return go(next_page or "/home")
    return page(
        "auth/sign_in.html",
        next=next_page,
        email=read_query_leniently("email"),
        remember=(typed().get("remember") or read_query_leniently("remember")) in TICKS,
    )


@bp.post("/auth")
@again(ask)
def start() -> Response:
    pending = sign_in.start(
        read("email"),
        read_password(),
        visitor(),
        under_way(),
        this_session(),
        next_page=own_path(read("next")),
        remember=read_flag("remember"),
    )
    if "email" in pending.proofs:
        # The code was typed before.
        return steps.finish_or_ask_once(pending)
    keep_pending(pending, risen=bool(pending.proofs))
    return go("/verify", "Letter sent to your email!")
