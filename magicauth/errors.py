"""What magicauth refuses, and how: each refusal is a status, one sentence for people, and the truth for the log."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def N_(message: str) -> str:
    """Marks a message for translation (gettext's no-op); it is translated where a page shows it."""
    return message


class Refused(Exception):
    """A request that is refused. `respond` makes it HTML or JSON; `reason` goes to the log and nowhere else; by `kind`
    templates know it, and not by its words."""

    kind = ""
    status = 400
    message = N_("Invalid request.")
    retry_after: int | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        reason: str = "",
        **fields: Any,
    ) -> None:
        self.message = message or self.message
        self.errors = {name: list(sentences) for name, sentences in (errors or {}).items()}
        self.reason = reason
        self.fields = fields
        super().__init__(self.message)


class Invalid(Refused):
    """400: what was sent cannot be used; nothing was changed."""


class TokenMissing(Invalid):
    """400: a link without its token."""

    kind = "token_missing"
    message = N_("Token required.")


class AddressTaken(Invalid):
    """400: the address has an account."""

    kind = "address_taken"
    message = N_("Email already in use.")


class CodeMissing(Invalid):
    """400: no code was typed."""

    kind = "code_missing"
    message = N_("OTP required.")


class Incorrect(Refused):
    """401: a password or code that does not match."""

    status = 401


class CodeIncorrect(Incorrect):
    """401: a code that does not match; `attempts_left` of its challenge."""

    kind = "code_incorrect"
    message = N_("Incorrect OTP")


class SignInRequired(Refused):
    """401, or the way to the sign-in page for a browser."""

    status = 401
    message = N_("Sign in required.")


class Denied(Refused):
    """403: not with this token, account or origin."""

    status = 403
    message = N_("Access denied.")


class OtherAccount(Denied):
    """403: a form that was shown for another account than the one in use in its browser by now."""

    kind = "other_account"
    message = N_("This page was for another account.")


class SignUpShut(Denied):
    """403: not everybody may sign up here."""

    kind = "sign_up_shut"


class FreshSignInRequired(Refused):
    """403, or the way to `/auth/fresh` for a browser: the sign-in is too old for what was asked."""

    status = 403
    message = N_("Fresh sign-in required.")


class NotFound(Refused):
    """404: there is no such open question, page or user."""

    status = 404
    message = N_("Not found.")


class CodeOver(NotFound):
    """404: no code is waited for: none was asked for, or it was used, has expired, or its guesses are spent."""

    kind = "code_over"
    message = N_("OTP not found")


class SignInOver(NotFound):
    """404: nothing was proven here, or the account has changed since."""

    kind = "sign_in_over"
    message = N_("Sign-in not found.")


class TooLarge(Refused):
    """413: the body is over the limit."""

    status = 413
    message = N_("The request is too large.")


class UnsupportedMediaType(Refused):
    """415: the body is neither a form nor JSON."""

    status = 415
    message = N_("Send a form or JSON.")


class TooMany(Refused):
    """429: a budget is spent; `retry_after` seconds until it is not."""

    status = 429
    message = N_("Too many attempts. Try again later.")

    def __init__(self, retry_after: float, message: str | None = None, *, reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.retry_after = max(1, math.ceil(retry_after))


class LetterOnItsWay(TooMany):
    """429: a letter of this challenge was asked for a moment ago, maybe by another press of the same button."""

    kind = "letter_on_its_way"
    message = N_("An email is on its way. Wait a moment before you ask for another.")


class PasswordsSpent(TooMany):
    """429: too many wrong passwords; a new one may be chosen all the same."""

    kind = "passwords_spent"


class Unavailable(Refused):
    """503: what it takes is away, be it Redis, the database or memory; nothing was lost."""

    status = 503
    message = N_("Something we depend on is away. Nothing is lost; try again in a moment.")
    retry_after = 2


def reason_of(error: Exception) -> str:
    """What is away, for operators, in one line: the statement and what was asked for are left out."""
    said = str(getattr(error, "orig", error)).partition("\n")[0]
    return f"{type(error).__module__}.{type(error).__name__}: {said}"
