"""Development's post office: letters are kept as files in `instance/mailbox/`, and each is a line on the console."""

import contextlib
import email
import functools
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

import flask_mail

from magicauth.outbox import Post

_KEPT = 200
_LINK = re.compile(r"https?://[^\s<>\"]+")
# Six to ten digits, grouped as letters group them, on a line of their own.
_CODE = re.compile(r"^\s*([0-9]{3,5}(?:[ \u00a0][0-9]{1,5}){1,3}|[0-9]{6,10})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Kept:
    """A letter in the mailbox. `code` is bare digits, "" if there is none; `id` names it in `/dev/mailbox/<id>`."""

    id: str
    to: str
    subject: str
    text: str
    html: str
    links: list[str]
    code: str
    sent_at: datetime


class Mailbox:
    """The letters of one instance folder. Files, not Redis: they hold codes, and Redis never does."""

    def __init__(self, folder: Path, onward: Post | None = None) -> None:
        self._folder = folder
        self._onward = onward

    def reach(self) -> None:
        """Sees whether the SMTP server is there, if there is one."""
        if self._onward is not None:
            self._onward.reach()

    def hang_up(self) -> None:
        """The last act of a worker's thread."""
        if self._onward is not None:
            self._onward.hang_up()

    def deliver(self, message: flask_mail.Message) -> None:
        """Hands `message` on to the SMTP server, if there is one, keeps it and says so on the console."""
        if self._onward is not None:
            self._onward.deliver(message)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        draft = self._folder / f".{name}"
        draft.write_bytes(message.as_bytes())
        draft.rename(self._folder / f"{name}.eml")
        for path in sorted(self._folder.glob("*.eml"))[:-_KEPT]:
            path.unlink(missing_ok=True)
        kept = self.get(name)
        if kept is not None:
            print(f"Letter to {kept.to}: {kept.subject}", *kept.links[:1], sep="\n  ", flush=True)

    def all(self) -> list[Kept]:
        """Every letter, the newest first."""
        names = sorted((path.stem for path in self._folder.glob("*.eml")), reverse=True)
        return [kept for name in names if (kept := self.get(name)) is not None]

    def get(self, name: str) -> Kept | None:
        """The letter of that id."""
        if not re.fullmatch(r"[0-9]{20}-[0-9a-f]{8}", name):
            return None
        # It may be thrown away at this moment, as one too many.
        with contextlib.suppress(FileNotFoundError):
            return _read(self._folder / f"{name}.eml")
        return None


@functools.lru_cache(maxsize=_KEPT)
def _read(path: Path) -> Kept:
    # A letter never changes. Python's newer policy of messages takes twelve times as long to read one.
    message = email.message_from_bytes(path.read_bytes())
    texts = {part.get_content_type(): _content(part) for part in message.walk() if not part.is_multipart()}
    text = texts.get("text/plain", "")
    code = _CODE.search(text)
    return Kept(
        id=path.stem,
        to=_header(message, "To"),
        subject=_header(message, "Subject"),
        text=text,
        html=texts.get("text/html", ""),
        links=list(dict.fromkeys(_LINK.findall(text))),
        code="".join(code[1].split()) if code else "",
        sent_at=datetime.fromtimestamp(int(path.stem[:20]) / 1e9, UTC),
    )


def _content(part: Message) -> str:
    content = part.get_payload(decode=True)
    return content.decode(part.get_content_charset("utf-8"), "replace") if isinstance(content, bytes) else ""


def _header(message: Message, name: str) -> str:
    return str(make_header(decode_header(message[name] or "")))
