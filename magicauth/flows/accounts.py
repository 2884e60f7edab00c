"""Accounts that an operator makes: at once, or by inviting their owner."""

from sqlalchemy.exc import IntegrityError

from magicauth import audit, challenges, mail, passwords
from magicauth.addresses import parse_email
from magicauth.errors import AddressTaken, Invalid
from magicauth.extensions import db
from magicauth.flows import sign_up
from magicauth.models import Action, User
from magicauth.models.columns import new_id
from magicauth.visitor import Visitor


def create(typed_email: str, name: str, password: str | None, visitor: Visitor, *, is_admin: bool = False) -> User:
    """Makes an account; without a password (None) its owner sets one later. Raises Invalid, or AddressTaken."""
    canonical_email, typed = parse_email(typed_email)
    name, _, errors = sign_up.clean_profile(name or typed.partition("@")[0], "")
    if password is not None and (weak := passwords.weaknesses(password, canonical_email, name)):
        errors["password"] = weak
    if errors:
        raise Invalid(errors=errors)
    user = User(canonical_email=canonical_email, email=typed, name=name, is_admin=is_admin)
    user.password_hash = passwords.hash_password(password) if password else None
    db.session.add(user)
    try:
        audit.commit(Action.CREATED, visitor, user)
    except IntegrityError:
        db.session.rollback()
        raise AddressTaken from None
    return user


def invite(typed_email: str, visitor: Visitor) -> str:
    """Mails a sign-up link, whoever may sign up, to the address that is returned. Raises Invalid, or AddressTaken."""
    canonical_email, typed = parse_email(typed_email)
    if User.by_email(canonical_email) is not None:
        raise AddressTaken
    # The letter first, which waits for the record: neither stands alone, whatever is away.
    event_id = new_id()
    mail.about_challenge("invitation", challenges.issue("sign_up", typed), visitor, event=event_id.hex)
    audit.commit(Action.INVITED, visitor, canonical_email=canonical_email, event_id=event_id)
    return typed
