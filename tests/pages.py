"""Walking the pages: browsers, their letters, and the journeys that most tests begin with."""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask
from flask.testing import FlaskClient
from lxml import html
from werkzeug.test import TestResponse

from magicauth import challenges

EMAIL = "ada@example.org"
PASSWORD = "correct horse battery staple"
JSON = {"Accept": "application/json"}


class Browser(FlaskClient):
    """A test client that looks at every page it is given as a careful reviewer would."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        assert response.status_code != 500, response.text
        if response.mimetype == "text/html" and response.status_code != 303 and "sandbox" not in _csp(response):
            check_page(response)
        return response


def check_page(response: TestResponse) -> None:
    """Title, one h1, a label for each input, unique ids, nothing inline, a strict policy, not stored."""
    # BeautifulSoup takes ten times as long, for ten thousand pages.
    page = html.document_fromstring(response.data)
    assert page.findtext("head/title", "").strip()
    assert len(page.findall(".//h1")) == 1
    assert page.get("lang") and page.get("dir")
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids)), ids
    labelled = set(page.xpath("//label/@for"))
    for field in page.xpath("//input[not(@type='hidden')] | //select | //textarea"):
        assert field.get("id") in labelled, html.tostring(field)
    assert not page.xpath("//@style | //style")
    assert not page.xpath("//script[not(@src)]")
    assert "default-src 'self'" in _csp(response)
    assert response.headers["Cache-Control"] == "no-store"


def _csp(response: TestResponse) -> str:
    return response.headers.get("Content-Security-Policy", "")


@dataclass(frozen=True)
class Letter:
    """A letter that arrived."""

    to: str
    subject: str
    text: str
    html: str
    links: list[str]
    code: str
    sent_at: str

    @property
    def link(self) -> str:
        """Path and query of its first link."""
        parts = urlsplit(self.links[0])
        return f"{parts.path}?{parts.query}"

    @property
    def token(self) -> str:
        """The token of its first link."""
        return parse_qs(urlsplit(self.links[0]).query)["token"][0]


class Letters:
    """The post of an app: waits until every queued letter is delivered, then reads the mailbox."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def all(self, to: str | None = None) -> list[Letter]:
        """The letters, the newest first."""
        self._delivered()
        messages = self._app.test_client().get("/dev/mailbox", headers=JSON).get_json()["messages"]
        return [Letter(**message) for message in messages if to in (None, message["to"])]

    def last(self, to: str | None = None) -> Letter:
        """The newest letter."""
        return self.all(to)[0]

    def _delivered(self) -> None:
        client = self._app.extensions["magicauth-redis"]
        end = time.monotonic() + 10
        while client.hlen("{magicauth-mail}:letters.msgs"):
            assert time.monotonic() < end, "letters are stuck in the queue"
            time.sleep(0.002)


def sign_up(
    client: FlaskClient, email: str = EMAIL, password: str = PASSWORD, name: str = "Ada Lovelace"
) -> TestResponse:
    """Signs up by a link; the browser is signed in afterwards. The link's letter is left out, which takes longer than
    all else."""
    with client.application.app_context():
        token = challenges.issue("sign_up", email).token
    return client.post("/users/signup", data={"token": token, "name": name, "password": password})


def sign_up_by_mail(client: FlaskClient, email: str = EMAIL) -> TestResponse:
    """The same by the letter, as everybody does."""
    assert client.post("/users/magic_link", data={"email": email}).status_code == 303
    token = Letters(client.application).last(email).token
    return client.post("/users/signup", data={"token": token, "name": "Ada Lovelace", "password": PASSWORD})


def sign_in(client: FlaskClient, email: str = EMAIL, password: str = PASSWORD, **form: str) -> TestResponse:
    """Signs in by password and mailed code."""
    assert client.post("/auth", data={"email": email, "password": password, **form}).status_code == 303
    return client.post("/verify", data={"OTP": Letters(client.application).last(email).code})


def other_browser(client: FlaskClient) -> FlaskClient:
    """A second browser on the same app."""
    return client.application.test_client()


def is_signed_in(client: FlaskClient) -> bool:
    """Whether the guarded page lets this browser in."""
    return client.get("/home", headers=JSON).status_code == 200
