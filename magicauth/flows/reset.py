"""Choosing a new password for one that is forgotten."""

from dataclasses import replace
from functools import partial

from sqlalchemy.orm.exc import StaleDataError

from magicauth.addresses import parse_email
from magicauth.errors import SignInOver
from magicauth.extensions import db
from magicauth.flows import email_proof, security, sign_in
from magicauth.flows.password import set_password
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def start(
    typed_email: str,
    visitor: Visitor,
    this: Session,
    under_way: Pending | None = None,
    next_page: str = "",
    *,
    counted: bool = True,
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
    to = user.email if user else typed
    ask = partial(email_proof.ask, "reset", email, to, user, visitor, next_page, counted=counted)
    challenge = email_proof.once(this, "reset", email, epoch, ask)
    remember = under_way is not None and under_way.remember
    return Pending.asking(challenge, email, next=next_page, remember=remember)


def choose(user: User, pending: Pending, password: str, visitor: Visitor) -> Pending:
    """Sets the new password of `whose` reset it is; what else the account asks for is still asked.

    Ends every session. Raises NotFound or Invalid.
    """
    since = user.created_at.timestamp()
    was_known = bool(visitor.device(user.canonical_email, user.session_epoch, since))
    set_password(user, password)
    news = security.news("password_changed", user, visitor)
    try:
        security.end_everything(Action.PASSWORD_RESET, user, visitor, news=news)
    except StaleDataError:
        db.session.rollback()
        raise SignInOver(reason="the account was changed meanwhile") from None
    # The proof of the address led to this change, and outlives it.
    kept = replace(pending, purpose="sign_in", epoch=user.session_epoch, was_known=was_known)
    return kept.showing("password", user.id.hex, user.session_epoch)


def whose(pending: Pending | None) -> tuple[User, Pending]:
    """Whose new password may be chosen, and the reset. Raises NotFound before the address is proven."""
    if pending is None or pending.purpose != "reset" or "email" not in pending.proofs:
        raise SignInOver(reason="no reset was proven")
    return sign_in.next_step(pending)[0], pending
