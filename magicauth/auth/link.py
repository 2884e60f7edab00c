"""`/auth/link`: the mailed link. A GET changes nothing: mail scanners fetch links, and browsers fetch them ahead."""

from datetime import UTC, datetime
from types import SimpleNamespace

from flask import Blueprint, Response

from magicauth import challenges, guards, metrics
from magicauth.auth import steps
from magicauth.errors import Denied
from magicauth.flows import email_proof
from magicauth.guards import current_user
from magicauth.pending import asked_here
from magicauth.reader import read, read_token
from magicauth.respond import again, link_gone, page

bp = Blueprint("link", __name__)


@bp.get("/auth/link")
def show() -> Response:
    token = read_token()
    try:
        challenge = email_proof.look_at_link(token)
    except Denied as refusal:
        moves = challenges.is_for("change_email", token)
        return link_gone(refusal, "/auth", current_user.email if current_user else "", moves=moves)
    here = challenge.id in asked_here()
    metrics.LINKS_LOOKED_AT.labels("asker" if here else "other").inc()
    return page(
        "auth/link.html",
        json={"purpose": challenge.purpose, "here": here},
        token=token,
        here=here,
        purpose=challenge.purpose,
        asked=SimpleNamespace(
            browser=challenge.browser, place=challenge.ip, at=datetime.fromtimestamp(challenge.sent, UTC)
        ),
        other_account=guards.other_account(challenge.user_id),
    )


@bp.post("/auth/link")
@again(show)
def follow() -> Response:
    challenge = email_proof.by_link(read_token(), asked_here(), read("email"))
    return steps.after_proof_of_address(challenge)
