"""Development's post office: letters are kept as files in `instance/mailbox/`, and each is a line on the console."""

import email
import email.policy
import functools
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import flask_mail

from magicauth.outbox import Deliver

KEPT = 200
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

    def __init__(self, folder: Path, onward: Deliver | None = None) -> None:
        self._folder = folder
        self._onward = onward

    def deliver(self, message: flask_mail.Message) -> None:
        """Keeps `message`, says so on the console, and hands it on to the SMTP server if there is one."""
        if self._onward is not None:
            self._onward(message)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        draft = self._folder / f".{name}"
        draft.write_bytes(message.as_bytes())
        draft.rename(self._folder / f"{name}.eml")
        for path in sorted(self._folder.glob("*.eml"))[:-KEPT]:
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
        path = self._folder / f"{name}.eml"
        return _read(path) if path.is_file() else None


@functools.lru_cache(maxsize=KEPT)
def _read(path: Path) -> Kept:
    # A letter never changes, and takes milliseconds to read.
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    text = plain.get_content() if plain else ""
    code = _CODE.search(text)
    return Kept(
        id=path.stem,
        to=str(message["To"]),
        subject=str(message["Subject"]),
        text=text,
        html=html.get_content() if html else "",
        links=list(dict.fromkeys(_LINK.findall(text))),
        code="".join(code[1].split()) if code else "",
        sent_at=datetime.fromtimestamp(int(path.stem[:20]) / 1e9, UTC),
    )
