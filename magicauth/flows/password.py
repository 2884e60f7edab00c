"""Changing a password, and choosing a new one when it is forgotten."""

from dataclasses import replace

from sqlalchemy.orm.exc import StaleDataError

from magicauth import passwords
from magicauth.addresses import parse_email
from magicauth.errors import N_, Invalid, NotFound, SignInOver
from magicauth.flows import email_proof, password_proof, security, sign_in
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def start_reset(
    typed_email: str, visitor: Visitor, under_way: Pending | None = None, next_page: str = "", *, counted: bool = True
) -> Pending:
    """Mails a code and a link; the same for every address. Raises Invalid, or TooMany where letters are `counted`."""
    email, typed = parse_email(typed_email)
    # Of the sign-in that it was forgotten in.
    next_page = next_page or (under_way.next if under_way else "")
    user = sign_in.account(email)
    epoch = user.session_epoch if user else 0
    kept = email_proof.kept("reset", email, epoch, under_way, lambda asked: sign_in.resend(asked, visitor))
    if kept is not None:
        return replace(kept, next=next_page)
    challenge = email_proof.ask(
        "reset", email, user.email if user else typed, user, visitor, next_page, counted=counted
    )
    remember = under_way is not None and under_way.remember
    return Pending.asking(challenge, email, next=next_page, remember=remember)


def reset(pending: Pending | None, password: str, visitor: Visitor) -> Pending:
    """Sets the new password after the proof of the address; what else the account asks for is still asked.

    Ends every session. Raises NotFound or Invalid.
    """
    user = whose_reset(pending)
    if pending is None:
        raise NotFound
    _set(user, password)
    news = security.news("password_changed", user, visitor)
    try:
        security.end_everything(Action.PASSWORD_RESET, user, visitor, news=news)
    except StaleDataError:
        raise SignInOver(reason="the account was changed meanwhile") from None
    # The proof of the address led to this change, and outlives it.
    kept = replace(pending, purpose="sign_in", epoch=user.session_epoch)
    return kept.showing("password", user.id.hex, user.session_epoch)


def whose_reset(pending: Pending | None) -> User:
    """Whose new password may be chosen. Raises NotFound before the address is proven."""
    if pending is None or pending.purpose != "reset" or "email" not in pending.proofs:
        raise SignInOver(reason="no reset was proven")
    return sign_in.next_step(pending)[0]


def change(user: User, old_password: str, password: str, visitor: Visitor, this: Session) -> None:
    """Changes the password; the old one is asked for, if there is one. Ends every other session.

    Raises Incorrect, Invalid or TooMany.
    """
    if user.password_hash:
        password_proof.check(user.canonical_email, user, old_password, visitor, "old_password")
    _set(user, password)
    news = security.news("password_changed", user, visitor)
    security.end_everything(Action.PASSWORD_CHANGED, user, visitor, but=this, news=news)


def _set(user: User, password: str) -> None:
    if not password:
        raise Invalid(errors={"password": [N_("Password required.")]})
    if weak := passwords.weaknesses(password, user.canonical_email, user.name):
        raise Invalid(errors={"password": weak})
    user.password_hash = passwords.hash_password(password)
