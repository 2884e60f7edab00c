"""Recording what happens: a row in the same transaction, then a signal that a site builder can hook into."""

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from blinker import ANY, NamedSignal
from flask import Response, after_this_request, current_app
from sqlalchemy import ColumnElement, insert, or_, select, update

from magicauth import metrics
from magicauth.extensions import Base, db, keyring
from magicauth.models import Action, AuditEvent, User
from magicauth.models.columns import new_id, now
from magicauth.visitor import Visitor

# By SQLAlchemy Core: the ORM would double the cost of a row that nobody reads again in this request.
_INSERT = insert(Base.metadata.tables[AuditEvent.__tablename__])

Receiver = TypeVar("Receiver", bound=Callable[..., Any])

log = logging.getLogger("magicauth.audit")


class Signal(NamedSignal):
    """Blinker's, but a receiver stays connected though nothing else holds it, such as one made inside a function."""

    def connect(self, receiver: Receiver, sender: Any = ANY, weak: bool = False) -> Receiver:
        """Calls `receiver` with the app and `user`, whenever it is sent."""
        return super().connect(receiver, sender, weak)


_SIGNALS = {action: Signal(action.value) for action in Action}

# Asked before it is done, which a receiver that raises stops. Before a deletion, in its transaction, all that the
# account takes along is still there; before an export a receiver returns what the site holds, by name.
before_deletion = Signal("user:before_deletion")
before_export = Signal("user:before_export")


def signal(action: Action) -> Signal:
    """The signal of an action, sent by the app after the commit with `user` (None for a stranger). A receiver that
    raises is logged; the others, and the request, go on."""
    return _SIGNALS[action]


def ask(question: Signal, user: User) -> list[Any]:
    """What the receivers answer. Raises what one of them does."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    return [app.ensure_sync(receiver)(app, user=user) for receiver in question.receivers_for(app)]


def commit(
    action: Action,
    visitor: Visitor,
    user: User | None = None,
    *,
    user_id: str = "",
    canonical_email: str = "",
    result: str = "ok",
    event_id: uuid.UUID | None = None,
    with_answer: bool = False,
) -> None:
    """Commits what the caller changed together with the row that tells of it, then sends the signal; `with_answer`
    when the view is done, whatever came of it, so that a receiver finds the session that it began. `event_id` where
    somebody waits for that row.

    `user_id` ("" for a stranger) and `canonical_email` where the row was not loaded: a stranger leaves the same trace,
    in the same statements.
    """
    subject_ = subject(user.canonical_email if user else canonical_email)
    row = {
        "id": event_id or new_id(),
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
    if not with_answer:
        _tell(action, user)
        return

    untold = [user]

    @after_this_request
    def tell_with_answer(response: Response) -> Response:
        # Flask comes here once more where something raises after it.
        while untold:
            _tell(action, untold.pop())
        return response


def _tell(action: Action, user: User | None) -> None:
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    for receiver in signal(action).receivers_for(app):
        try:
            app.ensure_sync(receiver)(app, user=user)
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
