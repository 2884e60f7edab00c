"""The proof that somebody knows the password of an account."""

from magicauth import audit, limits, passwords
from magicauth.errors import N_, Incorrect, Unavailable
from magicauth.extensions import db
from magicauth.models import Action, User
from magicauth.visitor import Visitor


def check(email: str, user: User | None, typed: str, visitor: Visitor, field: str = "password") -> User:
    """The user, whose password was typed in the form's `field`. The same work for nobody, and for an account without a
    password. A right one costs nothing; one that was hashed under earlier parameters is hashed anew.

    Raises TooMany, or Incorrect.
    """
    if not typed:
        # No password is empty: it is no guess, whosever account it is.
        raise incorrect(field)
    asker = visitor.asker(email, user.session_epoch if user else 0)
    limits.take("passwords", asker)
    try:
        is_right = passwords.verify(user.password_hash if user and user.has_password else None, typed)
    except Unavailable:
        limits.give_back("passwords", asker)
        raise
    if not is_right or user is None:
        audit.commit(Action.SIGN_IN_REFUSED, visitor, user, canonical_email=email, result=N_("wrong password"))
        raise incorrect(field)
    limits.give_back("passwords", asker)
    if user.password_hash and passwords.needs_rehash(user.password_hash):
        user.password_hash = passwords.hash_password(typed)
        db.session.commit()
    return user


def incorrect(field: str = "password") -> Incorrect:
    """The refusal of a password that is not the right one."""
    return Incorrect(N_("Password is incorrect."), errors={field: [N_("Password is incorrect.")]})
