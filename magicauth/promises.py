"""Promises: of many presses of one button at once one opens the challenge and sends its letter; all go on with it."""

from dataclasses import dataclass, replace

from flask import current_app

from magicauth.extensions import Script, compare_and_set, keyring, redis

# Of many who find the same promise over, one puts his in its place.
_make = Script("""
local made = redis.call('GET', KEYS[1])
if made and made ~= ARGV[2] then return made end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return false
""")


@dataclass(frozen=True)
class Promise:
    """That a challenge `id` is opened; `kept` once its letter is on its way."""

    id: str
    kept: bool = False


def make(press: str, over: Promise | None = None) -> tuple[Promise, bool]:
    """What the presses of that name go on with, and whether this is the first of them, which is to `keep` it. One that
    is `over` gives way to another."""
    mine = Promise(keyring().new_id())
    life = current_app.config["MAGICAUTH_RESEND_AFTER"]
    made = _make([_key(press)], _dump(mine), _dump(over) if over else "", life)
    return (_load(made), False) if made else (mine, True)


def look(press: str) -> Promise | None:
    """What the presses of that name go on with by now."""
    made = redis().get(_key(press))
    return _load(made) if made else None


def keep(press: str, promise: Promise) -> None:
    """Says that its letter is on its way; not where others took it for broken meanwhile."""
    compare_and_set([_key(press)], _dump(promise), _dump(replace(promise, kept=True)))


def forget(press: str) -> None:
    """Lets the next press be the first."""
    redis().delete(_key(press))


def _key(press: str) -> str:
    return f"magicauth:promised:{press}"


def _dump(promise: Promise) -> str:
    return f"{promise.id} kept" if promise.kept else promise.id


def _load(made: bytes) -> Promise:
    challenge_id, _, kept = made.decode().partition(" ")
    return Promise(challenge_id, bool(kept))
