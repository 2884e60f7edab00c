"""Changing the e-mail address: proof at the new one, a warning and a way back at the old one."""

from contextlib import suppress
from functools import partial

from sqlalchemy.exc import IntegrityError

from magicauth import challenges, mail
from magicauth.addresses import parse_email
from magicauth.challenges import Challenge
from magicauth.engines import REDIS_IS_AWAY
from magicauth.errors import N_, AddressTaken, Invalid
from magicauth.extensions import db
from magicauth.flows import email_proof, security
from magicauth.flows.security import News
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def start(user: User, typed_email: str, visitor: Visitor, under_way: Pending | None, this: Session) -> Pending:
    """Mails a code and a link to the new address, the same whether or not it has an account.

    Raises Invalid or TooMany.
    """
    email, typed = parse_email(typed_email)
    if email == user.canonical_email:
        raise Invalid(errors={"email": [N_("This is your address already.")]})
    taken = _is_taken(email)
    epoch = 0 if taken else user.session_epoch
    kept = email_proof.kept("change_email", email, epoch, under_way, lambda asked: resend(user, asked, visitor))
    if kept is not None:
        return kept
    ask = partial(_ask, user, email, typed, visitor, taken=taken)
    return Pending.asking(email_proof.once(this, "change_email", email, epoch, ask), email)


def resend(user: User, pending: Pending, visitor: Visitor) -> Pending:
    """Sends that letter again. Raises TooMany."""
    taken = _is_taken(pending.email)

    def anew(challenge_id: str) -> Challenge:
        return _ask(user, pending.email, pending.to or pending.email, visitor, challenge_id, taken=taken)

    challenges.renew_change(user.id.hex)
    return email_proof.resend(pending, visitor, 0 if taken else user.session_epoch, anew)


def confirm(challenge: Challenge, visitor: Visitor, this: Session | None) -> User:
    """Moves the account to the proven address and ends every other session. Raises NotFound or Invalid."""
    user = email_proof.user_of(challenge)
    new_canonical, new = parse_email(challenge.email)
    told = security.news("email_changed", user, visitor, "undo_email", new_email=masked(new))
    user.canonical_email, user.email = new_canonical, new
    _end_everything(Action.EMAIL_CHANGED, user, visitor, this, told)
    return user


def look_at_undo(token: str) -> Challenge:
    """The change that the link would undo. Changes nothing. Raises Invalid or Denied."""
    return email_proof.look_at_link(token, ["undo_email"])


def undo(token: str, visitor: Visitor) -> None:
    """Moves the account back to the address that had it, and ends every session. Raises Invalid or Denied."""
    challenge, lost, language = look_at_undo(token), "", ""

    def move_back() -> None:
        nonlocal lost, language
        user = email_proof.owner_of(challenge)
        canonical_email, email = parse_email(challenge.email)
        lost, language = user.email if user.canonical_email != canonical_email else "", user.language or ""
        user.canonical_email, user.email = canonical_email, email
        _end_everything(Action.EMAIL_CHANGE_UNDONE, user, visitor)

    security.insist(move_back)
    if lost:
        # Whoever reads an old mailbox could else take the account from its owner unnoticed. Afterwards: the way back
        # waits for no letter.
        with suppress(*REDIS_IS_AWAY):
            mail.about_account("email_undone", lost, visitor, language)
    # What went out since went to the thief: a second change gave his address a way back of its own.
    challenges.void_warnings(challenge.user_id, since=challenge.sent)
    # Not before the account has moved: a database that is away burns no link.
    challenges.redeem(challenge)


def masked(email: str) -> str:
    """An address as its owner recognises it and nobody else does."""
    local, _, domain = email.rpartition("@")
    return f"{local[0]}{'•' * 4}@{domain}"


def _is_taken(email: str) -> bool:
    return User.by_email(email) is not None


def _ask(user: User, email: str, to: str, visitor: Visitor, challenge_id: str = "", *, taken: bool) -> Challenge:
    def note(challenge: Challenge) -> None:
        challenges.remember_change(challenge, user.id.hex)

    asks = None if taken else user
    return email_proof.ask("change_email", email, to, asks, visitor, challenge_id=challenge_id, before_letter=note)


def _end_everything(
    action: Action, user: User, visitor: Visitor, this: Session | None = None, news: News | None = None
) -> None:
    try:
        security.end_everything(action, user, visitor, but=this, news=news)
    except IntegrityError:
        db.session.rollback()
        raise AddressTaken from None
