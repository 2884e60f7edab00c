"""Passwords: argon2id hashes, verification that takes as long for a stranger, and what is refused as too weak."""

import os
import threading
import unicodedata
from collections.abc import Iterable
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from magicauth.errors import N_

LENGTH_LEAST = 8
LENGTH_MOST = 128
# zxcvbn's time grows with the square of the length, and what it would find stands in the first characters.
_ZXCVBN_LENGTH = 72
_WEAKEST_SCORE = 2

# OWASP's second recommendation for argon2id: 19 MiB, two passes, one lane.
_hasher = PasswordHasher(memory_cost=19 * 1024, time_cost=2, parallelism=1)
# A burst of sign-ins must not take 19 MiB for each thread of the server at once.
_at_once = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


def hash_password(password: str) -> str:
    """The argon2id hash of `password`, with its salt and parameters."""
    with _at_once:
        return _hasher.hash(password)


def verify(password_hash: str | None, password: str) -> bool:
    """Whether `password` is the one behind `password_hash`; None, a stranger's, takes as long and is False."""
    if not _usable(password):
        password, password_hash = "", None
    with _at_once:
        try:
            return _hasher.verify(password_hash or _dummy_hash(), password) and password_hash is not None
        except (Argon2Error, InvalidHashError):
            return False


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def weaknesses(password: str, about: Iterable[str]) -> list[str]:
    """Why `password` is refused (NIST 800-63B 3.1.1.2: length and a list of bad ones, no composition rules).

    `about`: the address, the name, the site: a password made of them is refused. Empty when it is good.
    """
    if not _usable(password):
        return [N_("The password holds a character that cannot be used.")]
    if len(password) < LENGTH_LEAST:
        return [N_("Use at least 8 characters.")]
    if len(password) > LENGTH_MOST:
        return [N_("Use at most 128 characters.")]
    # Loaded where it is needed: its word lists take 15 MB and a tenth of a second.
    from zxcvbn import zxcvbn

    words = [word for text in about for word in (text, *_words(text)) if len(word) > 2]
    if zxcvbn(password[:_ZXCVBN_LENGTH], user_inputs=words)["score"] < _WEAKEST_SCORE:
        return [N_("This password is too easy to guess. Longer, or with an unusual word, is better.")]
    return []


def _usable(password: str) -> bool:
    return not any(character == "\0" or unicodedata.category(character) == "Cs" for character in password)


def _words(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()


@cache
def _dummy_hash() -> str:
    return _hasher.hash("no password is this one")
