"""Saying again who one is, for what weakens the account: by the password, or by a mailed code."""

from magicauth import audit, reopening
from magicauth.challenges import Challenge
from magicauth.errors import CodeOver
from magicauth.flows import email_proof, password_proof
from magicauth.models import Action, User
from magicauth.pending import Pending
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def send_code(user: User, under_way: Pending | None, visitor: Visitor, session: Session) -> Pending:
    """Mails a code that is good for this alone, or the one under way again. Raises TooMany."""

    def ask(challenge_id: str) -> Challenge:
        return email_proof.ask("fresh", user.canonical_email, user.email, user, visitor, challenge_id=challenge_id)

    if under_way is not None:
        return email_proof.resend(under_way, visitor, user.session_epoch, ask)
    challenge = email_proof.once(session, "fresh", user.canonical_email, user.session_epoch, ask)
    return Pending.asking(challenge, user.canonical_email)


def by_password(user: User, password: str, visitor: Visitor) -> None:
    """Raises Incorrect or TooMany."""
    if not user.has_password:
        # Its owner may know: nothing is looked at, and nothing counted.
        raise password_proof.incorrect()
    password_proof.check(user.canonical_email, user, password, visitor)
    audit.commit(Action.CONFIRMED, visitor, user)


def by_code(user: User, pending: Pending | None, typed: str, visitor: Visitor) -> None:
    """Raises NotFound, Invalid, Incorrect or TooMany."""
    challenge = email_proof.by_code(pending, typed, visitor)
    with reopening.good_until_done(challenge):
        if email_proof.user_of(challenge).id != user.id:
            raise CodeOver(reason="the code of another account")
        audit.commit(Action.CONFIRMED, visitor, user)
