"""What ends sessions and open questions: every flow that must, does it here, in one order."""

from magicauth import audit, challenges, mail, sessions
from magicauth.models import Action, User
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def end_everything(action: Action, user: User, visitor: Visitor, *, but: Session | None = None) -> None:
    """Commits what was changed of `user`, and ends all sessions (but one) and open challenges with it.

    The epoch is raised in the same transaction: what Redis fails to forget, now or in a failover, is void all the same.
    """
    user.session_epoch += 1
    audit.record(action, visitor, user)
    sessions.revoke_all(user.id.hex, but)


def warn(letter: str, user: User, visitor: Visitor) -> None:
    """Mails the owner what happened, with a link that says: this was not me."""
    challenge = challenges.issue(
        "not_me", user.email, user_id=user.id.hex, epoch=user.session_epoch, language=user.language or ""
    )
    challenges.remember_warning(challenge)
    mail.about_challenge(letter, challenge, visitor)
