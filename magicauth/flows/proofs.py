"""What a sign-in still has to show: one pure function."""

from collections.abc import Collection
from typing import Literal

Proof = Literal["email", "password"]


def missing(has_password: bool, shown: Collection[str]) -> Proof | None:
    """The next proof that an account asks for, or None when the sign-in is complete.

    An account with a password wants it and the e-mail, in either order; one without wants the e-mail.
    """
    if "email" not in shown:
        return "email"
    if has_password and "password" not in shown:
        return "password"
    return None
