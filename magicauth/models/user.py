"""People who have proven an address: the `users` table."""

import uuid
from collections import deque
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import String, Uuid, bindparam, event, select
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.local import LocalProxy

from magicauth.addresses import EMAIL_LENGTH
from magicauth.extensions import Base, db
from magicauth.models.columns import UtcDateTime, iso, new_id, now

NAME_LENGTH = 100
PHONE_LENGTH = 32


class User(Base):
    """Somebody who may sign in. `email` is how its owner writes it; `canonical_email` is the unique key."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    canonical_email: Mapped[str] = mapped_column(String(EMAIL_LENGTH), unique=True)
    email: Mapped[str] = mapped_column(String(EMAIL_LENGTH))
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), default="")
    phone: Mapped[str | None] = mapped_column(String(PHONE_LENGTH))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    is_admin: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(default=False)
    language: Mapped[str | None] = mapped_column(String(8))
    # Raised by whatever must end every session and open challenge, in the transaction that does it: a session whose
    # deletion Redis lost is still refused.
    session_epoch: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, onupdate=now)

    # Written only while the epoch is the one it was read under: of two changes at once one is refused, so that what a
    # thief has under way does not go over what its owner has just done (StaleDataError).
    __mapper_args__ = {"version_id_col": session_epoch, "version_id_generator": False}

    def __init__(self, **fields: Any) -> None:
        moment = now()
        super().__init__(**({"id": new_id(), "created_at": moment, "updated_at": moment} | fields))

    @property
    def has_password(self) -> bool:
        """Whether a sign-in to this account asks for a password."""
        return self.password_hash is not None and current_app.config["MAGICAUTH_PASSWORDS"] != "off"

    def stands(self, epoch: int) -> bool:
        """Whether what was issued under that epoch still counts: the account is in use, nothing has ended it all."""
        return not self.disabled and self.session_epoch == epoch

    @classmethod
    def by_email(cls, canonical_email: str) -> "User | None":
        """The user of that address."""
        found = db.session.scalar(_BY_EMAIL, {"canonical_email": canonical_email})
        if found is None:
            _work_as_for_a_row()
        return found

    @classmethod
    def by_id(cls, user_id: str) -> "User | None":
        """The user with the id `user_id` (32 hex digits)."""
        found = db.session.get(cls, uuid.UUID(user_id))
        if found is None:
            _work_as_for_a_row()
        return found


def _work_as_for_a_row() -> None:
    # The time of an answer must not tell who has an account.
    User(canonical_email="", email="")


# Built once: building it costs as much as running it.
_BY_EMAIL = select(User).where(User.canonical_email == bindparam("canonical_email"))


@event.listens_for(User, "load")
def _keep(user: User, context: Any) -> None:
    """SQLAlchemy forgets a row as soon as nobody holds it: a request that comes back to its user need not ask again."""
    context.session.info.setdefault("users", deque(maxlen=8)).append(user)


def as_json(user: Any) -> dict[str, Any]:
    """What programs see of a user (a row, or the current one): never a password hash."""
    if isinstance(user, LocalProxy):
        # It would look for whom it stands at each attribute.
        user = user._get_current_object()
    return {
        "id": str(user.id),
        "name": user.name,
        "email": user.email,
        "phone": user.phone,
        "created_at": iso(user.created_at),
        "updated_at": iso(user.updated_at),
    }
