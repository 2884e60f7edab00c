"""What a session holds, as Redis holds it."""

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from flask_babel.speaklater import LazyString
from markupsafe import Markup

# Stored as their numbers: their names were a third of a session's memory. A new one is added at the end.
_NUMBERED = (
    *("user_id", "name", "email", "phone", "admin", "has_password", "language", "joined", "updated"),
    *("epoch", "amr", "auth_time", "created", "seen", "remember", "browser", "ip", "pending"),
)
OURS = {*_NUMBERED, "confirming", "wanted", "notice"}
_NUMBER_OF: dict[str, Any] = {name: number for number, name in enumerate(_NUMBERED)}
_NAME_OF: dict[Any, str] = dict(enumerate(_NUMBERED))
# The number of msgpack's extension that stands for text that is HTML.
_MARKUP = 1


def encode(data: dict[str, Any]) -> bytes:
    """A session as Redis holds it."""
    numbered = {_NUMBER_OF.get(name, name): value for name, value in data.items()}
    return msgspec.msgpack.encode(numbered, enc_hook=_encode_text)


def decode(stored: bytes) -> dict[str, Any] | None:
    """What `encode` was given, or None for what is no session. Only msgpack, and never a pickle."""
    with contextlib.suppress(msgspec.DecodeError):
        data = msgspec.msgpack.decode(stored, ext_hook=_decode_text)
        # A number that a newer release has added stays one, and is written back as it came.
        return {_NAME_OF.get(key) or key: value for key, value in data.items()} if isinstance(data, dict) else None
    return None


def _encode_text(value: Any) -> Any:
    """What sites flash beside plain text: HTML, and sentences that are translated when they are read."""
    if isinstance(value, Markup):
        return msgspec.msgpack.Ext(_MARKUP, value.encode())
    if isinstance(value, LazyString):
        return str(value)
    raise TypeError(f"A session cannot hold {value!r}.")


def _decode_text(kind: int, content: memoryview) -> Any:
    if kind != _MARKUP:
        # One that a newer release has added is written back as it came.
        return msgspec.msgpack.Ext(kind, bytes(content))
    return Markup(bytes(content).decode(errors="replace"))  # noqa: S704  (what the site had called so)


def of_the_site(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a site's own pages have put into a session."""
    # A number is a name of ours that only a newer release knows.
    return {name: value for name, value in data.items() if isinstance(name, str) and name not in OURS}


def merged(read: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """What two requests that have read the same have made of it: of what both changed, `ours`."""
    changed = {name: value for name, value in ours.items() if name not in read or read[name] != value}
    removed = read.keys() - ours.keys()
    return {name: value for name, value in (theirs | changed).items() if name not in removed}
