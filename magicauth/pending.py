"""What is under way in one browser, kept in its server-side session: a question asked, and what was shown so far."""

import time
from dataclasses import dataclass, replace
from typing import Any

from flask import session

from magicauth import challenges
from magicauth.challenges import Challenge, Purpose
from magicauth.sessions import this_session
from magicauth.stored import known

# Of somebody who mistyped an address, or has several.
_ASKED_BEFORE = 4


@dataclass(frozen=True)
class Pending:
    """A question that this browser asked and what it has shown. `email` is canonical, `to` where the letters go: as it
    was typed, or as its account writes it. `user_id` stands only once something was proven; `epoch` is the user's then:
    a password or e-mail changed since makes it all void. `asked_before` are the ids of challenges that it asked for
    earlier. `was_known` says that the account knew this browser until its reset. `sent` and `until` are seconds since
    1970."""

    challenge_id: str
    purpose: Purpose
    email: str
    sent: float
    until: float
    proofs: tuple[str, ...] = ()
    user_id: str = ""
    epoch: int = 0
    next: str = ""
    remember: bool = False
    to: str = ""
    asked_before: tuple[str, ...] = ()
    was_known: bool = False

    @classmethod
    def asking(cls, challenge: Challenge, email: str, **fields: Any) -> "Pending":
        """What is under way when the challenge's letter has been asked for."""
        sent, until = challenge.sent, _until(challenge)
        return cls(challenge.id, challenge.purpose, email, sent, until, to=challenge.email, **fields)

    @classmethod
    def load(cls, stored: dict[str, Any]) -> "Pending":
        """From what the session holds."""
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return cls(**known(cls, stored | lists))

    def dump(self) -> dict[str, Any]:
        """As the session holds it."""
        return dict(vars(self))

    def asked_again(self, challenge: Challenge) -> "Pending":
        """With another letter on its way, of the same challenge or of a new one."""
        return replace(self, challenge_id=challenge.id, sent=time.time(), until=_until(challenge))

    def showing(self, proof: str, user_id: str, epoch: int) -> "Pending":
        """With one proof more, of this user. What was shown of another account, or before a change that ended all open
        questions, counts no longer: an old password must not join a new code."""
        shown = self.proofs if (self.user_id, self.epoch) == (user_id, epoch) else ()
        return replace(self, proofs=(*(p for p in shown if p != proof), proof), user_id=user_id, epoch=epoch)


def under_way() -> Pending | None:
    """The sign-in, or other proof of an address, that is under way in this browser."""
    return _kept("pending")


def asked_here() -> list[str]:
    """The ids of the challenges that this browser asked for, of this address and of the last others, the latest first:
    their links need not be told for whom they are."""
    asked = under_way()
    return [asked.challenge_id, *asked.asked_before] if asked else []


def confirming() -> Pending | None:
    """The code that makes the sign-in fresh, if one was asked for: beside a change of address that waits for its."""
    return _kept("confirming")


def keep_pending(asked: Pending, *, risen: bool = False) -> None:
    """Keeps what is under way; under a new session id where it has risen in what it proves."""
    if asked.purpose == "fresh":
        this_session().keep(confirming=asked.dump())
    else:
        before = [challenge_id for challenge_id in asked_here() if challenge_id != asked.challenge_id]
        this_session().keep(pending=replace(asked, asked_before=tuple(before[:_ASKED_BEFORE])).dump())
    if risen:
        this_session().renew()


def drop_pending() -> None:
    """Forgets what is under way."""
    this_session().forget("pending", "confirming")


def _kept(where: str) -> Pending | None:
    stored = session.get(where)
    if stored is None or stored["until"] < time.time():
        return None
    return Pending.load(stored)


def _until(challenge: Challenge) -> float:
    # Twice the life of the letter, so that a code that has expired can be asked for again without starting over.
    return time.time() + 2 * challenges.ttl(challenge.purpose)
