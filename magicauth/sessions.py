"""Server-side sessions in Redis: Flask-Session's interface, with the holes of the stock class closed.

- The cookie's value is nowhere in Redis: the key is its SHA-256. Only msgpack is decoded, never a pickle.
- A session is written when it changed, a loaded one only over itself (`XX`) and a new one only where nothing is
  (`NX`): a request in flight cannot bring a revoked session back.
- Nothing is read before somebody asks: an anonymous visitor, a static file or a health check costs no Redis command.
"""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from flask import Flask, Request, Response, current_app, has_app_context
from flask import session as flask_session
from flask.sessions import SessionMixin
from flask_session.redis.redis import RedisSessionInterface
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from werkzeug.datastructures import Headers

from magicauth import cookies
from magicauth.crypto import digest
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import SignInRequired
from magicauth.extensions import compare_and_set, hung, redis
from magicauth.session_data import OURS, decode, encode, merged

# A session that is only read is written again, to slide its idle time, when this much has passed since it last was,
# or a quarter of the idle time if that is less.
_SLIDE_AFTER = 60
# Browsers keep no cookie longer than 400 days.
_COOKIE_LIFE = 400 * 86_400
_ID_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_PREFIX = "magicauth:session:"
# For so many seconds a sign-in that looked its user up before all his sessions were ended may still write one; the
# guards check any that are written later.
_ENDED_LIFE = 2 * _SLIDE_AFTER
# Of one account: a program that signs in anew each minute fills neither Redis nor the page that lists them.
_SESSIONS_MOST = 100
# Seconds that a session's next id is known to a sign-out that began under the one before.
_RENEWED_LIFE = 10

# What is stored, and what it says; None where there is no session.
Load = Callable[[str], tuple[bytes, dict[str, Any]] | None]


class Session(SessionMixin):
    """One browser's session. Loaded when it is first looked at; gets a new id when it is renewed.

    Keys while signed in: user_id, name, email, epoch, amr, auth_time, created, seen, remember, and what else a guarded
    page shows without SQL. A sign-in that is under way stands under `pending` and has no user_id.
    """

    def __init__(self, cookie: str | None, load: Load) -> None:
        self._cookie = cookie
        self._load = load
        self._data: dict[str, Any] | None = None
        self.modified = False
        self.accessed = False
        self.sid: str | None = None
        self.stored = b""
        self.replaced: str | None = None
        self.carried_on = False
        self.owner = ""
        # Called where what the request has put into it cannot be kept.
        self.if_lost: Callable[[], None] = lambda: None

    @property
    def data(self) -> dict[str, Any]:
        """What the store holds, loaded on first use."""
        if self._data is None:
            self.accessed = True
            # If the store is away, nothing is asked of it again: the page that says so is for a stranger.
            self._data = {}
            if found := self._load(self._cookie) if self._cookie else None:
                self.sid, (self.stored, self._data) = self._cookie, found
            self.owner = self._data.get("user_id", "")
        return self._data

    @property
    def has_cookie(self) -> bool:
        """Whether there may be anything to load."""
        return self._cookie is not None or self._data is not None

    @property
    def is_known(self) -> bool:
        """Whether this request has looked into it, and found something."""
        return bool(self._data)

    @property
    def has_ended(self) -> bool:
        """Whether a cookie came to which there is no session any more."""
        return self._cookie is not None and not self.data

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser's window: `keep me signed in`."""
        return bool(self.get("remember"))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        """Nothing: that was decided by whoever signed in, and no page of a site's own lengthens it."""

    @property
    def modified(self) -> bool:
        """Whether it is to be written. A site's view sets it where it changed what lies inside a value."""
        return self._modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified, self.only_slides = value, False

    def renew(self, *, carried_on: bool = True) -> None:
        """Gives the session a new id, and ends the old one, when it is next written. With `carried_on` nothing is kept
        if the old one was revoked during this request."""
        self.data  # noqa: B018  (what is renewed must be known)
        self.replaced = self.replaced or self.sid
        self.carried_on = carried_on
        self.sid = None
        self.modified = True

    def claim(self) -> bool:
        """Ends it under its id, now, for exactly one of all requests that try: that one goes on, under a new id."""
        if not redis().delete(_key(self.sid or "")):
            return False
        self.renew(carried_on=False)
        return True

    def end_renewed(self) -> None:
        """Ends what other requests of this browser have made of it, under new ids, since its cookie was sent."""
        names = [digest(self._cookie)] if self._cookie else []
        for name in names:
            for renewed in redis().smembers(_renewed_key(name)):
                user_id, _, store_id = renewed.decode().partition(".")
                revoke(user_id, store_id)
                names.append(store_id)

    def drop(self, name: str) -> Any:
        """What is magicauth's, shown now and as good shown again."""
        value = self.data.pop(name)
        self.slide()
        return value

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def keep(self, **ours: Any) -> None:
        """Writes what is magicauth's."""
        self.data.update(ours)
        self.modified = True

    def slide(self, **ours: Any) -> None:
        """Writes what is as good left as it was: when it was last seen, and what its page shows."""
        self.data.update(ours)
        only_slides = not self.modified or self.only_slides
        self.modified = True
        self.only_slides = only_slides

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            # Ours are stored as numbers: one of a site's would stand for who is signed in.
            raise TypeError(f"session[{key!r}]: names in a session are text.")
        if key in OURS:
            raise ValueError(f"session[{key!r}] is magicauth's own: take another name.")
        self.data[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        if key in OURS:
            raise ValueError(f"session[{key!r}] is magicauth's own: `session.clear()` signs out.")
        del self.data[key]
        self.modified = True

    def forget(self, *ours: str) -> None:
        """Takes out what is magicauth's, where it is there."""
        for name in self.data.keys() & ours:
            del self.data[name]
            self.modified = True

    def clear(self) -> None:
        """Takes out everything, which signs out: what is put into it afterwards is under another id."""
        if "user_id" in self.data:
            self.renew(carried_on=False)
        if self.data:
            self.data.clear()
            self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def put_back(sid: str, data: dict[str, Any]) -> None:
    """Writes what stood under a session's id when it was claimed, where nothing does again."""
    redis().set(_key(sid), encode(data), nx=True, ex=_life(data))


def this_session() -> Session:
    """The session of the current request, as what it is."""
    return cast(Session, flask_session)


class SessionInterface(RedisSessionInterface):  # type: ignore[misc]
    """Opens and saves sessions for Flask."""

    def __init__(self, app: Flask, client: Any) -> None:
        # The stock class takes nothing but `Redis` for a client and would put one of localhost in a Cluster's place.
        super().__init__(app, Redis(), key_prefix=_PREFIX, sid_length=_ID_BYTES)
        self.client = client

    def open_session(self, app: Flask, request: Request) -> Session:
        """The session of the request's cookie, not yet read."""
        cookie = request.cookies.get(app.config["SESSION_COOKIE_NAME"], "")
        return Session(cookie if _ID.fullmatch(cookie) else None, lambda sid: self._live(app, sid))

    def save_session(self, app: Flask, session: Session, response: Response) -> None:
        """Writes a session that changed, and its cookie where the id is new; if that fails the answer becomes the one
        that any view gives while Redis is away: nobody is told of a sign-in that was not kept."""
        if session.accessed:
            response.vary.add("Cookie")
        if not session.modified:
            return
        try:
            if hung():
                raise RedisTimeoutError
            self._save(app, session, response)
        except REDIS_IS_AWAY as error:
            if session.only_slides and not hung():
                # It was read a moment ago, and lasts as long as it did.
                return
            session.if_lost()
            _answer_instead(response, app.make_response(app.handle_user_exception(error)))
        except SignInRequired as refusal:
            _answer_instead(response, app.make_response(app.handle_user_exception(refusal)))

    def _save(self, app: Flask, session: Session, response: Response) -> None:
        ends_owners = bool(session.owner) and session.get("user_id") != session.owner
        if not session:
            self._end(session)
            # Not before: one that is being renewed just now finds its old id gone, or is found here.
            if ends_owners:
                session.end_renewed()
            cookies.take_back(response, app.config["SESSION_COOKIE_NAME"])
            return
        life = _life(session.data)
        if session.sid is not None:
            self._write_over(session, life)
            return
        session.sid = self._generate_sid(self.sid_length)
        if not self._write_new(session, life):
            # Whoever loses the race for the old one, to a sign-out or a revocation, must not bring it back anew.
            self._end(session)
            return
        if ends_owners:
            session.end_renewed()
        kept_for = min(_COOKIE_LIFE, _life_at_most(session.data)) if session.permanent else None
        cookies.give(response, app.config["SESSION_COOKIE_NAME"], session.sid, kept_for)

    def _write_over(self, session: Session, life: int) -> None:
        # Not if it was revoked while this request was under way. Its cookie opens nothing then, and is left: another
        # request of the same browser may have brought a new one.
        before = self.client.set(_key(session.sid or ""), encode(session.data), ex=life, xx=True, get=True)
        if before is not None:
            self._take_along(session, before)

    def _take_along(self, session: Session, before: bytes) -> None:
        """Adds to what was just written what another tab's request had put into the session since this one read it:
        `before` is what stood there then."""
        if before == session.stored:
            return
        read, theirs = decode(session.stored), decode(before)
        if read is not None and theirs is not None:
            compare_and_set([_key(session.sid or "")], encode(session.data), encode(merged(read, theirs, session.data)))

    def _live(self, app: Flask, sid: str) -> tuple[bytes, dict[str, Any]] | None:
        if hung():
            # The page that says so asks who reads it.
            raise RedisTimeoutError
        stored = self.client.get(_key(sid))
        data = decode(stored) if stored else None
        # Flask's test client looks into a session outside of any request.
        with contextlib.nullcontext() if has_app_context() else app.app_context():
            return (stored, data) if data is not None and is_live(data) else None

    def _write_new(self, session: Session, life: int) -> bool:
        """Writes it, and ends the one that it replaces. False if it carries on one that had ended already. Raises
        SignInRequired if every session of its user was ended since he was looked up."""
        signed_in = "user_id" in session
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set(_key(session.sid or ""), encode(session.data), ex=life, nx=True)
        if signed_in:
            _index(pipeline, session)
            pipeline.zrange(_index_key(session["user_id"]), 0, -_SESSIONS_MOST)
            pipeline.get(_ended_key(session["user_id"]))
        answers = pipeline.execute()
        if signed_in:
            first_to_end, last = answers[-2:]
            if session["epoch"] < int(last or 0):
                self._end(session)
                raise SignInRequired(reason="every session of the account was ended meanwhile")
            if len(first_to_end) > 1:
                _make_room(session, first_to_end)
        # Not before the new one stands: a Redis that is full still deletes, and one may die in between.
        return session.replaced is None or self._end_replaced(session, session.replaced)

    def _end_replaced(self, session: Session, replaced: str) -> bool:
        """Ends the one in whose place it comes. False if it carries that one on, and it had ended already."""
        carries_on = session.carried_on and "user_id" in session
        pipeline = self.client.pipeline(transaction=False)
        if carries_on:
            # First: a sign-out that finds the old one gone looks here.
            renewed = _renewed_key(digest(replaced))
            pipeline.sadd(renewed, f"{session['user_id']}.{digest(session.sid or '')}")
            pipeline.expire(renewed, _RENEWED_LIFE)
        self._delete(pipeline, replaced, session.owner)
        ended: bytes | None = pipeline.execute()[2 if carries_on else 0]
        if carries_on and ended is not None:
            self._take_along(session, ended)
        return ended is not None or not carries_on

    def _end(self, session: Session) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for sid, owner in ((session.sid, session.get("user_id", session.owner)), (session.replaced, session.owner)):
            if sid is not None:
                self._delete(pipeline, sid, owner)
        pipeline.execute()

    def _delete(self, pipeline: Any, sid: str, owner: str) -> None:
        pipeline.getdel(_key(sid))
        if owner:
            pipeline.zrem(_index_key(owner), digest(sid))


# What every answer has; all else says something of the one that is taken away, or of its body.
_OF_EVERY_ANSWER = re.compile(
    "content-security-policy|x-content-type-options|x-frame-options|cross-origin-.*|referrer-policy|permissions-policy"
    "|strict-transport-security|access-control-.*|vary"
)
_OF_A_REFUSAL = ("Content-Type", "Content-Length", "Retry-After", "Location")


def _answer_instead(response: Response, other: Response) -> None:
    response.status_code = other.status_code
    response.set_data(other.get_data())
    kept = [(name, value) for name, value in response.headers if _OF_EVERY_ANSWER.fullmatch(name.lower())]
    said = [(name, other.headers[name]) for name in _OF_A_REFUSAL if name in other.headers]
    response.headers = Headers([*kept, *said, ("Cache-Control", "no-store")])


@dataclass(frozen=True)
class Listed:
    """A live session as its owner sees it. `handle` names it in a form and opens nothing."""

    handle: str
    browser: str
    address: str
    created: datetime
    seen: datetime
    current: bool


def listed(user_id: str, epoch: int, current: Session | None = None) -> list[Listed]:
    """The live sessions of a user: the current one, then the latest used first."""
    here = digest(current.sid) if current is not None and current.sid else ""
    found = []
    for store_id, data in _stored(user_id):
        if data.get("user_id") == user_id and data.get("epoch") == epoch and is_live(data):
            found.append(
                Listed(
                    handle=store_id[:16],
                    browser=data.get("browser", ""),
                    address=data.get("ip", ""),
                    created=datetime.fromtimestamp(int(data["created"]), UTC),
                    seen=datetime.fromtimestamp(int(data["seen"]), UTC),
                    current=store_id == here,
                )
            )
    return sorted(found, key=lambda session: (session.current, session.seen), reverse=True)


def find(user_id: str, handle: str) -> str | None:
    """Where the user's session of that handle is stored, if there is one."""
    return next((store_id for store_id in _indexed(user_id) if store_id[:16] == handle), None)


def revoke(user_id: str, store_id: str) -> bool:
    """Ends a session of that user. False if it has ended already."""
    # In this order: a Redis that fails in between leaves it listed, and who presses again has ended it. Of two presses
    # at once one has.
    redis().delete(_PREFIX + store_id)
    return bool(redis().zrem(_index_key(user_id), store_id))


def revoke_all(user_id: str, epoch: int, but: Session | None = None) -> None:
    """Ends every session of a user but the one given. To raise the user's epoch, to `epoch`, is the caller's
    part, and done before."""
    # Before the sessions are listed: one that is just being written is listed already, or sees this.
    redis().set(_ended_key(user_id), epoch, ex=_ENDED_LIFE)
    kept = digest(but.sid) if but is not None and but.sid else ""
    pipeline = redis().pipeline(transaction=False)
    for store_id in _indexed(user_id):
        if store_id != kept:
            pipeline.delete(_PREFIX + store_id)
            pipeline.zrem(_index_key(user_id), store_id)
    pipeline.execute()


def is_live(data: dict[str, Any]) -> bool:
    """Whether idle and absolute time, or the time of a sign-in under way, have not run out."""
    return _ends_in(data) > 0


def is_due_to_slide(data: dict[str, Any]) -> bool:
    """Whether the session was last written so long ago that its idle time must slide."""
    return bool(time.time() - data["seen"] >= min(_SLIDE_AFTER, _idle(data) / 4))


def _life_at_most(data: dict[str, Any]) -> int:
    """Seconds until the session ends however much it is used."""
    return max(1, math.ceil(float(data["created"]) + _absolute(data) - time.time()))


def _absolute(data: dict[str, Any]) -> int:
    name = "MAGICAUTH_REMEMBER_ABSOLUTE" if data.get("remember") else "MAGICAUTH_SESSION_ABSOLUTE"
    return int(current_app.config[name])


def _idle(data: dict[str, Any]) -> int:
    name = "MAGICAUTH_REMEMBER_IDLE" if data.get("remember") else "MAGICAUTH_SESSION_IDLE"
    return int(current_app.config[name])


def _ends_in(data: dict[str, Any]) -> float:
    now = time.time()
    if "user_id" in data:
        return float(min(data["seen"] + _idle(data), data["created"] + _absolute(data)) - now)
    pending = float(data.get("pending", {}).get("until", 0) - now)
    # What a site's own pages keep for a stranger lives as long after it was written as a session that is not used.
    return max(pending, _idle(data)) if data.keys() - {"pending"} else pending


def _life(data: dict[str, Any]) -> int:
    # Redis counts whole seconds here; what it keeps too long is dead all the same.
    return max(1, math.ceil(_ends_in(data)))


def _index(pipeline: Any, session: Session) -> None:
    key, now = _index_key(session["user_id"]), time.time()
    pipeline.zadd(key, {digest(session.sid or ""): int(now + _life_at_most(session.data))})
    pipeline.zremrangebyscore(key, "-inf", int(now))
    # Its longest-lived member is at most this far from its end.
    pipeline.expire(
        key, current_app.config["MAGICAUTH_REMEMBER_ABSOLUTE"] + current_app.config["MAGICAUTH_SESSION_ABSOLUTE"]
    )


def _make_room(session: Session, first_to_end: list[bytes]) -> None:
    """Ends as many of the sessions that would be the first to end as the account has too many. This one stays; the one
    that it carries on goes anyway."""
    stay = {digest(sid) for sid in (session.sid, session.replaced) if sid}
    too_many = len(first_to_end) - 1 - (session.replaced is not None and session.owner == session["user_id"])
    others = [stored for member in first_to_end if (stored := member.decode()) not in stay]
    pipeline = redis().pipeline(transaction=False)
    for store_id in others[:too_many]:
        pipeline.delete(_PREFIX + store_id)
        pipeline.zrem(_index_key(session["user_id"]), store_id)
    pipeline.execute()


def _indexed(user_id: str) -> list[str]:
    return [member.decode() for member in redis().zrange(_index_key(user_id), 0, -1)]


def _stored(user_id: str) -> list[tuple[str, dict[str, Any]]]:
    store_ids = _indexed(user_id)
    pipeline = redis().pipeline(transaction=False)
    for store_id in store_ids:
        pipeline.get(_PREFIX + store_id)
    values = pipeline.execute() if store_ids else []
    return [
        (store_id, data)
        for store_id, value in zip(store_ids, values, strict=True)
        if value and (data := decode(value)) is not None
    ]


def _key(sid: str) -> str:
    return _PREFIX + digest(sid)


def _index_key(user_id: str) -> str:
    return f"magicauth:sessions-of:{user_id}"


def _ended_key(user_id: str) -> str:
    return f"magicauth:ended:{user_id}"


def _renewed_key(store_id: str) -> str:
    return f"magicauth:renewed:{store_id}"
