"""`/auth/fresh`: saying again who one is, and back to the page that wanted it."""

from flask import Blueprint, Response, current_app

from magicauth import challenges, guards, notices, wanted
from magicauth.errors import N_, CodeOver
from magicauth.flows import email_proof, fresh
from magicauth.guards import current_user, login_required
from magicauth.pending import confirming, keep_pending
from magicauth.reader import is_given, read, wants_json
from magicauth.respond import again, go, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

bp = Blueprint("fresh", __name__)


@bp.get("/auth/fresh")
@login_required
def ask() -> Response:
    asked = confirming()
    challenge = challenges.get(asked.challenge_id) if asked else None
    code_sent = challenge is not None and challenge.is_open
    has_password = current_user.row.has_password
    return page(
        "auth/fresh.html",
        json={"has_password": has_password, "code_sent": code_sent},
        email=current_user.email,
        has_password=has_password,
        code_sent=code_sent,
        resend_in=email_proof.resend_in(challenge, asked, visitor()) if asked and challenge and code_sent else 0,
        digits=current_app.config["MAGICAUTH_CODE_DIGITS"],
    )


@bp.post("/auth/fresh")
@login_required
@again(ask)
def confirm() -> Response:
    code, password = read("OTP"), read("password")
    if code or (is_given("OTP") and not password):
        try:
            fresh.by_code(current_user.row, confirming(), code, visitor())
        except CodeOver:
            if wants_json() or not guards.is_fresh():
                raise
            # Confirmed in another tab.
            return go(wanted.page())
        guards.freshen("email")
    else:
        fresh.by_password(current_user.row, password, visitor())
        guards.freshen("password")
    if wanted.holds_form():
        notices.notify(N_("Thank you. Press the button once more to finish."))
    return go(wanted.page(), "It is you.")


@bp.post("/auth/fresh/code")
@login_required
@again(ask)
def send_code() -> Response:
    keep_pending(fresh.send_code(current_user.row, confirming(), visitor(), this_session()))
    return go("/auth/fresh", "Letter sent to your email!")
