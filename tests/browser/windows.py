"""Windows of a real browser, each a browser of its own, that complain like a careful user."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import wait_for
from flask import Flask
from flask.testing import FlaskClient
from pages import EMAIL, PASSWORD, Letter, Letters, sign_up
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page

# What the tests of these journeys wait for at most; in real life it is there at once.
PATIENCE_MS = 30_000
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_DESKTOP = {"viewport": {"width": 1280, "height": 800}}
_PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
# Into the console, where every test looks: what moved without anybody having touched it. (The full stop after a
# countdown may.)
_REPORT_SHIFTS = """
new PerformanceObserver((list) => list.getEntries().forEach((shift) => {
  const moved = shift.sources.map((source) => source.node?.outerHTML?.slice(0, 80)).join(", ");
  if (!shift.hadRecentInput && shift.value > 0.001) console.error(`layout shift of ${shift.value}: ${moved}`);
})).observe({ type: "layout-shift", buffered: true });
"""
# Chromium's words for every page that refuses something. A 500 is never meant.
_REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (4\d\d|503) ")


@dataclass(frozen=True)
class Kind:
    """How somebody looks at the pages."""

    phone: bool = False
    javascript: bool = True
    dark: bool = False
    language: str = "en-US"
    zone: str = "UTC"
    scale: float = 0.0

    def __str__(self) -> str:
        words = ("phone" if self.phone else "desktop", "script" if self.javascript else "no script")
        return ", ".join((*words, "dark" if self.dark else "light"))

    @property
    def options(self) -> dict[str, Any]:
        """As Playwright names them."""
        return {
            **(_PHONE if self.phone else _DESKTOP),
            "java_script_enabled": self.javascript,
            "color_scheme": "dark" if self.dark else "light",
            "locale": self.language,
            "timezone_id": self.zone,
            "reduced_motion": "reduce",
            **({"device_scale_factor": self.scale} if self.scale else {}),
        }


DESKTOP = Kind()
PHONE = Kind(phone=True, dark=True)
NO_SCRIPT = Kind(javascript=False, dark=True)
for_both = pytest.mark.parametrize("window", [PHONE, NO_SCRIPT], indirect=True, ids=str)
# What needs no script of ours is walked without one in the tests of the pages.
on_a_phone = pytest.mark.parametrize("window", [PHONE], indirect=True, ids=str)


class Site:
    """The app, served on a port of its own, and its letters."""

    def __init__(self, app: Flask, url: str) -> None:
        self.app = app
        self.url = url
        self.mailbox = Letters(app)

    def letter(self, to: str | None = None) -> Letter:
        """The newest letter, delivered."""
        return self.mailbox.last(to)

    def with_account(self, email: str = EMAIL, password: str = PASSWORD, name: str = "Ada Lovelace") -> FlaskClient:
        """Makes an account, quickly; the client that is returned is signed in to it."""
        client = self.app.test_client()
        client.environ_base["HTTP_USER_AGENT"] = FIREFOX
        assert sign_up(client, email, password, name).location == "/home"
        return client


class Window:
    """One tab of one browser. What a user would frown at is kept in `faults`."""

    def __init__(self, context: BrowserContext, site: Site, kind: Kind, page: Page | None = None) -> None:
        self.context = context
        self.site = site
        self.kind = kind
        self.faults: list[str] = []
        if page is None:
            context.set_default_timeout(PATIENCE_MS)
            if kind.javascript:
                context.add_init_script(_REPORT_SHIFTS)
        self.page = page or context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def tab(self) -> "Window":
        """Another tab of the same browser; its faults are this one's."""
        tab = Window(self.context, self.site, self.kind, self.context.new_page())
        tab.faults = self.faults
        return tab

    def go(self, path: str) -> "Window":
        """Opens a path of ours, or a whole address."""
        self.page.goto(path if ":" in path else self.site.url + path)
        return self

    @property
    def path(self) -> str:
        """Path and query of the address bar."""
        parts = urlsplit(self.page.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    @property
    def heading(self) -> str:
        """The one heading of first rank."""
        return self.page.locator("h1").inner_text()

    @property
    def text(self) -> str:
        """All that can be read."""
        return self.page.locator("body").inner_text()

    @property
    def focused(self) -> str:
        """The id of what has the focus."""
        return str(self.page.evaluate("document.activeElement?.id ?? ''"))

    def focus_is_on(self, element: str) -> bool:
        """Waits until what has that id has the focus: a page that was just drawn gives it a moment later."""
        return bool(wait_for(lambda: self.focused == element, PATIENCE_MS / 1000))

    def field(self, label: str) -> Locator:
        """The field so labelled."""
        return self.page.get_by_label(label, exact=True)

    def button(self, label: str) -> Locator:
        """The button so labelled."""
        return self.page.get_by_role("button", name=label, exact=True)

    def link(self, label: str) -> Locator:
        """The link so labelled."""
        return self.page.get_by_role("link", name=label, exact=True)

    def fill(self, **fields: str) -> "Window":
        """Types into fields, by label: spaces for underscores."""
        for label, text in fields.items():
            self.field(label.replace("_", " ")).fill(text)
        return self

    def press(self, label: str) -> "Window":
        """Presses a button."""
        self.button(label).click()
        return self

    def follow(self, label: str) -> "Window":
        """Follows a link."""
        self.link(label).click()
        return self

    def see(self, selector: str) -> "Window":
        """Waits until that is there."""
        self.page.locator(selector).first.wait_for()
        return self

    def arrive(self, path: str) -> "Window":
        """Waits until the address bar says `path` (its query apart)."""
        self.page.wait_for_url(lambda url: urlsplit(url).path == path)
        return self

    def type_code(self, code: str) -> "Window":
        """Types the code; without a script it takes a press too."""
        self.page.locator("#OTP").fill(code)
        if not self.kind.javascript:
            self.press("Continue")
        return self

    def sign_in(self, email: str = EMAIL, password: str = PASSWORD) -> "Window":
        """By password and mailed code."""
        self.go("/auth").fill(Email=email, Password=password).press("Continue").arrive("/verify")
        return self.type_code(self.site.letter(email).code).arrive("/home")

    def ask_to_sign_in(self, password: str = PASSWORD) -> "Window":
        """What the form of `/auth` does, without its page."""
        fields = {"email": EMAIL, "password": password}
        assert self.context.request.post(f"{self.site.url}/auth", form=fields, max_redirects=0).status == 303
        return self

    def become(self, client: FlaskClient) -> "Window":
        """Takes over the session and device of a client: quicker than signing in, where that is not what is told."""
        cookies = [(name, client.get_cookie(name)) for name in ("magicauth", "magicauth-device")]
        self.context.add_cookies(
            [
                {"name": name, "value": cookie.value, "url": self.site.url, "httpOnly": True}
                for name, cookie in cookies
                if cookie
            ]
        )
        return self

    def signed_in_as(self) -> str | None:
        """Whose session this browser has, if any."""
        answer = self.context.request.get(f"{self.site.url}/home", headers={"Accept": "application/json"})
        return answer.json()["user"]["email"] if answer.status == 200 else None

    def _hear(self, message: ConsoleMessage) -> None:
        # A letter in its sandbox runs nothing, not even what these tests bring along.
        meant = _REFUSED.match(message.text) or (
            message.text.startswith("Blocked script execution") and "mailbox" in message.text
        )
        if message.type in ("error", "warning") and not meant:
            self.faults.append(f"{message.type} at {self.page.url}: {message.text}")


OpenWindow = Callable[..., Window]


def wrong(code: str) -> str:
    """Another code of that length."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


__all__ = [
    "DESKTOP",
    "FIREFOX",
    "NO_SCRIPT",
    "PHONE",
    "Kind",
    "OpenWindow",
    "Site",
    "Window",
    "for_both",
    "on_a_phone",
    "replace",
    "wrong",
]
