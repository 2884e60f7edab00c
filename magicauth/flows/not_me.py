""" "This was not me": all sessions end, and a letter for a new password goes out."""

from flask import current_app

from magicauth import challenges, reopening
from magicauth.challenges import Challenge
from magicauth.errors import Denied
from magicauth.flows import email_proof, reset, security
from magicauth.models import Action
from magicauth.pending import Pending
from magicauth.sessions import Session
from magicauth.visitor import Visitor


def look_at(token: str) -> Challenge:
    """The warning that the link answers. Changes nothing. Raises Invalid or Denied."""
    return email_proof.look_at_link(token, ["not_me"])


def secure(challenge: Challenge, visitor: Visitor, this: Session) -> Pending | None:
    """Ends every session of the account and begins a reset, if it has a password. Raises Denied.

    Good whatever has happened to the account since the letter, but for its address: a letter for a new password must
    not go to whoever has moved the account to himself (that has its own way back).
    """
    with reopening.reopened_on_failure(challenge):
        # Taken first: a second press at the same moment would make the first one's letter void. In the block: a warning
        # that is good twice harms nobody, one that was lost with nothing done does.
        if not challenges.redeem(challenge):
            raise Denied(reason="answered meanwhile")
        security.insist(lambda: security.end_everything(Action.NOT_ME, email_proof.owner_of(challenge), visitor))
        user = email_proof.owner_of(challenge)
        if user.email != challenge.email or current_app.config["MAGICAUTH_PASSWORDS"] == "off":
            return None
        # The thief may have spent the address's budget of letters, and this link works once.
        return reset.start(user.email, visitor, this, counted=False)
