"""Deleting an account: what is personal goes; the audit keeps a keyed hash."""

from dataclasses import replace

from magicauth import audit, mail, sessions
from magicauth.addresses import parse_email
from magicauth.errors import N_, Invalid
from magicauth.extensions import db
from magicauth.models import Action, User
from magicauth.models.columns import new_id
from magicauth.visitor import Visitor


def confirm(user: User, typed_email: str) -> None:
    """Whether the owner means it: the address must be typed. Raises Invalid."""
    if parse_email(typed_email)[0] != user.canonical_email:
        raise Invalid(errors={"email": [N_("Type the address of this account.")]})


def delete(user: User, visitor: Visitor, *, by_owner: bool) -> None:
    """Deletes the account and ends its sessions; a letter says so, and whose doing it was."""
    user_id, above_every_epoch, event_id = user.id.hex, user.session_epoch + 1, new_id()
    # Before: nobody could be told afterwards. It goes out when the account is gone.
    mail.about_account(
        "account_deleted", user.email, visitor, user.language or "", event=event_id.hex, by_owner=by_owner
    )
    db.session.delete(user)
    audit.forget(user)
    audit.commit(Action.DELETED, replace(visitor, ip="", browser=""), user, event_id=event_id)
    sessions.revoke_all(user_id, above_every_epoch)
