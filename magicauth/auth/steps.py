"""From one step to the next, in this browser: what an answered challenge leads to."""

from flask import Response, current_app

from magicauth import guards, notices, reopening
from magicauth.challenges import Challenge
from magicauth.errors import N_, OtherAccount, SignInOver
from magicauth.flows import email, email_proof, sign_in
from magicauth.guards import current_user
from magicauth.models import User
from magicauth.pending import Pending, keep_pending, under_way
from magicauth.reader import is_json, read, wants_json
from magicauth.respond import go
from magicauth.sessions import this_session
from magicauth.visitor import visitor


def after_proof_of_address(challenge: Challenge, message: str = "") -> Response:
    """On with what the challenge is for."""
    with reopening.good_until_done(challenge):
        if challenge.purpose == "change_email":
            return _email_changed(challenge, message)
        return finish_or_ask(sign_in.email_proven(challenge, under_way()), message or "OK")


def step_after(pending: Pending) -> str | None:
    """The page of the step that comes next; None when nothing is missing. Raises NotFound if nothing was proven."""
    missing = sign_in.next_step(pending)[1]
    if missing == "email":
        return "/verify"
    passwords = current_app.config["MAGICAUTH_PASSWORDS"] != "off"
    if pending.purpose == "reset" and passwords and "password" not in pending.proofs:
        return "/auth/reset/password"
    return "/auth/password" if missing == "password" else None


def require_shown_to(user: User) -> None:
    """Raises OtherAccount for a form of a step whose page showed another address: since then another tab may have begun
    with another account. Programs are shown no page."""
    shown = read("email")
    if shown and not is_json() and email_proof.canonical_or_nothing(shown) != user.canonical_email:
        raise OtherAccount


def finish_or_ask(pending: Pending, message: str = "OK") -> Response:
    """To the page that asks for what is missing; or in, if nothing is."""
    if onward := step_after(pending):
        keep_pending(pending, risen=True)
        return go(onward, message)
    user = sign_in.next_step(pending)[0]
    sign_in.finished(user, visitor(), was_known=pending.was_known)
    guards.start_session(user, pending.proofs, remember=pending.remember)
    return go(pending.next or "/home", message)


def finish_or_ask_once(pending: Pending, message: str = "OK") -> Response:
    """The same, after a password: of many presses of its button at once, one finishes the sign-in."""
    if step_after(pending):
        return finish_or_ask(pending, message)
    with reopening.put_back_on_failure():
        if this_session().claim():
            return finish_or_ask(pending, message)
    # Another was quicker, and has signed this browser in.
    if wants_json():
        raise SignInOver()
    return go(pending.next or "/home")


def _email_changed(challenge: Challenge, message: str) -> Response:
    # Whoever opens the letter at the new address has proven it, here or elsewhere; signed in stays who was.
    own = bool(current_user) and current_user.row.id.hex == challenge.user_id
    user = email.confirm(challenge, visitor(), this_session() if own else None)
    if not own:
        if current_user:
            notices.notify(N_("That account has its new address. You stay signed in here."))
        else:
            notices.bid_farewell("moved")
        return go("/auth", message or "E-mail address changed.")
    guards.continue_session(user)
    notices.notify(N_("Your email address is changed."))
    return go("/account", message or "E-mail address changed.")
