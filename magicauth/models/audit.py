"""What happened to accounts: the `audit` table. Rows are added to it; only `audit.forget` changes any."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, String, Uuid, select
from sqlalchemy.orm import Mapped, mapped_column

from magicauth.errors import N_
from magicauth.extensions import Base, db
from magicauth.models.columns import UtcDateTime, new_id


class Action(StrEnum):
    """Everything that is recorded. The values are stored: they are never renamed."""

    SIGNED_UP = "user:signed_up"
    SIGNED_IN = "user:signed_in"
    SIGN_IN_REFUSED = "user:sign_in:refused"
    SIGNED_OUT = "user:signed_out"
    CONFIRMED = "user:confirmed"
    CODES_USED_UP = "user:codes:used_up"
    PROFILE_CHANGED = "user:profile:changed"
    PASSWORD_CHANGED = "user:password:changed"  # noqa: S105
    PASSWORD_RESET = "user:password:reset"  # noqa: S105
    EMAIL_CHANGED = "user:email:changed"
    EMAIL_CHANGE_UNDONE = "user:email:undone"
    SESSION_ENDED = "user:session:ended"
    SESSIONS_ENDED = "user:sessions:ended"
    NOT_ME = "user:not_me"
    EXPORTED = "user:exported"
    DELETED = "user:deleted"
    INVITED = "operator:invited"
    CREATED = "operator:user:created"
    DISABLED = "operator:user:disabled"
    ENABLED = "operator:user:enabled"
    PROMOTED = "operator:user:promoted"
    DEMOTED = "operator:user:demoted"


# How an account's owner reads it.
WORDS: Mapping[str, str] = {
    Action.SIGNED_UP: N_("Account made"),
    Action.SIGNED_IN: N_("Signed in"),
    Action.SIGN_IN_REFUSED: N_("Sign-in refused"),
    Action.SIGNED_OUT: N_("Signed out"),
    Action.CONFIRMED: N_("Confirmed it was you"),
    Action.CODES_USED_UP: N_("Wrong codes after the right password"),
    Action.PROFILE_CHANGED: N_("Profile changed"),
    Action.PASSWORD_CHANGED: N_("Password changed"),
    Action.PASSWORD_RESET: N_("New password chosen after it was forgotten"),
    Action.EMAIL_CHANGED: N_("Email address changed"),
    Action.EMAIL_CHANGE_UNDONE: N_("Change of email address undone"),
    Action.SESSION_ENDED: N_("One session ended"),
    Action.SESSIONS_ENDED: N_("Other sessions ended"),
    Action.NOT_ME: N_("Reported as not you: all sessions ended"),
    Action.EXPORTED: N_("Data exported"),
    Action.DELETED: N_("Account deleted"),
    Action.INVITED: N_("Invited by an operator"),
    Action.CREATED: N_("Account made by an operator"),
    Action.DISABLED: N_("Account disabled by an operator"),
    Action.ENABLED: N_("Account enabled by an operator"),
    Action.PROMOTED: N_("Made an administrator"),
    Action.DEMOTED: N_("No longer an administrator"),
}


class AuditEvent(Base):
    """One thing that happened. `subject` is a keyed hash of the address, which outlives the account; `result` is "ok"
    or why it was refused. Never a code, token, password or session id."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_user_id_id", "user_id", "id"),
        Index("ix_audit_subject_id", "subject", "id"),
        Index("ix_audit_action_id", "action", "id"),
        # In PostgreSQL without what went well, nine events in ten: its revision says so. Said here, every process would
        # load that dialect before its first answer.
        Index("ix_audit_result_id", "result", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    action: Mapped[str] = mapped_column(String(40))
    result: Mapped[str] = mapped_column(String(40))
    user_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    subject: Mapped[str] = mapped_column(String(22))
    ip: Mapped[str] = mapped_column(String(45))
    browser: Mapped[str] = mapped_column(String(60))

    @classmethod
    def stands(cls, event_id: uuid.UUID) -> bool:
        """Whether the event of that id is committed, and with it what it tells of."""
        return db.session.scalar(select(cls.id).where(cls.id == event_id)) is not None
