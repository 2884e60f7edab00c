"""`/users/magic_link` and `/users/signup`: signing up."""

from flask import Blueprint, Response

from magicauth import challenges, guards, mail
from magicauth.errors import Denied
from magicauth.flows import sign_up
from magicauth.guards import current_user
from magicauth.models import as_json
from magicauth.next_page import own_path
from magicauth.reader import read, read_password, read_query_leniently, read_text, read_token, typed
from magicauth.respond import again, go, link_gone, page
from magicauth.visitor import visitor

bp = Blueprint("sign_up", __name__)


@bp.get("/users/magic_link")
def ask() -> Response:
    sign_up.require_open()
    next_page = own_path(typed().get("next") or read_query_leniently("next"))
    return page("auth/sign_up.html", next=next_page, email=read_query_leniently("email"))


@bp.post("/users/magic_link")
@again(ask)
def send_link() -> Response:
    sign_up.start(read("email"), visitor(), next_page=own_path(read("next")))
    return go("/users/magic_link/sent", "Link sent to your email!")


@bp.get("/users/magic_link/sent")
def sent() -> Response:
    return page("auth/sign_up_sent.html", **mail.life_in_words(challenges.ttl("sign_up")))


@bp.get("/users/signup")
def ask_the_rest() -> Response:
    token = read_token()
    try:
        challenge = sign_up.invitation(token)
    except Denied as refusal:
        return link_gone(refusal, "/users/magic_link", current_user.email if current_user else "")
    return page("auth/sign_up_finish.html", json={"email": challenge.email}, token=token, email=challenge.email)


@bp.post("/users/signup")
@again(ask_the_rest)
def finish() -> Response:
    user, next_page = sign_up.finish(
        read_token(), read_text("name"), read_password(), read_text("phone"), read_text("email"), visitor()
    )
    guards.start_session(user, ["email"] + (["password"] if user.password_hash else []))
    return go(next_page or "/home", "User saved!", 201, user=as_json(user))
