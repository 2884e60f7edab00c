"""Chromium, once for all tests of this folder; the site, once for each."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from browser.windows import DESKTOP, Kind, OpenWindow, Site, Window

# Debian's: the shell draws no window around the page, which makes it a third quicker.
CHROMIUMS = [Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium")]
_OPTIONS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--disable-gpu",
    # One process draws the pages of all windows, where each would begin one of its own: a third of the time.
    "--renderer-process-limit=1",
    "--disable-site-isolation-trials",
]


class _Quietly(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser. Skips where there is none; on CI that is a failure."""
    found = next((path for path in CHROMIUMS if path.exists()), None)
    if found is None:
        sentence = f"No Chromium at {CHROMIUMS[-1]}: `apt-get install chromium` brings it."
        pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def serve(make_app: Callable[..., Flask]) -> Iterator[Callable[..., Site]]:
    """Serves apps with the settings given, on free ports, until the test ends."""
    servers = []

    def start(**settings: Any) -> Site:
        app = make_app(**settings)
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quietly)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return Site(app, f"http://localhost:{server.server_port}")

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site(serve: Callable[..., Site]) -> Site:
    """The site with the default settings."""
    return serve()


@pytest.fixture
def open_window(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[OpenWindow]:
    """Opens windows, each of a browser that nobody has used; at the end none may have had a fault."""
    windows: list[Window] = []

    def open_one(kind: Kind = DESKTOP, site: Site | None = None) -> Window:
        window = Window(chromium.new_context(**kind.options), site or request.getfixturevalue("site"), kind)
        windows.append(window)
        return window

    yield open_one
    for window in windows:
        window.context.close()
    assert not [fault for window in windows for fault in window.faults]


@pytest.fixture
def window(open_window: OpenWindow, request: pytest.FixtureRequest) -> Window:
    """One window, of the kind that the test is parametrised with."""
    return open_window(getattr(request, "param", DESKTOP))
