"""Takes back that a challenge was ended, or the session of a sign-in claimed, where that led to nothing because the
database or Redis failed."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from magicauth import challenges, limits, metrics, sessions
from magicauth.challenges import Challenge
from magicauth.crypto import random_id
from magicauth.engines import REDIS_IS_AWAY, hangs
from magicauth.errors import Refused
from magicauth.sessions import this_session

Undo = Callable[[], None]

# Seconds for which a Redis that went away is asked again, and between two tries.
_REOPENED_WITHIN = 30
_BETWEEN_TRIES = 0.5


@contextmanager
def reopened_on_failure(ended: Challenge) -> Iterator[None]:
    """Runs what an ended challenge leads to, and reopens it where that fails because the database or Redis is away, or
    where the session cannot be kept afterwards.

    Not for `challenges.take` itself: where its reply is lost, another request may have had it and signed in.
    """
    reopen = partial(challenges.reopen, ended, random_id())
    this_session().if_lost = lambda: _later(reopen)
    try:
        yield
    except (SQLAlchemyError, *REDIS_IS_AWAY) as error:
        # Whoever has waited for Redis once does not wait again.
        if hangs(error) or not _done(reopen):
            _later(reopen)
        raise


@contextmanager
def good_until_done(answered: Challenge) -> Iterator[None]:
    """As `reopened_on_failure`, for an answer whose letter then costs its address nothing."""
    try:
        with reopened_on_failure(answered):
            yield
    except Refused:
        _settle(answered)
        raise
    _settle(answered)


@contextmanager
def put_back_on_failure() -> Iterator[None]:
    """Runs what claims the session of a sign-in that is under way, and puts that session back where Redis goes away
    before it is done: what was proven is not lost. Not one that is signed in, which may have been revoked meanwhile."""
    session = this_session()
    if session.sid is None or "user_id" in session:
        yield
        return
    put_back = partial(sessions.put_back, session.sid, dict(session.data))
    session.if_lost = lambda: _later(put_back)
    try:
        yield
    except REDIS_IS_AWAY:
        _later(put_back)
        raise


def give_letters_back(challenge: Challenge) -> None:
    """Letters that were answered cost nobody anything: an office behind one address is not locked out. Those that were
    not counted, which name no client, give nothing back: they would make room for others."""
    if challenge.ip:
        asked = limits.Asker(challenge.email.lower(), challenge.ip, challenge.device)
        limits.give_back("mails", asked, seconds_ago=time.time() - challenge.sent)
        if challenge.sends == 1:
            return
        # Those before the last: a budget that began in between paid for none, or not for all.
        limits.give_back("mails", asked, challenge.sends - 1, seconds_ago=time.time() - challenge.began)


def _done(undo: Undo) -> bool:
    with suppress(*REDIS_IS_AWAY):
        undo()
        return True
    return False


def _later(undo: Undo) -> None:
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    threading.Thread(target=_when_redis_is_back, args=(app, undo), daemon=True).start()


def _when_redis_is_back(app: Flask, undo: Undo) -> None:
    give_up = time.monotonic() + _REOPENED_WITHIN
    with app.app_context():
        while not _done(undo) and time.monotonic() < give_up:
            time.sleep(_BETWEEN_TRIES)


def _settle(challenge: Challenge) -> None:
    metrics.LETTER_TO_USE.observe(time.time() - challenge.sent)
    give_letters_back(challenge)
