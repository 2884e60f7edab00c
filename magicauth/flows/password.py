"""Changing a password."""

from magicauth import passwords
from magicauth.errors import N_, Invalid
from magicauth.flows import password_proof, security
from magicauth.models import Action, User
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def change(user: User, old_password: str, password: str, visitor: Visitor, this: Session) -> None:
    """Changes the password; the old one is asked for, if there is one. Ends every other session.

    Raises Incorrect, Invalid or TooMany.
    """
    if user.password_hash:
        password_proof.check(user.canonical_email, user, old_password, visitor, "old_password")
    set_password(user, password)
    news = security.news("password_changed", user, visitor)
    security.end_everything(Action.PASSWORD_CHANGED, user, visitor, but=this, news=news)


def set_password(user: User, password: str) -> None:
    """Gives the account a new password, not yet committed. Raises Invalid."""
    if not password:
        raise Invalid(errors={"password": [N_("Password required.")]})
    if weak := passwords.weaknesses(password, user.canonical_email, user.name):
        raise Invalid(errors={"password": weak})
    user.password_hash = passwords.hash_password(password)
