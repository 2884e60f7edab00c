"""Saying again who one is, for what weakens the account: by the password, or by a mailed code."""

from magicauth import audit, limits, passwords
from magicauth.challenges import Challenge
from magicauth.errors import N_, Incorrect, NotFound
from magicauth.flows import email_proof
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.visitor import Visitor


def send_code(user: User, under_way: Pending | None, visitor: Visitor) -> Pending:
    """Mails a code that is good for this alone, or the one under way again. Raises TooMany."""

    def ask() -> Challenge:
        return email_proof.ask("fresh", user.canonical_email, user.email, user, visitor)

    if under_way is not None and under_way.purpose == "fresh":
        return email_proof.resend(under_way, visitor, ask)
    return Pending.asking(ask(), user.canonical_email)


def by_password(user: User, password: str, visitor: Visitor) -> None:
    """Raises Incorrect or TooMany."""
    asker = visitor.asker(user.canonical_email)
    limits.take("passwords", asker)
    if not user.has_password or not passwords.verify(user.password_hash, password):
        audit.record(Action.SIGN_IN_REFUSED, visitor, user, result=N_("wrong password"))
        raise Incorrect(N_("Password is incorrect."), errors={"password": [N_("Password is incorrect.")]})
    limits.give_back("passwords", asker)
    audit.record(Action.CONFIRMED, visitor, user)


def by_code(user: User, pending: Pending | None, typed: str, visitor: Visitor) -> None:
    """Raises NotFound, Invalid, Incorrect or TooMany."""
    challenge = email_proof.by_code(pending if pending and pending.purpose == "fresh" else None, typed, visitor)
    with email_proof.good_until_done(challenge):
        if email_proof.user_of(challenge).id != user.id:
            raise NotFound(N_("OTP not found"), reason="the code of another account")
        audit.record(Action.CONFIRMED, visitor, user)
