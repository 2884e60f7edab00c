"""What ends sessions and open questions: every flow that must, does it here, in one order."""

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import current_app
from sqlalchemy.orm.exc import StaleDataError

from magicauth import audit, challenges, mail, sessions
from magicauth.challenges import Challenge, Purpose
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import reason_of
from magicauth.extensions import DATABASE_IS_AWAY, db, redis
from magicauth.models import Action, AuditEvent, User
from magicauth.models.columns import new_id
from magicauth.sessions import Session
from magicauth.visitor import Visitor

log = logging.getLogger("magicauth")

# Seconds.
_TOLD_AGAIN_AFTER = 3600
_GUESSES_COUNT_FOR = 86_400
# How often one change of an account is overtaken by others before that is told.
_INSISTS = 10


@dataclass(frozen=True)
class News:
    """A letter that tells of a change, and the id of the event that the change will be recorded as."""

    challenge: Challenge
    event_id: uuid.UUID


def end_everything(
    action: Action, user: User, visitor: Visitor, *, but: Session | None = None, news: News | None = None
) -> None:
    """Commits what was changed of `user`, and ends all sessions (but one) and open challenges with it. `news` is the
    letter that tells of it, which is void where it comes to nothing; where the database may have done it and cannot say
    so, the letter waits to see.

    The epoch is raised in the same transaction: what Redis fails to forget, now or in a failover, is void all the same.
    """
    user.session_epoch += 1
    try:
        audit.commit(action, visitor, user, event_id=news.event_id if news else None)
    except Exception as error:
        if news is not None and not (isinstance(error, DATABASE_IS_AWAY) and _may_stand(news.event_id)):
            with suppress(*REDIS_IS_AWAY):
                challenges.redeem(news.challenge)
        raise
    sessions.revoke_all(user.id.hex, user.session_epoch, but)


def _may_stand(event_id: uuid.UUID) -> bool:
    try:
        db.session.rollback()
        return AuditEvent.stands(event_id)
    except DATABASE_IS_AWAY:
        return True


def insist(change: Callable[[], None]) -> None:
    """Does it again where another change of the account came first: whoever has a link of ours is not to be kept from
    it by a thief who is quick. Raises StaleDataError after some tries."""
    for _ in range(_INSISTS):
        with suppress(StaleDataError):
            return change()
        db.session.rollback()
    return change()


def end_others(user: User, visitor: Visitor, this: Session) -> None:
    """Ends every session of a user but this one, and whatever was begun. Where there is no other the owner is told once
    an hour: else somebody signed in could have him told as often as he likes."""
    any_others = len(sessions.listed(user.id.hex, user.session_epoch)) > 1
    told = news("sessions_ended", user, visitor) if _is_due(user, always=any_others) else None
    end_everything(Action.SESSIONS_ENDED, user, visitor, but=this, news=told)


def _is_due(user: User, *, always: bool) -> bool:
    return bool(redis().set(f"magicauth:told-ended:{user.id.hex}", 1, nx=True, ex=_TOLD_AGAIN_AFTER)) or always


def end_one(user: User, store_id: str, visitor: Visitor) -> bool:
    """Ends one session of a user; False if it has ended already."""
    # An intruder who is shown out must not take the account along by an address that he typed before. First, so that
    # pressing again helps where Redis went away in between; and once more for what he typed meanwhile.
    challenges.void_change(user.id.hex)
    # Before it ends: a Redis that is full ends what it is asked to, and would keep no warning of it.
    told = _open_warning(user)
    if not sessions.revoke(user.id.hex, store_id):
        challenges.redeem(told)
        return False
    mail.about_challenge("sessions_ended", told, visitor)
    challenges.void_change(user.id.hex)
    try:
        audit.commit(Action.SESSION_ENDED, visitor, user)
    except DATABASE_IS_AWAY as error:
        log.warning("the end of a session is not recorded: %s", reason_of(error))
    return True


def news(letter: str, user: User, visitor: Visitor, purpose: Purpose = "not_me", **context: Any) -> News:
    """Queues the letter of a change that `end_everything` is about to commit: a Redis that dies afterwards loses nobody
    his warning. It goes out when the change stands."""
    told = News(_open_warning(user, purpose), new_id())
    mail.about_challenge(letter, told.challenge, visitor, event=told.event_id.hex, **context)
    return told


def warn(letter: str, user: User, visitor: Visitor) -> None:
    """Mails the owner what happened, with a link that says: this was not me."""
    mail.about_challenge(letter, _open_warning(user), visitor)


def guessed_behind_password(user: User) -> bool:
    """Counts a wrong code behind the right password. Whether there were, in a day and without a finished sign-in, as
    many as one challenge takes: whoever stops short of that each time is found too."""
    pipeline = redis().pipeline(transaction=False)
    key = _guesses_key(user)
    pipeline.incr(key)
    pipeline.expire(key, _GUESSES_COUNT_FOR, nx=True)
    count: int = pipeline.execute()[0]
    attempts: int = current_app.config["MAGICAUTH_CODE_ATTEMPTS"]
    return count % attempts == 0


def forget_guesses(user: User) -> None:
    """Forgets them: somebody who has the mailbox too has signed in."""
    redis().delete(_guesses_key(user))


def _guesses_key(user: User) -> str:
    # Those behind an earlier password are no news of this one.
    return f"magicauth:behind-password:{user.id.hex}:{user.session_epoch}"


def _open_warning(user: User, purpose: Purpose = "not_me") -> Challenge:
    challenge = challenges.issue(purpose, user.email, user_id=user.id.hex, language=user.language or "")
    challenges.remember_warning(challenge)
    return challenge
