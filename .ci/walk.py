"""Walks a fresh clone as its first visitor: `walk.py FOLDER` runs its `flask run`, signs up and in, and restarts it."""

import http.cookiejar
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EMAIL = "ada@example.org"
PASSWORD = "correct horse battery staple"  # noqa: S105 - of nobody
PATIENCE = 30.0


class Browser:
    """Follows redirects and keeps cookies."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)

    def get(self, path: str) -> tuple[str, str]:
        """Where it leads to in the end, and the page there."""
        return self._open(path, None)

    def post(self, path: str, **form: str) -> tuple[str, str]:
        """The same for a form that is sent."""
        return self._open(path, urllib.parse.urlencode(form).encode())

    def letter(self, link: str) -> Any:
        """Waits in the mailbox for a letter with a link to that path."""
        return wait_for(lambda: next((letter for letter in self._letters() if link in str(letter["links"])), None))

    def _open(self, path: str, body: bytes | None) -> tuple[str, str]:
        with self._opener.open(urllib.parse.urljoin(self._base_url, path), body, timeout=10) as answer:
            return urllib.parse.urlsplit(answer.url).path, answer.read().decode()

    def _letters(self) -> Any:
        address = urllib.parse.urljoin(self._base_url, "/dev/mailbox")
        request = urllib.request.Request(address, headers={"Accept": "application/json"})  # noqa: S310 - our own
        with self._opener.open(request, timeout=10) as answer:
            return json.load(answer)["messages"]


@contextmanager
def running(folder: Path, port: int) -> Iterator[None]:
    """The app, by the README's command."""
    env = {**os.environ, "FLASK_RUN_PORT": str(port)}
    server = subprocess.Popen([".venv/bin/flask", "run"], cwd=folder, env=env, start_new_session=True)
    try:
        wait_for(lambda: server.poll() is None and answers(port))
        yield
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(PATIENCE)


def walk(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    browser = Browser(f"http://127.0.0.1:{port}")
    with running(folder, port):
        expect(browser.get("/"), "/auth", "Sign in")
        expect(browser.post("/users/magic_link", email=EMAIL), "/users/magic_link/sent", "inbox")
        link = browser.letter("/users/signup?")["links"][0]
        expect(browser.get(link), "/users/signup", EMAIL)
        token = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]
        expect(browser.post("/users/signup", token=token, name="Ada", password=PASSWORD), "/home", "Ada")
        expect(browser.post("/logout"), "/auth", "Sign in")
        expect(browser.get("/home"), "/auth", "Sign in")
        expect(browser.post("/auth", email=EMAIL, password=PASSWORD), "/verify", EMAIL)
        expect(browser.post("/verify", OTP=browser.letter("/auth/link?")["code"]), "/home", "Ada")
    with running(folder, port):
        expect(browser.get("/home"), "/home", "Ada")
    # Development's own Redis ends by itself when its last app has gone.
    wait_for(lambda: not (folder / "instance" / "redis" / "redis.sock").exists())
    print("walked: signed up, out, in again; still signed in after a restart")


def expect(there: tuple[str, str], path: str, words: str) -> None:
    if there[0] != path or words not in there[1]:
        sys.exit(f"expected {words!r} at {path}, but was at {there[0]}:\n{there[1]}")


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    sys.exit("waited in vain")


if __name__ == "__main__":
    walk(Path(sys.argv[1]))
