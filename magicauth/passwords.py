"""Passwords: argon2id hashes, verification that takes as long for a stranger, and what is refused as too weak."""

import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import error_to_str
from flask import current_app

from magicauth.errors import N_, Unavailable

R = TypeVar("R")

# ARGON2_MEMORY_ALLOCATION_ERROR.
_NO_MEMORY = error_to_str(-22)
_LENGTH_LEAST = 8
_LENGTH_MOST = 128
# zxcvbn's time grows with the square of the length, and what it would find stands in the first characters.
_ZXCVBN_LENGTH = 40
# Signs that may stand for letters, and as many others. zxcvbn tries every combination of the former: a password with
# all of them takes it seconds.
_LETTER_LIKE, _PLAIN = "@({[<!|$+%", "~^&*_=;:?#"
_LETTER_LIKE_MOST = 2
_WEAKEST_SCORE = 2
# So many letters and digits, or signs, a password has beside the words of whose it is; with fewer, such as a year, it
# is made of them.
_REST_LEAST = 5
_TOO_EASY = N_("This password is too easy to guess. Longer, or with an unusual word, is better.")
_IN_WORDS = [
    _TOO_EASY,
    _TOO_EASY,
    N_("Fair. One more unusual word makes it strong."),
    N_("Strong."),
    N_("Very strong."),
]
# What would help a fair one, by the kind of its longest part that zxcvbn found.
_FAIR = {
    "dictionary": N_("Fair. Names and common words are quickly guessed: add an unusual one."),
    "spatial": N_("Fair. Rows of keys are quickly guessed: add an unusual word."),
    "repeat": N_("Fair. Repeats are quickly guessed: add an unusual word."),
    "sequence": N_("Fair. Sequences like abc or 6543 are quickly guessed: add an unusual word."),
    "regex": N_("Fair. Dates and years are quickly guessed: add an unusual word."),
    "date": N_("Fair. Dates and years are quickly guessed: add an unusual word."),
}

# OWASP's second recommendation for argon2id: 19 MiB, two passes, one lane.
_hasher = PasswordHasher(memory_cost=19 * 1024, time_cost=2, parallelism=1)
# Threads of its own, a few: a burst of sign-ins must not take 19 MiB for each thread of the server at once, and each
# thread that ever took them keeps them.
_hashing = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="hashing")
# zxcvbn keeps the words of the password it looks at where those of another thread's would take their place.
_one_guess = threading.Lock()


def hash_password(password: str) -> str:
    """The argon2id hash of `password`, with its salt and parameters."""
    return _run(_hasher.hash, _composed(password))


def verify(password_hash: str | None, password: str) -> bool:
    """Whether `password` is the one behind `password_hash`; None, a stranger's, takes as long and is False. Raises
    Unavailable where there is no memory to tell."""
    if not _usable(password):
        password, password_hash = "", None
    try:
        right = _run(_hasher.verify, password_hash or _dummy_hash(), _composed(password))
    except (Argon2Error, InvalidHashError):
        return False
    return right and password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def weaknesses(password: str, email: str, name: str) -> list[str]:
    """Why `password` is refused (NIST 800-63B 3.1.1.2: length and a list of bad ones, no composition rules).

    One made of the address, the name or the site's is refused. Empty when it is good.
    """
    score, words = strength(password, email, name)
    return [words] if score < _WEAKEST_SCORE else []


def strength(password: str, email: str, name: str) -> tuple[int, str]:
    """How hard `password` is to guess, from 0 to 4, and a sentence that says so and what would help; for one that is
    refused, 0 or 1 and why."""
    if not _usable(password):
        return 0, N_("The password holds a character that cannot be used.")
    # As it is hashed.
    password = _composed(password)
    if len(password) < _LENGTH_LEAST:
        return 0, N_("Use at least 8 characters.")
    if len(password) > _LENGTH_MOST:
        return 0, N_("Use at most 128 characters.")
    about = (email, name, current_app.config["MAGICAUTH_SITE_NAME"])
    words = [word for text in about for word in (text, *_words(text)) if len(word) > 2]
    score, kind = _guess(_made_plain(password[:_ZXCVBN_LENGTH]), words)
    # zxcvbn takes several words, or a dot between them, for hard to guess, whosever they are.
    if _is_made_of(password, about):
        score = min(score, _WEAKEST_SCORE - 1)
    in_words = _FAIR.get(kind) if score == _WEAKEST_SCORE else None
    return score, in_words or _IN_WORDS[score]


def _run(work: Callable[..., R], *arguments: str) -> R:
    try:
        return _hashing.submit(work, *arguments).result()
    except Argon2Error as error:
        if str(error) == _NO_MEMORY:
            raise Unavailable(reason="no memory for a hash") from None
        raise


def _guess(password: str, words: list[str]) -> tuple[int, str]:
    """zxcvbn's score, and the kind of the longest part it found."""
    # Loaded where it is needed: its word lists take 15 MB and a tenth of a second.
    from zxcvbn import zxcvbn

    with _one_guess:
        found = zxcvbn(password, user_inputs=words)
    return found["score"], max(found["sequence"], key=lambda part: len(part["token"]))["pattern"]


def _made_plain(password: str) -> str:
    """The password with all but a few of its letter-like signs made plain ones, as hard to guess."""
    found = "".join(sign for sign in dict.fromkeys(password) if sign in _LETTER_LIKE)[_LETTER_LIKE_MOST:]
    return password.translate(str.maketrans(found, _PLAIN[: len(found)]))


def _is_made_of(password: str, about: tuple[str, ...]) -> bool:
    """Whether it holds words of those texts and little else."""
    theirs = {word for text in about for word in _words(_plain(text))}
    words = _words(_plain(password))
    rest = "".join(word for word in words if word not in theirs)
    # Shorter ones are in many others.
    for word in sorted((word for word in theirs if len(word) > 2), key=len, reverse=True):
        rest = rest.replace(word, "")
    signs = sum(not (character.isalnum() or character.isspace()) for character in password)
    return rest != "".join(words) and len(rest) < _REST_LEAST and signs < _REST_LEAST


def _plain(text: str) -> str:
    """Without case and accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in parts if not unicodedata.combining(character))


def _composed(password: str) -> str:
    # Of two keyboards one writes an accent into its letter and the other after it (NIST 800-63B 3.1.1.2).
    return unicodedata.normalize("NFC", password)


def _usable(password: str) -> bool:
    return not any(character == "\0" or unicodedata.category(character) == "Cs" for character in password)


def _words(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()


@cache
def _dummy_hash() -> str:
    return hash_password("no password is this one")
