"""Who is signed in, and the guards of pages."""

import functools
import time
import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from flask import abort, after_this_request, current_app, g, session
from werkzeug.local import LocalProxy

from magicauth import sessions, visitor, wanted
from magicauth.errors import Denied, FreshSignInRequired, OtherAccount, SignInRequired
from magicauth.models import User
from magicauth.pending import drop_pending
from magicauth.reader import is_shown_for
from magicauth.session_data import of_the_site

P = ParamSpec("P")
R = TypeVar("R")

# What `_facts` puts into a session.
_FACTS = frozenset(("name", "email", "phone", "admin", "has_password", "language", "joined", "updated"))


class CurrentUser:
    """The user who is signed in. What the session holds costs no SQL; any other attribute loads the row, once. To
    change something is for `row`."""

    id: uuid.UUID
    name: str
    email: str
    phone: str | None
    is_admin: bool
    has_password: bool
    language: str | None
    created_at: datetime
    updated_at: datetime
    _user_id: str
    _epoch: int

    def __init__(self, data: dict[str, Any]) -> None:
        vars(self).update(
            id=uuid.UUID(data["user_id"]),
            name=data["name"],
            email=data["email"],
            phone=data["phone"],
            is_admin=data["admin"],
            has_password=data["has_password"],
            language=data["language"],
            created_at=_moment(data["joined"]),
            updated_at=_moment(data["updated"]),
            _user_id=data["user_id"],
            _epoch=data["epoch"],
        )

    @functools.cached_property
    def row(self) -> User:
        """The row of the database. Raises SignInRequired if the account is gone or has ended this session: one that
        Redis failed to forget must not change anything, nor be renewed under the new epoch."""
        row = User.by_id(self._user_id)
        if row is None or not row.stands(self._epoch):
            raise SignInRequired(reason="account gone or disabled, or session ended")
        return row

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Nothing would keep it. Change current_user.row.{name}, and commit.")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "row":
            raise AttributeError(name)
        return getattr(self.row, name)


def login_required(view: Callable[P, R]) -> Callable[P, R]:
    """Lets only those in who are signed in; a browser comes back after signing in. Raises SignInRequired."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _require_user()
        return _run(view, *args, **kwargs)

    guarded.guard = "login_required"  # type: ignore[attr-defined]
    return guarded


def fresh_sign_in_required(view: Callable[P, R]) -> Callable[P, R]:
    """Lets only those in who signed in, or said again who they are, within MAGICAUTH_FRESH_FOR seconds."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _require_user()
        if not is_fresh():
            wanted.keep()
            raise FreshSignInRequired
        return _run(view, *args, **kwargs)

    guarded.guard = "fresh_sign_in_required"  # type: ignore[attr-defined]
    return guarded


def admin_required(view: Callable[P, R]) -> Callable[P, R]:
    """Lets only administrators in, by what the database says now. Raises SignInRequired or Denied."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _require_user().row.is_admin:
            raise Denied(reason="not an administrator")
        return _run(view, *args, **kwargs)

    guarded.guard = "admin_required"  # type: ignore[attr-defined]
    return guarded


def passwords_in_use() -> None:
    """Without passwords there is none to choose, change or forget (404)."""
    if current_app.config["MAGICAUTH_PASSWORDS"] == "off":
        abort(404)


def start_session(user: User, proofs: Collection[str], *, remember: bool = False) -> None:
    """Signs this browser in as `user`, under a new session id; a session that was open here ends. What a site's pages
    kept for the stranger goes along, what they kept for another user does not."""
    asking, now = visitor.visitor(), round(time.time(), 3)
    kept = {} if "user_id" in session else of_the_site(session)
    session.clear()
    session.update(kept)
    sessions.this_session().keep(
        **_facts(user),
        user_id=user.id.hex,
        epoch=user.session_epoch,
        amr=sorted(proofs),
        auth_time=now,
        created=now,
        seen=now,
        remember=remember,
        browser=asking.browser,
        ip=asking.ip,
    )
    sessions.this_session().renew(carried_on=False)
    g._magicauth_current_user = CurrentUser(sessions.this_session().data)
    _know_device(user)


def is_fresh() -> bool:
    """Whether who is signed in has said who it is within MAGICAUTH_FRESH_FOR seconds."""
    return bool(time.time() - session["auth_time"] <= current_app.config["MAGICAUTH_FRESH_FOR"])


def freshen(proof: str) -> None:
    """Makes the sign-in fresh again, under a new session id."""
    here = sessions.this_session()
    here.forget("confirming")
    here.keep(auth_time=round(time.time(), 3), amr=sorted({*session["amr"], proof}))
    here.renew()


def other_account(user_id: str) -> str | None:
    """The address of the account that is signed in here, if it is another than that of `user_id`."""
    return current_user.email if current_user and session["user_id"] != user_id else None


def refresh_facts(user: User) -> None:
    """Brings what the session shows of its user up to date, where it changed."""
    facts = _facts(user)
    if not facts.items() <= sessions.this_session().data.items():
        sessions.this_session().keep(**facts)
        g.pop("_magicauth_current_user", None)


def continue_session(user: User) -> None:
    """Lets this session, under a new id, outlive a change that ended all others, and every open question."""
    refresh_facts(user)
    drop_pending()
    here = sessions.this_session()
    here.keep(epoch=user.session_epoch)
    here.renew()
    _know_device(user)


def known_user() -> CurrentUser | None:
    """Who is signed in, for what a page shows: by the session alone, so that a page says who reads it even while the
    database is away. Never a guard."""
    if "_magicauth_current_user" not in g and sessions.this_session().has_cookie:
        data = sessions.this_session().data
        return CurrentUser(data) if "user_id" in data and data.keys() >= _FACTS else None
    return _unless_cleared(g.get("_magicauth_current_user"))


def end_session() -> None:
    """Signs this browser out: its session is destroyed on the server. What is kept in it afterwards begins anew."""
    session.clear()
    if sessions.this_session().sid is not None:
        sessions.this_session().renew(carried_on=False)
    g._magicauth_current_user = None


def chosen_language() -> str | None:
    """The language that the account of this session has chosen; asks nobody for a visitor without one."""
    language: str | None = session.get("language") if sessions.this_session().has_cookie else None
    return language


def _run(view: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    # As Flask would run it: one of a site's own may be `async`.
    ran: R = current_app.ensure_sync(view)(*args, **kwargs)
    return ran


def _know_device(user: User) -> None:
    email, epoch = user.canonical_email, user.session_epoch

    @after_this_request
    def remember_device(response: Any) -> Any:
        visitor.remember_device(response, email, epoch)
        return response


def _require_user() -> CurrentUser:
    user = _signed_in()
    if user is None:
        raise SignInRequired
    if not is_shown_for(user.id.hex):
        raise OtherAccount
    return user


def _signed_in() -> CurrentUser | None:
    if "_magicauth_current_user" not in g:
        is_good = "user_id" in session and _still_good()
        g._magicauth_current_user = CurrentUser(sessions.this_session().data) if is_good else None
    return _unless_cleared(g._magicauth_current_user)


def _unless_cleared(user: CurrentUser | None) -> CurrentUser | None:
    # By a site's view, since it was looked up.
    return user if user is None or "user_id" in session else None


def _still_good() -> bool:
    # Redis may have lost the deletion of a session in a failover; the database has not forgotten the epoch. An earlier
    # release may have begun the session, without a fact that this one shows.
    data = sessions.this_session().data
    if data.keys() >= _FACTS and not sessions.is_due_to_slide(data):
        return True
    user = User.by_id(session["user_id"])
    if user is None or not user.stands(session["epoch"]):
        session.clear()
        return False
    sessions.this_session().slide(**_facts(user), seen=round(time.time(), 3))
    return True


def _facts(user: User) -> dict[str, Any]:
    """What pages show of a user without SQL."""
    return {
        "name": user.name,
        "email": user.email,
        "phone": user.phone,
        "admin": user.is_admin,
        "has_password": user.has_password,
        "language": user.language,
        "joined": _microseconds(user.created_at),
        "updated": _microseconds(user.updated_at),
    }


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


current_user: CurrentUser = LocalProxy(_signed_in)  # type: ignore[assignment]
