"""Signing up: an address is asked for, its link opened, the rest filled in; the account stands, signed in."""

import re
import unicodedata

from flask import current_app
from sqlalchemy.exc import IntegrityError

from magicauth import audit, challenges, passwords, reopening
from magicauth.addresses import parse_email
from magicauth.challenges import Challenge
from magicauth.errors import N_, AddressTaken, Denied, Invalid, SignUpShut
from magicauth.extensions import db
from magicauth.flows import email_proof
from magicauth.models import Action, User
from magicauth.models.user import NAME_LENGTH, PHONE_LENGTH
from magicauth.visitor import Visitor

_PHONE = re.compile(r"\+? ?\(?[0-9][0-9 ()./-]*")
_SPACE = re.compile(f"[{email_proof.SPACES}]")
_DASH = re.compile(f"[{email_proof.DASHES}]")
# Around numbers that come from telephones and address books.
_UNSEEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def start(typed_email: str, visitor: Visitor, *, next_page: str) -> None:
    """Mails the link; the owner of an account gets one that signs in. Raises Denied, Invalid or TooMany."""
    require_open()
    email, typed = parse_email(typed_email)
    user = User.by_email(email)
    email_proof.ask("sign_up", email, user.email if user else typed, user, visitor, next_page)


def require_open() -> None:
    """Raises Denied where not everybody may sign up."""
    policy = current_app.config["MAGICAUTH_SIGN_UP"]
    if policy == "closed":
        raise SignUpShut(N_("Sign-up is closed."))
    if policy == "invite":
        raise SignUpShut(N_("Sign-up is by invitation."))


def invitation(token: str) -> Challenge:
    """The open sign-up of a link. Changes nothing. Raises Invalid without a token or for a taken address, or Denied."""
    challenge = email_proof.look_at_link(token, ["sign_up"])
    if challenge.user_id:
        raise Denied(reason="link of a sign-up that its address's account asked for")
    if User.by_email(challenge.email.lower()) is not None:
        raise AddressTaken
    return challenge


def finish(token: str, name: str, password: str, phone: str, typed_email: str, visitor: Visitor) -> tuple[User, str]:
    """Makes the account: it, and the page that was wanted when its link was asked for. A form with mistakes keeps the
    link good. Raises Invalid or Denied."""
    challenge = invitation(token)
    email, typed = parse_email(challenge.email)
    if typed_email and email_proof.canonical_or_nothing(typed_email) != email:
        raise Denied(reason="another address than the link's")
    name, phone, errors = clean_profile(name, phone)
    if weak := _password_errors(password, email, name):
        errors["password"] = weak
    if errors:
        raise Invalid(errors=errors)
    user = User(
        canonical_email=email,
        email=typed,
        name=name,
        phone=phone or None,
        password_hash=passwords.hash_password(password) if password else None,
    )
    db.session.add(user)
    try:
        # The unique address decides between parallel posts of one link; the link ends only when the account stands, so
        # that a database that is away burns none.
        audit.commit(Action.SIGNED_UP, visitor, user, with_answer=True)
    except IntegrityError:
        db.session.rollback()
        raise AddressTaken from None
    challenges.redeem(challenge)
    reopening.give_letters_back(challenge)
    return user, challenge.next


def clean_profile(name: str, phone: str) -> tuple[str, str, dict[str, list[str]]]:
    """Name and phone without surrounding space, and what is wrong with them by field."""
    name, phone, errors = unicodedata.normalize("NFC", name.strip()), _plain(phone), {}
    if not any(_visible(character) for character in name):
        errors["name"] = [N_("Name required.")]
    elif len(name) > NAME_LENGTH:
        errors["name"] = [N_("Use at most 100 characters.")]
    elif not _printable(name):
        errors["name"] = [N_("The name holds a character that cannot be used.")]
    if phone and (len(phone) > PHONE_LENGTH or not _PHONE.fullmatch(phone)):
        errors["phone"] = [N_("Use digits, spaces and a leading +, such as +49 30 1234567.")]
    return name, phone, errors


def _plain(phone: str) -> str:
    return _UNSEEN.sub("", _DASH.sub("-", _SPACE.sub(" ", phone))).strip()


def _password_errors(password: str, email: str, name: str) -> list[str]:
    if not password:
        return [N_("Password required.")] if current_app.config["MAGICAUTH_PASSWORDS"] == "required" else []
    return passwords.weaknesses(password, email, name)


def _visible(character: str) -> bool:
    # The five are blank in every font, though Unicode calls them letters or symbols.
    return unicodedata.category(character)[0] not in "CZ" and character not in "\u115f\u1160\u2800\u3164\uffa0"


def _printable(text: str) -> bool:
    # Letters of every script and joiners between them, but no control characters and no marks that turn the reading
    # direction of the text around them.
    return all(
        unicodedata.category(character) not in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
        and character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        for character in text
    )
