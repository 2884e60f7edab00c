"""People, many at once in one process of their own: browsers on connections that stay open, and whole journeys."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from benchmarks.post import Post

# More at once than threads, so that letters on their way do not leave the server waiting.
PEOPLE = 64
PASSWORD = "an unusual sentence to type"
CODE = r"Subject: ([0-9 ]+) is your"
_SIGN_UP_LINK = r"token=([A-Za-z0-9_.-]+)"


@dataclass(frozen=True)
class Rate:
    """How many a second, and how long the middle one and the slowest of a hundred took."""

    per_second: float
    p50_ms: float
    p99_ms: float
    count: int


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Browser:
    """A connection and its cookies."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._host, _, port = address.partition(":")
        self._port = int(port)
        self._reader: asyncio.StreamReader | None = None
        self.cookies: dict[str, str] = {}

    async def get(self, path: str) -> Answer:
        """Asks for JSON where there is any."""
        return await self._ask("GET", path, b"")

    async def post(self, path: str, fields: dict[str, str], *, form: bool = False) -> Answer:
        """Sends JSON, or a form."""
        if form:
            kind, body = "application/x-www-form-urlencoded", urlencode(fields)
        else:
            kind, body = "application/json", json.dumps(fields)
        return await self._ask("POST", path, body.encode(), f"Content-Type: {kind}\r\n")

    async def close(self) -> None:
        """Hangs up."""
        if self._reader is not None:
            self._writer.close()
            self._reader = None

    async def _ask(self, method: str, path: str, body: bytes, more: str = "") -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAccept: application/json\r\n{more}"
        head += f"Cookie: {cookies}\r\n" if cookies else ""
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        kept = self._reader is not None
        try:
            return await self._converse(request)
        except (ConnectionError, asyncio.IncompleteReadError):
            # The server had closed a connection that said nothing for long; a browser opens another.
            await self.close()
            if not kept:
                raise
            return await self._converse(request)

    async def _converse(self, request: bytes) -> Answer:
        if self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(request)
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]
        length = int(next((value for name, value in headers if name == "content-length"), "0"))
        answer = Answer(int(first.split()[1]), headers, await self._reader.readexactly(length))
        for name, value in headers:
            if name == "set-cookie":
                cookie, _, content = value.partition(";")[0].partition("=")
                self.cookies[cookie] = content
                if not content:
                    del self.cookies[cookie]
        if ("connection", "close") in headers:
            await self.close()
        return answer


def must(answer: Answer, *statuses: int) -> Answer:
    """The answer, if its status is one of those. Raises RuntimeError."""
    if answer.status not in (statuses or (200,)):
        raise RuntimeError(f"{answer.status}: {answer.body[:200]!r}")
    return answer


async def sign_in(browser: Browser, post: Post, email: str, password: str = "") -> None:
    """The address, and the password if there is one; the code of the letter; signed in."""
    browser.cookies.pop("magicauth", None)
    post.forget(email)
    fields = {"email": email} | ({"password": password} if password else {})
    must(await browser.post("/auth", fields))
    must(await browser.post("/verify", {"OTP": await post.find(email, CODE)}))


async def sign_in_to_flask_security(browser: Browser, post: Post, email: str) -> None:
    """Its unified sign-in: the address, the code, signed in."""
    browser.cookies.pop("session", None)
    post.forget(email)
    must(await browser.post("/us-signin/send-code", {"identity": email, "chosen_method": "email"}))
    code = await post.find(email, r"following code: ([0-9]+)")
    must(await browser.post("/us-signin", {"identity": email, "passcode": code}))


async def sign_in_to_django_allauth(browser: Browser, post: Post, email: str) -> None:
    """Its login by code: the address, the code, signed in."""
    browser.cookies.pop("sessionid", None)
    post.forget(email)
    # What its page sets, and its form sends along.
    token = {"csrfmiddlewaretoken": browser.cookies.setdefault("csrftoken", "a" * 32)}
    must(await browser.post("/accounts/login/code/", token | {"email": email}, form=True), 302)
    code = await post.find(email, r"\n([0-9A-Z-]{6,9})\r?\n")
    token = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    must(await browser.post("/accounts/login/code/confirm/", token | {"code": code}, form=True), 302)


async def sign_up(browser: Browser, post: Post, email: str) -> None:
    """The address; the link of the letter; name and password; signed in."""
    must(await browser.post("/users/magic_link", {"email": email}))
    token = await post.find(email, _SIGN_UP_LINK, 600)
    must(await browser.get(f"/users/signup?token={token}"))
    must(await browser.post("/users/signup", {"token": token, "name": "Ada", "password": PASSWORD}), 201)


async def all_busy(tasks: Sequence[Callable[[], Awaitable[None]]], seconds: float) -> Rate:
    """Each task over and over, all at once, for so many seconds."""
    times: list[float] = []
    started = time.monotonic()

    async def over_and_over(task: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < started + seconds:
            before = time.perf_counter()
            await task()
            times.append(time.perf_counter() - before)

    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(over_and_over(task))
    return rate(times, time.monotonic() - started)


def rate(times: Sequence[float], seconds: float) -> Rate:
    """The figures of what took those `times`, all within so many seconds."""
    ordered = sorted(times)
    p50, p99 = (ordered[int(len(ordered) * part)] * 1000 for part in (0.5, 0.99))
    return Rate(round(len(times) / seconds, 1), round(p50, 2), round(p99, 2), len(times))
