"""`/auth/reset`: a new password for one that is forgotten."""

from flask import Blueprint, Response

from magicauth import guards, notices
from magicauth.auth import steps
from magicauth.errors import N_
from magicauth.flows import reset
from magicauth.next_page import own_path
from magicauth.pending import keep_pending, under_way
from magicauth.reader import read, read_query_leniently, typed
from magicauth.respond import again, go, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

bp = Blueprint("reset", __name__)
bp.before_request(guards.passwords_in_use)


@bp.get("/auth/reset")
def ask() -> Response:
    next_page = own_path(typed().get("next") or read_query_leniently("next"))
    return page("auth/reset.html", email=read_query_leniently("email"), next=next_page)


@bp.post("/auth/reset")
@again(ask)
def start() -> Response:
    keep_pending(reset.start(read("email"), visitor(), this_session(), under_way(), own_path(read("next"))))
    return go("/verify", "Letter sent to your email!")


@bp.get("/auth/reset/password")
def ask_new() -> Response:
    return page("auth/reset_password.html", email=reset.whose(under_way())[0].email)


@bp.post("/auth/reset/password")
@again(ask_new)
def choose() -> Response:
    user, pending = reset.whose(under_way())
    steps.require_shown_to(user)
    response = steps.finish_or_ask(reset.choose(user, pending, read("password"), visitor()), "Password saved.")
    notices.notify(N_("Your password is changed."))
    return response
