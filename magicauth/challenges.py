"""Challenges: open questions with one purpose, answered once, by the mailed code or the link of the same letter.

A challenge is one Redis hash whose TTL is its life. Nothing in it signs anybody in: code and link are derived from
its id under SECRET_KEY (crypto.py), so a dump of Redis, of the queue or of the logs opens nothing.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from flask import current_app

from magicauth import crypto
from magicauth.extensions import Script, keyring, redis
from magicauth.stored import known

Purpose = Literal["sign_in", "sign_up", "reset", "change_email", "fresh", "undo_email", "not_me"]

# Seconds that a letter of warning, and the way back from a changed address, are good.
WARNING_TTL = 72 * 3600
# Seconds that a change of address is known to be under way, at least, after its letter was asked for.
CHANGE_LIFE = 24 * 3600
# Seconds that an end is known to have been taken back: longer than that is tried.
_REOPENED_LIFE = 120
# Seconds that another machine's clock may be ahead. A letter from further in the future was sent before a clock was put
# back.
_AHEAD_MOST = 60
# Addresses that may be typed at one link in a browser that did not ask for it.
ADDRESS_ATTEMPTS = 5

# Made with its life in one step: a challenge without a TTL would be good for ever.
_issue = Script("""
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
""")
# If the key exists it was never ended, or is reopened already: writing it again would reset its count of guesses.
_reissue = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
""")
# Counts before anything is compared, so that of a hundred parallel guesses only as many are looked at as are allowed.
# Gone and spent look alike: -1.
_count = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
return math.max(-1, tonumber(ARGV[2]) - redis.call('HINCRBY', KEYS[1], ARGV[1], 1))
""")
# Returns the whole hash, so that `reopen` can restore it exactly, with every guess made until then. Where Redis is full
# the first line is refused, as DEL is not: what the answer leads to could not be kept, nor could it be reopened.
_take = Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'attempts', 0) end
local kept = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
return kept
""")
# Decides and marks in one step, so that two presses of the button send one letter. Returns {send number, 0},
# {0, seconds to wait} or {-1, 0} for a challenge that is gone or spent. A letter on its way must not outlive its code,
# so its life begins anew.
_resend = Script("""
local asked = redis.call('HMGET', KEYS[1], 'sent', 'attempts')
if not asked[1] or tonumber(asked[2]) >= tonumber(ARGV[4]) then return {-1, 0} end
local wait = tonumber(asked[1]) + tonumber(ARGV[2]) - tonumber(ARGV[1])
if wait > 0 and wait < tonumber(ARGV[2]) + tonumber(ARGV[5]) then return {0, math.ceil(wait)} end
redis.call('HSET', KEYS[1], 'sent', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {redis.call('HINCRBY', KEYS[1], 'sends', 1), 0}
""")
# The clock of a code starts when the mail server has its letter; once for each letter, however often it is tried.
_handed_over = Script("""
local handed = redis.call('HGET', KEYS[1], 'handed')
if handed and tonumber(handed) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'handed', ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
""")
_forget_change = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
""")
# One that is over is not made again.
_follow = Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'followed', ARGV[1]) end
""")


@dataclass(frozen=True)
class Challenge:
    """An open question. `email` is where its letters go; `user_id` is "" for a stranger; `epoch` is the user's
    `session_epoch` when it was issued. `sent` (last) and `began` are seconds since 1970; `handed` the last letter the
    mail server took, `followed` the last that led to a challenge of its own; `language` what the account has chosen for
    its letters, "" to write as the one who asks reads."""

    id: str
    purpose: Purpose
    email: str
    user_id: str = ""
    epoch: int = 0
    attempts: int = 0
    opens: int = 0
    sends: int = 1
    handed: int = 0
    followed: int = 0
    sent: float = 0.0
    began: float = 0.0
    ip: str = ""
    device: str = ""
    browser: str = ""
    language: str = ""
    next: str = ""

    @property
    def code(self) -> str:
        """The digits that answer it."""
        return keyring().code(self.purpose, self.id, current_app.config["MAGICAUTH_CODE_DIGITS"])

    @property
    def token(self) -> str:
        """The link token that answers it."""
        return keyring().token(self.purpose, self.id)

    @property
    def is_open(self) -> bool:
        """Whether a code may still be typed."""
        return self.attempts_left > 0

    @property
    def on_its_way_for(self) -> float:
        """Seconds that its last letter still counts as on its way; 0 or less if it does no more."""
        after: int = current_app.config["MAGICAUTH_RESEND_AFTER"]
        wait = self.sent + after - time.time()
        return wait if wait < after + _AHEAD_MOST else 0.0

    @property
    def attempts_left(self) -> int:
        """Codes that may still be typed."""
        return max(0, int(current_app.config["MAGICAUTH_CODE_ATTEMPTS"]) - self.attempts)


def ttl(purpose: Purpose) -> int:
    """Seconds that a challenge of `purpose` lives."""
    config = current_app.config
    lives = {
        "sign_up": config["MAGICAUTH_SIGN_UP_TTL"],
        "reset": config["MAGICAUTH_RESET_TTL"],
        "undo_email": WARNING_TTL,
        "not_me": WARNING_TTL,
    }
    return int(lives.get(purpose, config["MAGICAUTH_SIGN_IN_TTL"]))


def issue(purpose: Purpose, email: str, challenge_id: str = "", **fields: Any) -> Challenge:
    """Opens a challenge; under that id, if it was promised before."""
    now = round(time.time(), 3)
    challenge = Challenge(challenge_id or keyring().new_id(), purpose, email, **({"sent": now, "began": now} | fields))
    _issue([_key(challenge.id)], ttl(purpose), *_fields(challenge))
    return challenge


def follow_up(first: Challenge, send: int, purpose: Purpose, email: str, **fields: Any) -> Challenge | None:
    """Opens the challenge to which letter number `send` of the `first` one leads. Its id follows from the other's: a
    letter that is written twice carries the same link, and so does the next while that is good. None if it was
    answered, or has expired, before the second."""
    before = _followed(first, min(send, first.followed), purpose)
    if first.followed >= send:
        return before
    # A link works once: what was answered, mistyped too often or ended with its account's epoch is not opened again.
    is_good = (
        before is not None and before.opens < ADDRESS_ATTEMPTS and before.epoch == fields.get("epoch", before.epoch)
    )
    challenge_id = before.id if before and is_good else _following_id(first, send if first.followed else 1, purpose)
    of_the_first = {name: getattr(first, name) for name in ("ip", "device", "browser", "next", "sent", "began")}
    # Letters that an earlier one was answered for cost nobody anything any more.
    sends = send - first.followed + (before.sends if before and is_good else 0)
    challenge = issue(purpose, email, challenge_id, sends=sends, **of_the_first, **fields)
    _follow([_key(first.id)], send)
    return challenge


def _followed(first: Challenge, send: int, purpose: Purpose) -> Challenge | None:
    """What the letters up to that one led to last, if it is open."""
    following = (get(_following_id(first, number, purpose)) for number in range(send, 0, -1))
    return next(filter(None, following), None)


def _following_id(first: Challenge, send: int, purpose: Purpose) -> str:
    return keyring().derived_id(purpose, first.id if send == 1 else f"{first.id}/{send}")


def get(challenge_id: str) -> Challenge | None:
    """The challenge, or None once it is answered or expired. Its guesses may be spent all the same."""
    stored = redis().hgetall(_key(challenge_id)) if keyring().knows(challenge_id) else {}
    return _read(challenge_id, stored) if stored else None


def attempt(challenge: Challenge, typed: str) -> tuple[bool, int]:
    """Spends one guess and compares: (right, guesses left), or (False, -1) if there was none to spend.

    Digits are ASCII (`isdigit` takes others); a stranger's challenge has no right code. Right is not yet redeemed.
    """
    allowed = current_app.config["MAGICAUTH_CODE_ATTEMPTS"]
    left = int(_count([_key(challenge.id)], "attempts", allowed))
    right = crypto.equal(typed, challenge.code)
    return right and left >= 0 and challenge.user_id != "", left


def open_link(token: str, purposes: Collection[Purpose]) -> Challenge | None:
    """The challenge that `token` answers, if it is genuine, open and of one of `purposes`. Changes nothing."""
    challenge = get(crypto.id_in(token) or "")
    if challenge is None or challenge.purpose not in purposes or challenge.opens >= ADDRESS_ATTEMPTS:
        return None
    return challenge if keyring().verify_token(challenge.purpose, token) else None


def is_for(purpose: Purpose, token: str) -> bool:
    """Whether `token` is, or was, a link of that purpose."""
    return keyring().verify_token(purpose, token)


def attempt_address(challenge: Challenge, email: str) -> bool:
    """Spends one of the addresses that may be typed at a link, apart from the codes, and compares."""
    left = int(_count([_key(challenge.id)], "opens", ADDRESS_ATTEMPTS))
    return left >= 0 and crypto.equal(email, challenge.email.lower())


def redeem(challenge: Challenge) -> bool:
    """Ends the challenge. True for exactly one of all who try: only that one goes on."""
    return take(challenge) is not None


def take(challenge: Challenge) -> Challenge | None:
    """Ends the challenge, as `redeem` does, for one who may have to `reopen` it: how it stood at its end, or None."""
    stored = _take([_key(challenge.id)])
    return _read(challenge.id, dict(zip(stored[::2], stored[1::2], strict=True))) if stored else None


def reopen(challenge: Challenge, end: str) -> None:
    """Takes its end back, with a new life, where what it was to lead to could not be done and nobody got in by it: once
    for each `end` (any name of it), though Redis should lose an answer. It may have been used, and ended, since."""
    if not redis().set(f"magicauth:reopened:{end}", 1, nx=True, ex=_REOPENED_LIFE):
        return
    _reissue([_key(challenge.id)], ttl(challenge.purpose), *_fields(challenge))
    if challenge.purpose == "change_email" and redis().get(_change_key(challenge.user_id)) != challenge.id.encode():
        # Its owner has ended it while it was being answered. Looked at afterwards: he may be ending it just now.
        redis().delete(_key(challenge.id))


def resend(challenge: Challenge) -> tuple[Challenge | None, int]:
    """Marks that its letter goes out again: (challenge, 0), (None, seconds to wait), or (None, 0) if gone or spent."""
    config = current_app.config
    sends, wait = _resend(
        [_key(challenge.id)],
        round(time.time(), 3),
        config["MAGICAUTH_RESEND_AFTER"],
        ttl(challenge.purpose),
        config["MAGICAUTH_CODE_ATTEMPTS"],
        _AHEAD_MOST,
    )
    return (replace(challenge, sends=int(sends)) if sends > 0 else None), int(wait)


def handed_over(challenge: Challenge, send: int) -> None:
    """Starts the clock of the challenge: the mail server has taken letter number `send`."""
    _handed_over([_key(challenge.id)], send, ttl(challenge.purpose))


def remember_warning(challenge: Challenge) -> None:
    """Notes that the letter of a warning, or of a way back, has gone to its user, for `void_warnings`."""
    key = _warnings_key(challenge.user_id)
    pipeline = redis().pipeline(transaction=False)
    pipeline.zadd(key, {challenge.id: challenge.sent})
    pipeline.zremrangebyscore(key, "-inf", challenge.sent - WARNING_TTL)
    pipeline.expire(key, WARNING_TTL)
    pipeline.execute()


def remember_change(challenge: Challenge, user_id: str) -> None:
    """Notes the change of address that a user has under way, for `void_change`; one at a time: an earlier one ends."""
    key = _change_key(user_id)
    # Before the swap too: whose answer is lost takes the earlier one's name along.
    if noted := redis().get(key):
        redis().delete(_key(noted.decode()))
    # Swapped in one step: of two that are begun at once, each ends the one whose place it takes.
    earlier = redis().set(key, challenge.id, ex=_change_life(), get=True)
    if earlier and earlier != noted:
        redis().delete(_key(earlier.decode()))


def renew_change(user_id: str) -> None:
    """Notes it for as long again: its letter goes out again, which keeps its challenge open."""
    redis().expire(_change_key(user_id), _change_life())


def void_change(user_id: str) -> None:
    """Ends the change of address that a user has under way, if there is one."""
    challenge_id = redis().get(_change_key(user_id))
    if challenge_id:
        # In this order, so that whoever presses again finds it, where Redis fails in between.
        redis().delete(_key(challenge_id.decode()))
        _forget_change([_change_key(user_id)], challenge_id)
        # It may have been answered, and reopened, meanwhile.
        redis().delete(_key(challenge_id.decode()))


def void_warnings(user_id: str, since: float) -> None:
    """Ends the links of the warnings and ways back that have gone to a user after `since` (seconds since 1970)."""
    pipeline = redis().pipeline(transaction=False)
    for challenge_id in redis().zrangebyscore(_warnings_key(user_id), f"({since}", "+inf"):
        pipeline.delete(_key(challenge_id.decode()))
    pipeline.execute()


def void_sent_warnings(user_id: str) -> None:
    """Ends those whose letter has gone out. One that still waits is to be read: it may tell of a thief."""
    keys = [_key(challenge_id.decode()) for challenge_id in redis().zrange(_warnings_key(user_id), 0, -1)]
    handed, void = redis().pipeline(transaction=False), redis().pipeline(transaction=False)
    for key in keys:
        handed.hget(key, "handed")
    for key, sends in zip(keys, handed.execute(), strict=True):
        if int(sends or 0):
            void.delete(key)
    void.execute()


def _fields(challenge: Challenge) -> list[Any]:
    return [part for name, value in vars(challenge).items() if name != "id" for part in (name, value)]


def _read(challenge_id: str, stored: dict[bytes, bytes]) -> Challenge:
    fields: dict[str, Any] = {name.decode(): value.decode() for name, value in stored.items()}
    numbers = {name: int(fields.get(name, 0)) for name in ("epoch", "attempts", "opens", "sends", "handed", "followed")}
    times = {name: float(fields.get(name, 0)) for name in ("sent", "began")}
    return Challenge(**(known(Challenge, fields) | numbers | times | {"id": challenge_id}))


def _change_life() -> int:
    return max(CHANGE_LIFE, 10 * ttl("change_email"))


def _change_key(user_id: str) -> str:
    return f"magicauth:change-of:{user_id}"


def _warnings_key(user_id: str) -> str:
    return f"magicauth:warnings-of:{user_id}"


def _key(challenge_id: str) -> str:
    return f"magicauth:challenge:{challenge_id}"
