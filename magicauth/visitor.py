"""Who asks: client address, browser, and which accounts this browser is known to by its device cookie."""

import re
import time
from dataclasses import dataclass

from flask import Response, current_app, g, request
from flask_babel import get_locale

from magicauth import cookies
from magicauth.crypto import random_id
from magicauth.errors import N_
from magicauth.extensions import keyring
from magicauth.limits import Asker
from magicauth.network import ip_address

# What stands in a browser's place where a command does it.
COMMAND_LINE = N_("command line")
_DEVICE_COOKIE_LIFE = 180 * 86_400
# A browser that several people share knows this many accounts; the one that signed in longest ago is forgotten.
_ACCOUNTS_PER_DEVICE = 8
_DEVICE = re.compile(r"([A-Za-z0-9_-]{22})((?:\.[0-9]{1,12}-[A-Za-z0-9_-]{22}){1,8})")

_WITH_PORT = re.compile(r"(?:([0-9.]+)|\[([0-9a-fA-F:.%]+)\])(?::[0-9]{1,5})?")

_BROWSERS = [
    ("Edge", "Edg"),
    ("Opera", "OPR/"),
    ("Samsung Internet", "SamsungBrowser"),
    ("Firefox", "Firefox/"),
    ("Firefox", "FxiOS"),
    ("Chrome", "CriOS"),
    ("Chrome", "Chrome/"),
    ("Safari", "Safari/"),
    ("curl", "curl/"),
]
_SYSTEMS = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("ChromeOS", "CrOS"),
    ("macOS", "Mac OS X"),
    ("Linux", "Linux"),
]


@dataclass(frozen=True)
class Visitor:
    """The one who asks. `browser` is a summary such as "Firefox on Linux", "" if unknown; `device_cookie` as it came;
    `base_url` begins links in development, where PUBLIC_URL may be unset."""

    ip: str
    browser: str
    base_url: str
    language: str
    device_cookie: str = ""

    def asker(self, email: str, epoch: int) -> Asker:
        """How questions about `email` (canonical) from this visitor are counted; `epoch` is its account's, or 0."""
        return Asker(email, self.ip, self.device(email, epoch))

    def device(self, email: str, epoch: int, since: float = 0) -> str:
        """The id of this browser if it has signed in to the account of `email` before, but after `since`, else "". Not
        before the change that raised the account's epoch to what it is: what ends a thief's sessions ends this too."""
        device_id, accounts = _read_device(self.device_cookie)
        oldest = max(time.time() - _DEVICE_COOKIE_LIFE, int(since) - 1)
        known = [
            tag
            for at, tag in accounts
            if at > oldest and keyring().verify_tag(tag, *_tag_parts(device_id, at, email, epoch))
        ]
        return device_id if known else ""


def visitor() -> Visitor:
    """The visitor of the current request."""
    if "_magicauth_visitor" not in g:
        g._magicauth_visitor = _visitor()
    here: Visitor = g._magicauth_visitor
    return here


def _visitor() -> Visitor:
    return Visitor(
        ip=_address(request.remote_addr or ""),
        browser=summary(request.user_agent.string),
        base_url=current_app.config["PUBLIC_URL"] or request.host_url.rstrip("/"),
        language=str(get_locale() or "en"),
        device_cookie=request.cookies.get(device_cookie_name(), ""),
    )


def _address(text: str) -> str:
    """An IP address as it is written; "" for what a proxy or client put in its place."""
    # Some proxies write the port too.
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return ""


def summary(user_agent: str) -> str:
    """Browser and system in a few words of ours, so that no letter or page shows what a stranger wrote there."""
    browser = next((name for name, mark in _BROWSERS if mark in user_agent), "")
    system = next((name for name, mark in _SYSTEMS if mark in user_agent), "")
    return " on ".join(filter(None, (browser, system)))


def remember_device(response: Response, email: str, epoch: int) -> None:
    """Gives the browser, which has just signed in to the account of `email`, the cookie that proves it."""
    device_id, accounts = _read_device(request.cookies.get(device_cookie_name(), ""))
    device_id = device_id or random_id()
    now, keys = int(time.time()), keyring()
    others = [
        (at, tag)
        for at, tag in accounts
        if at > now - _DEVICE_COOKIE_LIFE
        # Those of the same account take no other's place, nor do those from before its last changes.
        and not any(
            keys.verify_tag(tag, *_tag_parts(device_id, at, email, earlier))
            for earlier in range(max(0, epoch - _ACCOUNTS_PER_DEVICE), epoch + 1)
        )
    ]
    kept = [(now, keys.tag(*_tag_parts(device_id, now, email, epoch))), *others][:_ACCOUNTS_PER_DEVICE]
    value = device_id + "".join(f".{at}-{tag}" for at, tag in kept)
    cookies.give(response, device_cookie_name(), value, _DEVICE_COOKIE_LIFE)


def _tag_parts(device_id: str, at: int, email: str, epoch: int) -> tuple[str, ...]:
    return "device", device_id, str(at), email, str(epoch)


def device_cookie_name() -> str:
    """`__Host-` where that can be: with it no sibling domain can plant one."""
    return "__Host-magicauth-device" if current_app.config["SESSION_COOKIE_SECURE"] else "magicauth-device"


def _read_device(cookie: str) -> tuple[str, list[tuple[int, str]]]:
    match = _DEVICE.fullmatch(cookie)
    if match is None:
        return "", []
    accounts = [entry.split("-", 1) for entry in match[2][1:].split(".")]
    return match[1], [(int(at), tag) for at, tag in accounts]
