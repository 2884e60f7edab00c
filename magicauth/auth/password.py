"""`/auth/password`: the second step of a sign-in that began with the e-mail."""

from flask import Blueprint, Response, g, request

from magicauth import guards
from magicauth.auth import steps
from magicauth.errors import NotFound
from magicauth.flows import sign_in
from magicauth.pending import under_way
from magicauth.reader import read, wants_json
from magicauth.respond import again, go, page
from magicauth.visitor import visitor

bp = Blueprint("password", __name__)


@bp.before_request
def only_when_it_is_missing() -> Response | None:
    """Before the e-mail is proven there is no such step."""
    guards.passwords_in_use()
    if request.method == "OPTIONS":
        return None
    pending = under_way()
    try:
        user, missing = sign_in.next_step(pending)
    except NotFound:
        missing = None
    if missing == "password":
        g._magicauth_user, g._magicauth_pending = user, pending
        return None
    if wants_json():
        raise NotFound
    return go("/verify" if pending else "/auth")


@bp.get("/auth/password")
def ask() -> Response:
    pending = g._magicauth_pending
    return page("auth/password.html", email=g._magicauth_user.email, next=pending.next, remember=pending.remember)


@bp.post("/auth/password")
@again(ask)
def prove() -> Response:
    steps.require_shown_to(g._magicauth_user)
    pending = sign_in.prove_password(g._magicauth_pending, read("password"), visitor())
    return steps.finish_or_ask_once(pending, "Password is correct")
