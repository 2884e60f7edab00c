"""Deleting an account: what is personal goes; the audit keeps a keyed hash."""

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy import delete as delete_from
from sqlalchemy.orm.exc import StaleDataError

from magicauth import audit, challenges, mail, sessions
from magicauth.addresses import parse_email
from magicauth.errors import N_, Invalid
from magicauth.extensions import db
from magicauth.models import Action, User
from magicauth.models.columns import new_id
from magicauth.visitor import Visitor


def confirm(user: User, typed_email: str) -> None:
    """Whether the owner means it: the address must be typed. Raises Invalid."""
    if parse_email(typed_email)[0] != user.canonical_email:
        raise Invalid(errors={"email": [N_("Type the address of this account.")]})


def delete(user: User, visitor: Visitor, *, by_owner: bool) -> None:
    """Deletes the account and ends its sessions; a letter says so, and whose doing it was."""
    user_id, above_every_epoch, event_id = user.id.hex, user.session_epoch + 1, new_id()
    _require_as_read(user)
    audit.ask(audit.before_deletion, user)
    # Before: nobody could be told afterwards. It goes out when the account is gone.
    mail.about_account(
        "account_deleted", user.email, visitor, user.language or "", event=event_id.hex, by_owner=by_owner
    )
    _delete_row(user)
    audit.forget(user)
    # Nothing that is the owner's stays; that an operator did it is none of it.
    doer = replace(visitor, ip="", browser="") if by_owner else visitor
    audit.commit(Action.DELETED, doer, user, event_id=event_id)
    sessions.revoke_all(user_id, above_every_epoch)
    # They open nothing any more, and hold the address.
    challenges.void_change(user_id)
    challenges.void_sent_warnings(user_id)


def _require_as_read(user: User) -> None:
    # Else a site would be asked in vain. Without a lock, for which it might wait itself; in a transaction of its own:
    # on SQLite the one that has read the row sees no later change.
    with db.engine.connect() as connection:
        if connection.scalar(select(User.id).where(*_as_read(user))) is None:
            raise _changed()


def _delete_row(user: User) -> None:
    # By a statement: the ORM would first cut a site's rows loose from their user, where a relationship leads to them,
    # and what `ON DELETE CASCADE` was to take along would stay.
    done: Any = db.session.execute(delete_from(User).where(*_as_read(user)))
    if not done.rowcount:
        raise _changed()


def _as_read(user: User) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return User.id == user.id, User.session_epoch == user.session_epoch


def _changed() -> StaleDataError:
    return StaleDataError(f"'{User.__tablename__}': changed, or deleted, meanwhile")
