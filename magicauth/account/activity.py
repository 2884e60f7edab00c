"""`/account/activity`: what happened in the account, for its owner."""

import uuid

from flask import Blueprint, Response

from magicauth import audit
from magicauth.guards import current_user, login_required
from magicauth.models import WORDS, AuditEvent, iso
from magicauth.reader import read_query_leniently
from magicauth.respond import page

PAGE_SIZE = 50

bp = Blueprint("activity", __name__)


@bp.get("/account/activity")
@login_required
def show() -> Response:
    events = audit.events_of(current_user.id, _before(read_query_leniently("before")), PAGE_SIZE + 1)
    shown = events[:PAGE_SIZE]
    older = f"/account/activity?before={shown[-1].id.hex}" if len(events) > PAGE_SIZE else None
    return page(
        "account/activity.html",
        json={"events": [event_as_json(event) for event in shown], "next": older},
        events=[_for_page(event) for event in shown],
        next=older,
    )


def event_as_json(event: AuditEvent) -> dict[str, object]:
    """What programs see of an event."""
    return {
        "at": iso(event.at),
        "action": event.action,
        "result": event.result,
        "address": event.ip,
        "browser": event.browser,
    }


def _for_page(event: AuditEvent) -> dict[str, object]:
    # None where a newer release, which was taken back, knew more.
    return event_as_json(event) | {"at": event.at, "words": WORDS.get(event.action)}


def _before(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(hex=text) if text else None
    except ValueError:
        return None
