"""The proof that somebody reads the mail of an address: by the code or the link of a letter, whichever comes first."""

import math
import re
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from magicauth import audit, challenges, limits, mail, promises
from magicauth.addresses import parse_email
from magicauth.challenges import Challenge, Purpose
from magicauth.crypto import digest
from magicauth.errors import (
    N_,
    CodeIncorrect,
    CodeMissing,
    CodeOver,
    Denied,
    Invalid,
    LetterOnItsWay,
    Refused,
    TokenMissing,
)
from magicauth.flows import security
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.promises import Promise
from magicauth.sessions import Session
from magicauth.visitor import Visitor

# Purposes whose letters are answered at /verify and /auth/link.
PURPOSES: tuple[Purpose, ...] = ("sign_in", "reset", "change_email")
_NOBODY = "0" * 32
# How often, and after how many seconds, a challenge that another request is opening is looked for.
_LOOKS_FOR_CHALLENGE = 20
_BETWEEN_LOOKS = 0.02
# What people put between digits, or letters do, beside the spaces and dashes of ASCII.
SPACES, DASHES = r"\u00a0\u2000-\u200a\u202f\u205f\u3000", r"\u2010-\u2015\u2212"
_FORGIVEN = re.compile(f"[ {SPACES}{DASHES}-]+")


def ask(
    purpose: Purpose,
    email: str,
    to: str,
    user: User | None,
    visitor: Visitor,
    next_page: str = "",
    challenge_id: str = "",
    *,
    counted: bool = True,
    before_letter: Callable[[Challenge], None] = lambda _: None,
) -> Challenge:
    """Opens a challenge for the address `to` and queues its letter; for a stranger just the same. Raises TooMany.

    `email` is the canonical address that the letter counts against, unless a link that works once stands for it.
    `before_letter` notes what must be known of a challenge that somebody can answer.
    """
    epoch = user.session_epoch if user else 0
    asker = visitor.asker(email, epoch)
    if counted:
        limits.take("mails", asker)
    challenge = challenges.issue(
        purpose,
        to,
        challenge_id,
        user_id=user.id.hex if user else "",
        epoch=epoch,
        ip=visitor.ip if counted else "",
        device=asker.device,
        browser=visitor.browser,
        language=user.language or "" if user else "",
        next=next_page,
    )
    before_letter(challenge)
    mail.about_challenge(purpose, challenge, visitor)
    return challenge


def kept(
    purpose: Purpose, email: str, epoch: int, under_way: Pending | None, resend: Callable[[Pending], Pending]
) -> Pending | None:
    """What is under way in this browser already for that purpose and address, of an account as it is now (`epoch`, 0
    for a stranger): it goes on with the same code, and `resend` sends its letter again once it may."""
    if under_way is None or (under_way.purpose, under_way.email) != (purpose, email):
        return None
    challenge = challenges.get(under_way.challenge_id)
    if challenge is None or not challenge.is_open or challenge.epoch != epoch:
        return None
    if under_way.user_id and under_way.epoch != epoch:
        # What was proven before the account changed counts no longer, though its letter was asked for again since.
        under_way = replace(under_way, proofs=(), user_id="", epoch=0)
    if challenge.on_its_way_for > 0:
        return under_way
    try:
        return resend(under_way)
    except LetterOnItsWay:
        return under_way


def resend(pending: Pending, visitor: Visitor, epoch: int, renew: Callable[[str], Challenge]) -> Pending:
    """Sends the letter of what is under way again: the same code and link, so that no letter already on its way dies;
    or a new one, which `renew` opens under an id, if its guesses or its time are over, or the account is no longer as
    it was (`epoch` is what it is now, 0 for a stranger). Raises TooMany."""
    challenge = challenges.get(pending.challenge_id)
    renewed = partial(_one_of_many, pending.challenge_id, epoch, renew)
    if challenge is None or not challenge.is_open:
        return pending.asked_again(renewed())
    if challenge.on_its_way_for > 0:
        # Whoever waits for so long is not told then to wait for a budget.
        raise LetterOnItsWay(resend_in(challenge, pending, visitor))
    # Not before: who asked for somebody else's address would learn at once that the account was changed.
    if challenge.epoch != epoch:
        return pending.asked_again(renewed())
    asker = visitor.asker(pending.email, epoch)
    limits.take("mails", asker)
    again, wait_after_all = challenges.resend(challenge)
    if again is None:
        # Another press of the button was quicker, or the last guess was.
        limits.give_back("mails", asker)
        if wait_after_all:
            raise LetterOnItsWay(wait_after_all)
        return pending.asked_again(renewed())
    mail.about_challenge(challenge.purpose, again, visitor)
    return pending.asked_again(again)


def once(session: Session, purpose: Purpose, email: str, epoch: int, ask: Callable[[str], Challenge]) -> Challenge:
    """The challenge of the first letter that a session asks for, which `ask` opens under an id: of many presses of a
    button at once, one sends the letter, and all go on with its challenge. A browser without a session is many."""
    if session.sid is None:
        return ask("")
    return _one_of_many(digest(f"{session.sid}/{purpose}/{email}"), epoch, ask)


def _one_of_many(press: str, epoch: int, ask: Callable[[str], Challenge]) -> Challenge:
    promise, is_first = promises.make(press)
    while not is_first:
        promise = _kept_elsewhere(press, promise)
        challenge = challenges.get(promise.id) if promise.kept else None
        if challenge is not None and challenge.is_open and challenge.epoch == epoch:
            return challenge
        # Who was first has failed, or it is over by now.
        promise, is_first = promises.make(press, over=promise)
    try:
        challenge = ask(promise.id)
    except Refused:
        promises.forget(press)
        raise
    # Not before: nobody goes on with one whose letter was not queued, or whose change was not noted.
    promises.keep(press, promise)
    return challenge


def _kept_elsewhere(press: str, promise: Promise) -> Promise:
    """The promise once the request that made it has kept it; as it is where that takes too long."""
    for _ in range(_LOOKS_FOR_CHALLENGE):
        if promise.kept:
            break
        time.sleep(_BETWEEN_LOOKS)
        promise = promises.look(press) or promise
    return promise


def resend_in(challenge: Challenge, pending: Pending, visitor: Visitor) -> int:
    """Seconds until the letter of what is under way may go out again, by its budgets too; 0 if it may now."""
    wait_for_budget = limits.seconds_to_wait("mails", visitor.asker(pending.email, challenge.epoch))
    return max(0, math.ceil(max(challenge.on_its_way_for, wait_for_budget)))


def by_code(pending: Pending | None, typed: str, visitor: Visitor) -> Challenge:
    """The challenge that the typed code answers, ended by it; as it stood before this try, so that it can be reopened.

    Raises NotFound if none is open, Invalid if nothing was typed, TooMany, or Incorrect with `attempts_left`.
    """
    challenge = challenges.get(pending.challenge_id) if pending else None
    if pending is None or challenge is None or not challenge.is_open:
        raise CodeOver(reason="no challenge, expired, used, or guesses spent")
    code = _FORGIVEN.sub("", typed)
    if not code:
        raise CodeMissing(errors={"OTP": [CodeMissing.message]})
    # Asked before anything is counted or ended, for a stranger just the same: a database that is away costs no guess.
    User.by_id(_NOBODY if challenge.purpose == "change_email" else challenge.user_id or _NOBODY)
    asker = visitor.asker(pending.email, challenge.epoch)
    limits.take("codes", asker)
    right, left = challenges.attempt(challenge, code)
    if left < 0:
        limits.give_back("codes", asker)
        raise CodeOver(reason="guesses spent or answered meanwhile")
    if not right:
        # Where this fails the guess stays counted: that a right one would not have failed tells as much as an answer.
        _tell_of_wrong_code(pending, challenge, visitor)
        raise CodeIncorrect(reason="wrong code", attempts_left=left)
    limits.give_back("codes", asker)
    taken = challenges.take(challenge)
    if taken is None:
        raise CodeOver(reason="answered meanwhile")
    return replace(taken, attempts=taken.attempts - 1)


def by_link(token: str, here: Collection[str], typed_email: str) -> Challenge:
    """The challenge that the link answers, ended by it; as it stood before this try, so that it can be reopened. `here`
    are the ids of challenges that this browser asked for; a browser that did not ask names the address.

    Raises Denied. An address that is mistyped costs one of a few tries and leaves the link good.
    """
    challenge = look_at_link(token)
    elsewhere = challenge.id not in here
    # A mail scanner that presses the button types no address, and costs the link nothing.
    if elsewhere and not (typed_email and challenges.attempt_address(challenge, canonical_or_nothing(typed_email))):
        raise Denied(
            reason="another address typed at the link",
            errors={"email": [N_("This is not the address the email went to.")]},
        )
    taken = challenges.take(challenge)
    if taken is None:
        raise Denied(reason="answered meanwhile")
    return replace(taken, opens=taken.opens - elsewhere)


def look_at_link(token: str, purposes: Collection[Purpose] = PURPOSES) -> Challenge:
    """The challenge that the link would answer. Changes nothing. Raises Invalid without a token, or Denied."""
    if not token:
        raise TokenMissing()
    challenge = challenges.open_link(token, purposes)
    if challenge is None or (not challenge.user_id and challenge.purpose != "sign_up"):
        raise Denied(reason="link unknown, used or expired")
    if challenge.purpose == "sign_up":
        return challenge
    owner = owner_of(challenge)
    if challenge.purpose in PURPOSES and not owner.stands(challenge.epoch):
        raise Denied(reason="account disabled or changed since")
    return challenge


def owner_of(challenge: Challenge) -> User:
    """The user whom the challenge of a link is about, whatever has changed since. Raises Denied if there is none."""
    user = User.by_id(challenge.user_id)
    if user is None:
        raise Denied(reason="account gone")
    return user


def user_of(challenge: Challenge) -> User:
    """The user whom an answered challenge is about. Raises NotFound if the account changed since it was issued."""
    user = User.by_id(challenge.user_id)
    if user is None or not user.stands(challenge.epoch):
        raise CodeOver(reason="account gone, disabled or changed since")
    return user


def _tell_of_wrong_code(pending: Pending, challenge: Challenge, visitor: Visitor) -> None:
    audit.commit(
        Action.SIGN_IN_REFUSED,
        visitor,
        # A user who moves to another address sees his own activity: it must not tell whether that has an account.
        user_id="" if challenge.purpose == "change_email" else challenge.user_id,
        canonical_email=pending.email,
        result=N_("wrong code"),
    )
    user = User.by_id(pending.user_id) if "password" in pending.proofs else None
    # Whoever guesses at the code has the right password already.
    if user is not None and security.guessed_behind_password(user):
        audit.commit(Action.CODES_USED_UP, visitor, user)
        security.warn("codes_used_up", user, visitor)


def canonical_or_nothing(typed: str) -> str:
    """The canonical form of what was typed as an address; "" if it is none, which no address equals."""
    try:
        return parse_email(typed)[0]
    except Invalid:
        return ""
