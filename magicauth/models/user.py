"""People who have proven an address: the `users` table."""

import secrets
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any

from email_validator import EmailNotValidError, validate_email
from flask import current_app
from sqlalchemy import DateTime, Dialect, String, Uuid, bindparam, event, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator
from werkzeug.local import LocalProxy

from magicauth.errors import N_, Invalid
from magicauth.extensions import Base, db

EMAIL_LENGTH = 254
NAME_LENGTH = 100
PHONE_LENGTH = 32


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware in Python on every database (SQLite forgets the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def new_id() -> uuid.UUID:
    """A UUID of version 7 (RFC 9562) with a sub-millisecond fraction: ids ascend by creation, and none comes twice."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = (milliseconds << 80) | (7 << 76) | (fraction << 64) | (0b10 << 62) | secrets.randbits(62)
    return uuid.UUID(int=value)


def first_id(moment: datetime) -> uuid.UUID:
    """The lowest id that `new_id` may make from that moment on: what came later is found by the key, without an index
    of its own."""
    return uuid.UUID(int=round(moment.timestamp() * 1000) << 80)


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


class User(Base):
    """Somebody who may sign in. `email` is how its owner writes it; `canonical_email` is the unique key."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
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
        super().__init__(**({"created_at": moment, "updated_at": moment} | fields))

    @property
    def has_password(self) -> bool:
        """Whether a sign-in to this account asks for a password."""
        return self.password_hash is not None and current_app.config["MAGICAUTH_PASSWORDS"] != "off"

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
    User(id=new_id(), canonical_email="", email="")


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


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, ending in `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_email(typed: str) -> tuple[str, str]:
    """The canonical form of an address (the unique key) and the form it was typed in, without surrounding space.

    Raises Invalid. The local part is ASCII, so that no two addresses look alike; no display name, no second address.
    """
    # Space around it is pasted by accident; a line break, even there, would write headers, and is not forgiven.
    typed = typed.strip(" \u00a0\u3000")
    if not typed:
        raise Invalid(N_("Email required."), errors={"email": [N_("Email required.")]})
    try:
        # Before the parser sees it, whose view of such characters may differ.
        if not typed.isprintable() or len(typed) > EMAIL_LENGTH:
            raise EmailNotValidError
        development = current_app.config["MAGICAUTH_MODE"] == "development"
        localhost = development and typed.lower().endswith("@localhost")
        address = validate_email(
            f"{typed}.test" if localhost else typed,
            allow_smtputf8=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            strict=True,
            check_deliverability=False,
            test_environment=development,
        )
    except (EmailNotValidError, UnicodeError):
        raise Invalid(N_("Email is invalid."), errors={"email": [N_("Email is invalid.")]}) from None
    domain = "localhost" if localhost else address.ascii_domain.lower()
    return f"{address.local_part.lower()}@{domain}", f"{address.local_part}@{domain}"


def canonical_for_counting(email: str) -> str:
    """`email` with `+tag`, and Gmail's dots, folded away: for counting only, never for finding an account."""
    local, _, domain = email.rpartition("@")
    local = local.partition("+")[0] or local
    if domain in ("gmail.com", "googlemail.com"):
        local, domain = local.replace(".", "") or local, "gmail.com"
    return f"{local}@{domain}"
