"""Headers on every answer, whatever its status and form: what browsers may load, frame, keep and tell; and cookies."""

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from instruments import later, quiet_app
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, sign_up
from production import PublicBrowser, production
from werkzeug.test import TestResponse
from world import gets

ALWAYS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
NO_TOKEN = "A" * 26 + "." + "A" * 43

# Each: the status, the path, and the rest of a request that is answered with it.
REQUESTS: list[tuple[int, str, dict[str, Any]]] = [
    (200, "/auth", {}),
    (200, "/auth", {"method": "HEAD"}),
    (200, "/auth", {"method": "OPTIONS"}),
    (200, "/healthz", {}),
    (200, "/readyz", {}),
    (200, "/accent.css", {}),
    (200, "/users/magic_link/sent", {}),
    (200, "/users/magic_link", {"method": "POST", "json": {"email": EMAIL}}),
    (303, "/", {}),
    (303, "/home", {}),
    (303, "/users/magic_link", {"method": "POST", "data": {"email": EMAIL}}),
    (308, "/auth//link", {}),
    (400, "/auth", {"method": "POST"}),
    (400, "/auth", {"method": "POST", "data": b"{", "content_type": "application/json"}),
    (400, "/auth", {"environ_overrides": {"HTTP_HOST": "evil.example"}}),
    (400, "/users/signup", {}),
    (401, "/logout", {"method": "POST", "headers": JSON}),
    (401, "/auth", {"method": "POST", "data": {"email": EMAIL, "password": PASSWORD}}),
    (403, "/auth", {"method": "POST", "headers": {"Sec-Fetch-Site": "cross-site"}}),
    (403, f"/auth/link?token={NO_TOKEN}", {}),
    (403, f"/users/signup?token={NO_TOKEN}", {"headers": JSON}),
    (404, "/nowhere", {}),
    (404, "/static/nothing.css", {}),
    (404, "/verify", {"headers": JSON}),
    (405, "/auth", {"method": "DELETE"}),
    (413, "/auth", {"method": "POST", "data": b"x" * (65 * 1024)}),
    (415, "/auth", {"method": "POST", "data": b"x", "content_type": "text/plain"}),
]
FILES: list[tuple[int, dict[str, Any]]] = [
    (200, {}),
    (200, {"method": "HEAD"}),
    (206, {"headers": {"Range": "bytes=0-9"}}),
    (304, {"headers": {"If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"}}),
    (405, {"method": "POST"}),
    (416, {"headers": {"Range": "bytes=999999999-"}}),
]


@pytest.fixture(params=["development", "http://localhost:8000", "https://id.example.org"])
def deployment(request: pytest.FixtureRequest, make_new_app: Any, tmp_path: Any) -> Flask:
    """An app in development, in production on a loopback name, and in production on https."""
    if request.param == "development":
        return make_new_app()
    return production(make_new_app, tmp_path, PUBLIC_URL=request.param)


def ask(app: Flask, path: str, **request: Any) -> TestResponse:
    """The answer to any request, not only to a browser's."""
    return FlaskClient(app, Response).open(path, base_url=app.config["PUBLIC_URL"], **request)


def assert_headers(answer: Any, what: Any, *, https: bool = False) -> None:
    """The headers that no answer goes without, each once."""
    for name, value in ALWAYS.items():
        assert answer.headers.getlist(name) == [value], (what, name)
    transport = answer.headers.getlist("Strict-Transport-Security")
    assert transport == (["max-age=31536000"] if https else []), what
    assert not {"Server", "X-Powered-By"} & set(answer.headers.keys()), what


def test_every_answer_has_the_headers_and_is_not_stored(deployment):
    https = (deployment.config["PUBLIC_URL"] or "").startswith("https")
    for status, path, request in REQUESTS:
        answer = ask(deployment, path, **request)
        assert answer.status_code == status, (path, request)
        assert_headers(answer, (path, request), https=https)
        assert answer.headers.getlist("Cache-Control") == ["no-store"], (path, request)
        assert answer.headers.getlist("X-Frame-Options") == ["DENY"], (path, request)
    for path in gets(deployment):
        for headers in ({}, JSON):
            assert_headers(ask(deployment, path, headers=headers), path, https=https)


def test_files_have_the_headers_and_are_kept(deployment):
    https = (deployment.config["PUBLIC_URL"] or "").startswith("https")
    for status, request in FILES:
        with closing(ask(deployment, "/static/app.css", **request)) as answer:
            assert answer.status_code == status, request
            assert_headers(answer, request, https=https)
            assert not answer.headers.getlist("Set-Cookie")
            if status in (200, 206, 304):
                assert answer.headers["Cache-Control"] == "max-age=31536000, public"


def test_files_that_root_prepared_can_be_read_by_the_sites_own_user(redis_url, tmp_path):
    umask = os.umask(0o077)
    try:
        with quiet_app(redis_url, tmp_path):
            (folder,) = tmp_path.glob("static-*")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


def test_files_that_cannot_be_prepared_are_served_as_they_are(redis_url, tmp_path):
    with quiet_app(redis_url, tmp_path):
        (folder,) = tmp_path.glob("static-*")
    shutil.rmtree(folder)
    # As one that belongs to somebody else, whom root, who may run the tests, is not kept from.
    folder.touch(mode=0o600)
    with quiet_app(redis_url, tmp_path) as app, closing(app.test_client().get("/static/app.css")) as answer:
        assert answer.status_code == 200


def test_a_page_names_its_files_by_what_is_in_them(client):
    assert 'href="/static/app.css?v=' in client.get("/auth").text


def test_a_429_has_the_headers_and_says_when_to_come_back(app):
    asked = [ask(app, "/users/magic_link", method="POST", json={"email": EMAIL}) for _ in range(6)]
    assert [answer.status_code for answer in asked] == [200] * 5 + [429]
    page = ask(app, "/users/magic_link", method="POST", data={"email": EMAIL})
    for answer in (asked[-1], page):
        assert_headers(answer, "429")
        assert answer.headers["Cache-Control"] == "no-store"
        assert 1 <= int(answer.headers["Retry-After"]) <= 3600


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_503_has_the_headers_and_says_when_to_come_back(closed_port, tmp_path):
    with quiet_app(f"redis://127.0.0.1:{closed_port}", tmp_path) as app:
        for path, request in (
            ("/home", {"headers": {"Cookie": "magicauth=" + "A" * 43}}),
            ("/home", {"headers": {"Cookie": "magicauth=" + "A" * 43, **JSON}}),
            ("/auth", {"method": "POST", "data": {"email": EMAIL}}),
            ("/users/magic_link", {"method": "POST", "json": {"email": EMAIL}}),
            ("/readyz", {}),
        ):
            answer = app.test_client(use_cookies=False).open(path, **request)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), path
            assert_headers(answer, path)
            assert answer.headers["Cache-Control"] == "no-store"
            assert "redis" not in answer.text.lower() or path == "/readyz"
        for path in ("/auth", "/users/magic_link", "/healthz", "/static/app.css", "/nowhere"):
            with closing(ask(app, path)) as answer:
                assert answer.status_code in (200, 404), path


def test_a_redis_that_takes_no_writes_is_a_503_and_no_trace(client, mailbox, redis):
    sign_up(client)
    mailbox.all()
    redis.config_set("maxmemory", "1")
    try:
        with later(redis, 120):
            answer = client.post("/account/password", json={"old_password": PASSWORD, "password": "other long words"})
            page = client.post("/account", data={"name": "Ada King"})
            assert client.get("/home").status_code == 200
    finally:
        redis.config_set("maxmemory", "0")
    for refused in (answer, page):
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert_headers(refused, "full")
    assert is_signed_in(client)


def test_a_stranger_who_looks_around_gets_no_cookie(app):
    client = app.test_client()
    for path in [*gets(app), "/static/app.css", "/nowhere"]:
        with closing(client.get(path)) as answer:
            assert not answer.headers.getlist("Set-Cookie"), path


def _cookies(answer: TestResponse) -> dict[str, list[str]]:
    found = {}
    for line in answer.headers.getlist("Set-Cookie"):
        name_and_value, *attributes = line.split("; ")
        found[name_and_value.partition("=")[0]] = sorted(attributes)
    return found


def test_on_https_cookies_are_for_this_host_alone(make_app):
    app = make_app(PUBLIC_URL="https://id.example.org")
    app.test_client_class = PublicBrowser
    client = app.test_client()
    client.post("/users/magic_link", data={"email": EMAIL})
    letter = Letters(app).last()
    assert letter.links[0].startswith("https://id.example.org/users/signup?token=")
    done = client.post("/users/signup", data={"token": letter.token, "name": "Ada", "password": PASSWORD})
    cookies = _cookies(done)
    assert set(cookies) == {"__Host-magicauth", "__Host-magicauth-device"}
    assert cookies["__Host-magicauth"] == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]
    device = cookies["__Host-magicauth-device"]
    assert {"HttpOnly", "Path=/", "SameSite=Lax", "Secure", f"Max-Age={180 * 86_400}"} <= set(device)
    assert not [attribute for attribute in device if attribute.startswith("Domain")]
    assert is_signed_in(client)
    gone = _cookies(client.post("/logout"))
    assert {"Max-Age=0", "Secure", "Path=/", "HttpOnly"} <= set(gone["__Host-magicauth"])
    assert "__Host-magicauth-device" not in gone
    assert not is_signed_in(client)


def test_on_http_cookies_are_http_only_and_lax(client, mailbox):
    client.post("/users/magic_link", data={"email": EMAIL})
    form = {"token": mailbox.last().token, "name": "Ada", "password": PASSWORD}
    cookies = _cookies(client.post("/users/signup", data=form))
    assert set(cookies) == {"magicauth", "magicauth-device"}
    assert cookies["magicauth"] == ["HttpOnly", "Path=/", "SameSite=Lax"]
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookies["magicauth-device"])


def test_nothing_of_what_was_shown_is_kept_after_signing_out(client, mailbox):
    sign_up(client)
    shown = client.get("/home")
    assert "Ada Lovelace" in shown.text
    assert shown.headers["Cache-Control"] == "no-store"
    assert client.post("/logout").headers["Clear-Site-Data"] == '"cache"'
    assert client.get("/home").location == "/auth?next=/home"
    assert client.get("/home", headers={"If-None-Match": "*", "If-Modified-Since": "x"}).status_code == 303


def test_json_never_names_more_than_it_should(client):
    for path in ("/healthz", "/nowhere"):
        assert client.get(path, headers=JSON).headers["Content-Type"] == "application/json"


def test_accept_decides_the_form_of_the_answer(client):
    for accept, mimetype in (
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json;q=0.9, text/html;q=0.8", "application/json"),
        ("Application/JSON", "application/json"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("text/html;q=0.8, application/json;q=0.8", "text/html"),
        ("*/*", "text/html"),
        ("", "text/html"),
        ("text/*", "text/html"),
        ("application/*", "application/json"),
        ("text/html;q=0.5, application/*", "application/json"),
        ("text/html;q=0.5, */*", "application/json"),
        ("text/html;q=0.5, */*;q=0.1", "text/html"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/jsonx", "text/html"),
        ("application/json;q=0", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html"),
    ):
        answer = client.get("/auth", headers={"Accept": accept})
        assert (answer.status_code, answer.mimetype) == (200, mimetype), accept
