"""`/verify`: the mailed code, and asking for it again."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, g

from magicauth import challenges, outbox
from magicauth.auth import steps
from magicauth.auth.webmail import webmail
from magicauth.challenges import Challenge
from magicauth.errors import CodeOver, NotFound
from magicauth.flows import email, email_proof, sign_in
from magicauth.guards import current_user
from magicauth.pending import Pending, keep_pending, under_way
from magicauth.reader import read, wants_json
from magicauth.respond import again, go, page
from magicauth.visitor import visitor

# A letter that the mail server has not taken after this many seconds is said to be delayed.
_DELAYED_AFTER = 15
# Where "wrong address?" leads.
_CHANGE_ADDRESS = {"sign_in": "/auth", "reset": "/auth/reset", "change_email": "/account/email"}

bp = Blueprint("verify", __name__)


@bp.get("/verify")
def ask() -> Response:
    pending = _pending()
    challenge = challenges.get(pending.challenge_id) if pending else None
    if wants_json() and not _is_open(challenge):
        raise CodeOver()
    if pending is None:
        return go("/auth")
    if "_magicauth_refusal" not in g and not wants_json() and (onward := _onward(pending)):
        # Back from the page that is next.
        return go(onward)
    return page("auth/verify.html", json={"email": pending.email, "digits": _digits()}, **_shown(pending, challenge))


@bp.post("/verify")
@again(ask)
def verify() -> Response:
    pending = _pending()
    try:
        challenge = email_proof.by_code(pending, read("OTP"), visitor())
    except NotFound:
        onward = _onward(pending) if pending else None
        if onward is None or wants_json():
            raise
        # Answered in another tab.
        return go(onward)
    return steps.after_proof_of_address(challenge, "OTP is correct")


@bp.post("/verify/resend")
@again(ask)
def resend() -> Response:
    pending = _pending()
    if pending is None:
        raise CodeOver()
    if pending.purpose == "change_email":
        keep_pending(email.resend(current_user.row, pending, visitor()))
    else:
        keep_pending(sign_in.resend(pending, visitor()))
    return go("/verify", "Letter sent to your email!")


def _pending() -> Pending | None:
    """What is under way here and answered on this page: a code of another purpose is none."""
    pending = under_way()
    if pending is None or pending.purpose not in email_proof.PURPOSES:
        return None
    if pending.purpose == "change_email" and not current_user:
        return None
    return pending


def _onward(pending: Pending) -> str | None:
    """Where it goes on, where the code, or the link, was answered here and a password is what is missing."""
    with suppress(NotFound):
        onward = steps.step_after(pending)
        return onward if onward != "/verify" else None
    return None


def _is_open(challenge: Challenge | None) -> bool:
    return challenge is not None and challenge.is_open


def _shown(pending: Pending, challenge: Challenge | None) -> dict[str, Any]:
    is_open = _is_open(challenge)
    return {
        "email": pending.email,
        "purpose": pending.purpose,
        "is_open": is_open,
        "digits": _digits(),
        "attempts_left": g._magicauth_refusal.fields.get("attempts_left") if "_magicauth_refusal" in g else None,
        "sent_at": datetime.fromtimestamp(pending.sent, UTC),
        "minutes": max(1, challenges.ttl(pending.purpose) // 60),
        "resend_in": email_proof.resend_in(challenge, pending, visitor()) if challenge and is_open else 0,
        "letter": _letter_state(challenge),
        "webmail": webmail(pending.email),
        "next": pending.next,
        "change_url": _CHANGE_ADDRESS[pending.purpose],
        "remember": pending.remember,
    }


def _letter_state(challenge: Challenge | None) -> str:
    if current_app.config["MAGICAUTH_SIGN_UP"] != "open":
        # Not every stranger's letter goes out there: how this one fares would tell whether there is an account.
        return "delayed" if outbox.is_failing() else "sent"
    if challenge is None or challenge.handed >= challenge.sends:
        return "sent"
    return "delayed" if time.time() - challenge.sent > _DELAYED_AFTER else "queued"


def _digits() -> int:
    return int(current_app.config["MAGICAUTH_CODE_DIGITS"])
