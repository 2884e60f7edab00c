"""From one step of a sign-in to the next, in this browser."""

from flask import Response

from magicauth import guards
from magicauth.challenges import Challenge
from magicauth.flows import sign_in
from magicauth.pending import Pending
from magicauth.respond import go
from magicauth.visitor import visitor


def go_on(pending: Pending, message: str = "OK") -> Response:
    """To the page that asks for what is missing; or in, if nothing is."""
    user, wanted = sign_in.next_step(pending)
    if wanted is None:
        sign_in.finished(user, visitor())
        guards.start_session(user, pending.proofs, remember=pending.remember)
        return go(pending.next or "/home", message)
    guards.keep_pending(pending, risen=True)
    return go("/auth/password" if wanted == "password" else "/verify", message)


def answered(challenge: Challenge, message: str = "OK") -> Response:
    """On with what an answered challenge is for."""
    return go_on(sign_in.email_proven(challenge, guards.pending()), message)
