"""Signing in: proofs are collected, in any order, until nothing is missing."""

from dataclasses import replace
from functools import partial

from magicauth import audit, limits
from magicauth.addresses import parse_email
from magicauth.challenges import Challenge
from magicauth.errors import N_, Incorrect, SignInOver
from magicauth.flows import email_proof, password_proof, security
from magicauth.flows.proofs import Proof, missing
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def start(
    typed_email: str,
    password: str,
    visitor: Visitor,
    under_way: Pending | None,
    this: Session,
    *,
    next_page: str,
    remember: bool,
) -> Pending:
    """Begins a sign-in: checks the password if there is one, then sends the letter.

    The same steps, commands and answers for an address without an account. Raises Invalid, Incorrect or TooMany.
    """
    email, typed = parse_email(typed_email)
    user = _check_password(email, password, visitor) if password else account(email)
    epoch = user.session_epoch if user else 0
    pending = _proven(under_way, email, user) or email_proof.kept(
        "sign_in", email, epoch, under_way, lambda asked: resend(asked, visitor)
    )
    if pending is None:
        ask = partial(email_proof.ask, "sign_in", email, user.email if user else typed, user, visitor, next_page)
        pending = Pending.asking(email_proof.once(this, "sign_in", email, epoch, ask), email)
    pending = replace(pending, next=next_page or pending.next, remember=remember)
    return pending.showing("password", user.id.hex, user.session_epoch) if user and password else pending


def resend(pending: Pending, visitor: Visitor) -> Pending:
    """Sends the letter of a sign-in, or of a reset, again. Raises TooMany."""
    user = account(pending.email)

    def anew(challenge_id: str) -> Challenge:
        to = user.email if user else pending.to or pending.email
        return email_proof.ask(
            pending.purpose, pending.email, to, user, visitor, pending.next, challenge_id=challenge_id
        )

    return email_proof.resend(pending, visitor, user.session_epoch if user else 0, anew)


def email_proven(challenge: Challenge, under_way: Pending | None) -> Pending:
    """The sign-in that goes on in this browser after its challenge was answered here. Raises NotFound."""
    user = email_proof.user_of(challenge)
    if under_way is None or under_way.challenge_id != challenge.id:
        # What was shown with another challenge, here or in another browser, stays there; so does the wish to be
        # remembered, which was another question's.
        under_way = Pending.asking(challenge, user.canonical_email, next=challenge.next)
    return under_way.showing("email", user.id.hex, user.session_epoch)


def prove_password(pending: Pending | None, password: str, visitor: Visitor) -> Pending:
    """The second step of a sign-in that began with the e-mail. Raises NotFound, Incorrect or TooMany."""
    user, wanted = next_step(pending)
    if pending is None or wanted != "password":
        raise SignInOver(reason="the e-mail is not proven")
    password_proof.check(user.canonical_email, user, password, visitor)
    return pending.showing("password", user.id.hex, user.session_epoch)


def next_step(pending: Pending | None) -> tuple[User, Proof | None]:
    """Whose sign-in it is, and which proof it still wants. Raises NotFound if nothing was proven, or not of the account
    as it is now."""
    user = User.by_id(pending.user_id) if pending and pending.user_id else None
    if user is None or pending is None or not user.stands(pending.epoch):
        raise SignInOver(reason="nothing proven, or the account changed since")
    return user, missing(user.has_password, pending.proofs)


def finished(user: User, visitor: Visitor, *, was_known: bool = False) -> None:
    """A finished sign-in forgets the account's own failures; nothing else does. One from a new browser is told of;
    `was_known` is one that was known until it changed the account."""
    epoch = user.session_epoch
    limits.clear(visitor.asker(user.canonical_email, epoch))
    if user.has_password:
        security.forget_guesses(user)
    audit.commit(Action.SIGNED_IN, visitor, user, with_answer=True)
    # An address may have belonged to another's account before.
    if not (was_known or visitor.device(user.canonical_email, epoch, since=user.created_at.timestamp())):
        security.warn("new_browser", user, visitor)


def account(email: str) -> User | None:
    """The user of a canonical address, if the account may be used: one that is disabled is like none."""
    user = User.by_email(email)
    return user if user is not None and not user.disabled else None


def _check_password(email: str, password: str, visitor: Visitor) -> User:
    try:
        # The account is asked for before a place is taken: a database that is away costs nobody's budget.
        return password_proof.check(email, account(email), password, visitor)
    except Incorrect:
        raise Incorrect(N_("Email or password is incorrect.")) from None


def _proven(under_way: Pending | None, email: str, user: User | None) -> Pending | None:
    """The sign-in whose code was typed here already, and whose password is missing: it wants no other letter."""
    if under_way is None or user is None or (under_way.purpose, under_way.email) != ("sign_in", email):
        return None
    proven = "email" in under_way.proofs and (under_way.user_id, under_way.epoch) == (user.id.hex, user.session_epoch)
    return under_way if proven else None
