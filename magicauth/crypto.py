"""Keys from SECRET_KEY and its fallbacks; what is derived from them: codes, link tokens, keyed hashes."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

_KEY_ID_LENGTH = 4
# The key's id (4 characters) and 128 random bits (22), both base64url.
_ID = re.compile(r"[A-Za-z0-9_-]{26}")
_TOKEN = re.compile(r"([A-Za-z0-9_-]{26})\.([A-Za-z0-9_-]{43})")


class Keyring:
    """The keys of one deployment. The first secret makes new ids; every secret still answers for the ids it made.

    A challenge id begins with the id of the key it was made under, so that a code or link in flight over a rotation
    is derived under its own key: the same letter again, and no doubled chance for a guesser.
    """

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secret_keys]
        ids = [_encode(_mac(secret, "key-id"))[:_KEY_ID_LENGTH] for secret in self._secrets]
        # Of two keys with one id, should it come to that, the newer answers.
        self._by_id = dict(zip(reversed(ids), reversed(self._secrets), strict=True))
        self._current_id = ids[0]

    def new_id(self) -> str:
        """An id for a challenge: the current key's id and 128 random bits."""
        return self._current_id + random_id()

    def derived_id(self, purpose: str, challenge_id: str) -> str:
        """The id of the challenge that follows from `challenge_id` for `purpose`: always the same, unguessable."""
        return challenge_id[:_KEY_ID_LENGTH] + _encode(self._mac_of("derived-id", purpose, challenge_id)[:16])

    def code(self, purpose: str, challenge_id: str, digits: int) -> str:
        """The code of a challenge, as HOTP derives one (RFC 4226), but from 128 bits of the MAC, so that ten digits
        are as even as six."""
        number = int.from_bytes(self._mac_of("code", purpose, challenge_id)[:16], "big")
        return str(number % 10**digits).zfill(digits)

    def token(self, purpose: str, challenge_id: str) -> str:
        """The link token of a challenge: `<id>.<MAC>`."""
        return f"{challenge_id}.{_encode(self._mac_of('link', purpose, challenge_id))}"

    def verify_token(self, purpose: str, token: str) -> bool:
        """Whether `token` is the one of its challenge for this purpose."""
        challenge_id = id_in(token)
        return challenge_id is not None and self.knows(challenge_id) and equal(token, self.token(purpose, challenge_id))

    def knows(self, challenge_id: str) -> bool:
        """Whether `challenge_id` has the form of an id and was made under one of these keys."""
        return _ID.fullmatch(challenge_id) is not None and challenge_id[:_KEY_ID_LENGTH] in self._by_id

    def tag(self, use: str, *parts: str) -> str:
        """A keyed hash of `parts` under the current key, 128 bits: names an address without holding it."""
        return _encode(_mac(self._secrets[0], use, *parts)[:16])

    def tags(self, use: str, *parts: str) -> list[str]:
        """The keyed hashes of `parts` under each of the keys, the current one's first."""
        return [_encode(_mac(secret, use, *parts)[:16]) for secret in self._secrets]

    def verify_tag(self, tag: str, use: str, *parts: str) -> bool:
        """Whether `tag` is the keyed hash of `parts` under any of the keys."""
        return any(equal(tag, one) for one in self.tags(use, *parts))

    def _mac_of(self, use: str, purpose: str, challenge_id: str) -> bytes:
        return _mac(self._by_id[challenge_id[:_KEY_ID_LENGTH]], use, purpose, challenge_id)


def random_id() -> str:
    """128 random bits in 22 characters."""
    return _encode(secrets.token_bytes(16))


def id_in(token: str) -> str | None:
    """The challenge id in a link token, or None if it is no token at all. Says nothing about whether it is genuine."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def equal(given: str, right: str) -> bool:
    """Compares in constant time; anything that is not ASCII is unequal."""
    return given.isascii() and hmac.compare_digest(given.encode(), right.encode())


def digest(value: str) -> str:
    """SHA-256 as 43 base64url characters, for values that are random enough to need no key."""
    return _encode(hashlib.sha256(value.encode()).digest())


def _mac(secret: bytes, use: str, *parts: str) -> bytes:
    # One key for each use, so that a value of one use is never a value of another; parts are parted by a character
    # that none of them can hold.
    key = hmac.digest(secret, b"magicauth:" + use.encode(), "sha256")
    return hmac.digest(key, "\0".join(parts).encode(), "sha256")


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
