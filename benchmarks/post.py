"""A mail server as light as can be: takes every letter, and hands it to whoever waits for it."""

import asyncio
import email
import email.policy
import re
from collections import defaultdict


class Post:
    """The letters that came, by address."""

    def __init__(self) -> None:
        self.port = 0
        self.count = 0
        self._letters: defaultdict[str, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)

    async def open(self) -> None:
        """Listens, as long as its event loop lives."""
        server = await asyncio.get_running_loop().create_server(lambda: _Conversation(self), "127.0.0.1", backlog=1000)
        self.port = server.sockets[0].getsockname()[1]

    def take(self, to: str, letter: bytes) -> None:
        """A letter has come."""
        self.count += 1
        self._letters[to].put_nowait(letter)

    def forget(self, to: str) -> None:
        """Throws away what came for that address."""
        self._letters.pop(to, None)

    async def find(self, to: str, pattern: str, seconds: float = 60.0) -> str:
        """What the pattern's group finds in the next letter to `to` that has it, as it was sent or decoded."""
        async with asyncio.timeout(seconds):
            while True:
                letter = await self._letters[to].get()
                found = re.search(pattern, letter.decode("ascii", "replace")) or re.search(pattern, _text(letter))
                if found:
                    return found[1]

    async def quiet(self, seconds: float = 0.5) -> None:
        """Returns when for so long no letter has come."""
        before = -1
        while before != self.count:
            before = self.count
            await asyncio.sleep(seconds)


def _text(letter: bytes) -> str:
    body = email.message_from_bytes(letter, policy=email.policy.default).get_body(("plain",))
    return str(body.get_content()) if body else ""


class _Conversation(asyncio.Protocol):
    """As much of SMTP as a client needs that is always right."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._heard = b""
        self._to = ""
        self._in_letter = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(b"220 benchmark\r\n")

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while True:
            part, end, rest = self._heard.partition(b"\r\n.\r\n" if self._in_letter else b"\r\n")
            if not end:
                return
            self._heard = rest
            self._transport.write(self._answer(part))

    def _answer(self, part: bytes) -> bytes:
        if self._in_letter:
            self._in_letter = False
            self._post.take(self._to, part)
        elif part.upper().startswith(b"RCPT"):
            self._to = part[part.index(b"<") + 1 : part.index(b">")].decode()
        elif part.upper() == b"DATA":
            self._in_letter = True
            return b"354 go on\r\n"
        elif part.upper() == b"QUIT":
            return b"221 bye\r\n"
        return b"250 yes\r\n"
