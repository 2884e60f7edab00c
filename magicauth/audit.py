"""Recording what happens: a row in the same transaction, then a signal that a site builder can hook into."""

import logging
import uuid
from collections.abc import Sequence

from blinker import NamedSignal, Namespace
from flask import current_app
from sqlalchemy import ColumnElement, insert, or_, select, update

from magicauth import metrics
from magicauth.extensions import Base, db, keyring
from magicauth.models import Action, AuditEvent, User
from magicauth.models.columns import now
from magicauth.visitor import Visitor

# By SQLAlchemy Core: the ORM would double the cost of a row that nobody reads again in this request.
_INSERT = insert(Base.metadata.tables[AuditEvent.__tablename__])

log = logging.getLogger("magicauth.audit")

_signals = Namespace()


def signal(action: Action) -> NamedSignal:
    """The Blinker signal of an action, sent by the app after the commit with `user` (None for a stranger). A receiver
    that raises is logged, and the request goes on."""
    return _signals.signal(action.value)


def commit(
    action: Action,
    visitor: Visitor,
    user: User | None = None,
    *,
    user_id: str = "",
    canonical_email: str = "",
    result: str = "ok",
) -> None:
    """Commits what the caller changed together with the row that tells of it, then sends the signal.

    `user_id` ("" for a stranger) and `canonical_email` where the row was not loaded: a stranger leaves the same trace,
    in the same statements.
    """
    subject_ = subject(user.canonical_email if user else canonical_email)
    row = {
        "at": now(),
        "action": action.value,
        "result": result,
        "user_id": user.id if user else uuid.UUID(user_id) if user_id else None,
        "subject": subject_,
        "ip": visitor.ip,
        "browser": visitor.browser,
    }
    db.session.execute(_INSERT, row)
    db.session.commit()
    metrics.EVENTS.labels(action.value, result).inc()
    log.info(action.value, extra={"result": result, "subject": subject_})
    try:
        signal(action).send(current_app._get_current_object(), user=user)  # type: ignore[attr-defined]
    except Exception:
        # It is done, and what follows must be done too: sessions that end, a link that is used up.
        log.exception("a receiver of the signal failed")
        db.session.rollback()


def subject(canonical_email: str) -> str:
    """The keyed hash that stands for an address."""
    return keyring().tag("audit", canonical_email)


def events_of(user_id: uuid.UUID, before: uuid.UUID | None, limit: int) -> Sequence[AuditEvent]:
    """The events of a user, the newest first; those before the event `before`."""
    query = select(AuditEvent).where(AuditEvent.user_id == user_id).order_by(AuditEvent.id.desc()).limit(limit)
    return db.session.scalars(query.where(AuditEvent.id < before) if before else query).all()


def latest(limit: int, *conditions: ColumnElement[bool], canonical_email: str = "") -> list[AuditEvent]:
    """The latest events that meet the conditions, the newest first. Of an address: those of the account that has it
    now too, under an earlier address and under an earlier secret key."""
    query = select(AuditEvent).where(*conditions).order_by(AuditEvent.id.desc()).limit(limit)
    if not canonical_email:
        return list(db.session.scalars(query))
    user = User.by_email(canonical_email)
    subjects = keyring().tags("audit", canonical_email)
    about = [*(AuditEvent.subject == one for one in subjects), *([AuditEvent.user_id == user.id] if user else [])]
    # A walk along an index each. Asked for both at once, PostgreSQL may walk through everybody's events for a few.
    found = {event.id: event for one in about for event in db.session.scalars(query.where(one))}
    return [found[event_id] for event_id in sorted(found, reverse=True)[:limit]]


def forget(user: User) -> None:
    """Takes what is personal out of the events of a user who goes, and of those of the address before there was an
    account: the keyed hash of the address stays."""
    subjects = keyring().tags("audit", user.canonical_email)
    theirs = or_(AuditEvent.subject.in_(subjects), AuditEvent.user_id == user.id)
    db.session.execute(update(AuditEvent).where(theirs).values(ip="", browser=""))
