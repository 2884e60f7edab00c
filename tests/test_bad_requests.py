"""Paths, methods, queries and cookies that are odd: the contract's answer, and nothing changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Response
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruments import quiet_app, redis_commands
from pages import EMAIL, JSON, Browser, sign_up
from world import doors, gets, look

from magicauth.visitor import visitor


@pytest.fixture
def quiet(redis: Any, redis_url: str, tmp_path: Path) -> Iterator[Browser]:
    """A browser on an app without a mail worker, whose thread would draw on the chance that hypothesis counts on."""
    with quiet_app(redis_url, tmp_path) as app:
        yield app.test_client(use_cookies=False)


PATHS = [
    "/nowhere",
    "/auth/",
    "/auth//",
    "/home/",
    "/users/",
    "/users/signup/",
    "/Auth",
    "/AUTH",
    "/auth%00",
    "/auth%0a",
    "/auth%20",
    "/%61uth/x",
    "/%FF",
    "/%ED%A0%80",
    "/.git/config",
    "/../etc/passwd",
    "/static/",
    "/static/../config.py",
    "/static/%2e%2e/config.py",
    "/static/..%2fconfig.py",
    "/static/nothing.css",
    "/static/%00",
    "/static/app.css/",
    "/users/1",
    "/auth;jsessionid=1",
    "/dev/mailbox/",
    "/dev/mailbox/../x",
    "/" + "a" * 8000,
    "/favicon.ico",
]


def test_an_unknown_path_is_404_in_both_forms(client):
    for path in PATHS:
        page = client.get(path)
        assert (page.status_code, page.mimetype) == (404, "text/html"), path
        answer = client.get(path, headers=JSON)
        assert (answer.status_code, answer.get_json()) == (404, {"status": "FAIL", "message": "Not found."}), path
        assert client.post(path, json={}).status_code == 404, path


def test_slashes_before_a_path_lead_nowhere_else(app):
    client = FlaskClient(app, Response)
    for path in ("//evil.example", "//evil.example/home", "///home", "/auth//link", "//users//signup"):
        answer = client.open("/", environ_overrides={"PATH_INFO": path})
        assert answer.status_code in (303, 308, 404), path
        location = answer.headers.get("Location", "/auth")
        assert location.startswith(("/auth", "http://localhost/")), path
        assert "//" not in location.removeprefix("http://"), path


def test_another_method_is_405_with_those_allowed_and_changes_nothing(client, mailbox):
    sign_up(client)
    before = look(client.application)
    for path, allowed in doors(client.application).items():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "BREW"):
            if method not in allowed:
                answer = client.open(path, method=method, headers=JSON)
                message = answer.get_json()["message"]
                assert (answer.status_code, message) == (405, "Method Not Allowed."), (method, path)
                assert set(answer.headers["Allow"].split(", ")) == allowed, (method, path)
    assert look(client.application) == before


def test_another_method_is_405_on_files_too(client):
    for method in ("POST", "PUT", "DELETE", "BREW"):
        answer = client.open("/static/app.css", method=method)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD"), method


def test_options_tells_the_methods_and_changes_nothing(app):
    before = look(app)
    # Not a browser that looks at pages: here is none to look at.
    client = FlaskClient(app, Response)
    for path, allowed in doors(app).items():
        answer = client.options(path)
        assert answer.status_code == 200, path
        assert set(answer.headers["Allow"].split(", ")) == allowed, path
    assert look(app) == before


def test_head_answers_what_get_does_without_a_body(app):
    client = FlaskClient(app, Response)
    for path in [*gets(app), "/static/app.css", "/nowhere"]:
        with client.get(path) as get, client.head(path) as head:
            assert (head.status_code, head.data) == (get.status_code, b""), path
            assert head.headers.get("Location") == get.headers.get("Location")
            assert head.mimetype == get.mimetype
            assert head.headers.get("Content-Length") == get.headers.get("Content-Length")


def test_a_get_reads_no_body(client):
    before = look(client.application)
    for path in gets(client.application):
        plain = client.get(path, headers=JSON)
        for body in (b'{"token": "x"', b"x" * (65 * 1024), b'{"token": "x", "email": "y"}'):
            with_body = client.get(path, data=body, content_type="application/json")
            assert (with_body.status_code, with_body.mimetype) == (plain.status_code, plain.mimetype), path
    assert look(client.application) == before


QUERIES = ["%FF", "%ED%A0%80", "%00", "%0d%0aX:%20y", "%", "%zz", "\xff", "a" * 8000, "&&=&=", "%C0%AF", "1&1"]


def test_a_query_of_any_bytes_is_harmless_on_every_page(client):
    before = look(client.application)
    for path in gets(client.application):
        for query in QUERIES:
            everything = "&".join(f"{name}={query}" for name in ("token", "next", "email", "after", "limit", "before"))
            answer = client.open(path=path, query_string=everything, method="GET")
            assert answer.status_code in (200, 303, 400, 403, 404), (path, query)
            assert "\n" not in answer.headers.get("Location", "")
            assert not answer.headers.getlist("Set-Cookie")
    assert look(client.application) == before


COOKIES = [
    "magicauth=",
    "magicauth=" + "A" * 43,
    "magicauth=" + "A" * 42,
    "magicauth=" + "A" * 10_000,
    "magicauth=\xff\xfe",
    "magicauth=\x00",
    'magicauth="\\377\\000"',
    "magicauth=../../etc/passwd",
    "magicauth=magicauth:session:" + "A" * 15,
    "magicauth=" + "A" * 43 + "; magicauth=" + "B" * 43,
    "__Host-magicauth=" + "A" * 43,
    "magicauth-device=" + "A" * 22,
    "magicauth-device=" + "A" * 22 + ".999999999999-" + "B" * 22,
    "magicauth-device=" + "A" * 22 + (".1-" + "B" * 22) * 8,
    "magicauth-device=" + "A" * 22 + (".1-" + "B" * 22) * 9,
    "magicauth-device=\x00",
    "magicauth-language=xx",
    "magicauth-language=\xff",
    "magicauth-language=../en",
    ";;;=;=",
    "=",
    "a" * 8000,
    "",
]


def test_a_cookie_of_any_bytes_signs_nobody_in(app):
    client = app.test_client(use_cookies=False)
    before = look(app)
    for cookie in COOKIES:
        sent = {"Cookie": cookie, **JSON}
        for path in gets(app):
            answer = client.get(path, headers=sent)
            assert answer.status_code in (200, 303, 400, 401, 404), (path, cookie)
        assert client.get("/home", headers=sent).status_code == 401, cookie
        assert client.post("/logout", headers=sent).status_code == 401, cookie
        assert client.post("/verify", json={"OTP": "000000"}, headers=sent).status_code == 404, cookie
    assert look(app) == before


def test_a_session_cookie_of_the_wrong_form_is_not_even_looked_up(app, redis):
    client = app.test_client(use_cookies=False)
    with redis_commands(redis) as sent:
        for value in ("A" * 42, "A" * 44, "*" * 43, "magicauth:session:x"):
            client.get("/home", headers={"Cookie": f"magicauth={value}", **JSON})
    assert "GET" not in sent
    with redis_commands(redis) as sent:
        client.get("/home", headers={"Cookie": "magicauth=" + "A" * 43, **JSON})
    assert "GET" in sent


examples = settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@examples
@given(
    name=st.sampled_from(["magicauth", "magicauth-device", "magicauth-language"]),
    cookie=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=100),
)
def test_any_cookie_gets_the_answer_of_a_stranger(quiet, name, cookie):
    header = {"Cookie": f"{name}={cookie}"}
    assert quiet.get("/home", headers=header | JSON).status_code == 401
    assert quiet.post("/auth", json={"email": ""}, headers=header).status_code == 400


@examples
@given(cookie=st.text() | st.from_regex(r"[A-Za-z0-9_-]{22}(\.[0-9]{1,12}-[A-Za-z0-9_-]{22}){0,9}", fullmatch=True))
def test_no_cookie_but_one_of_ours_makes_a_browser_known_to_an_account(quiet, cookie):
    header = {"Cookie": f"magicauth-device={cookie}".encode().decode("latin-1").replace("\r", "").replace("\n", "")}
    with quiet.application.test_request_context("/", headers=header):
        assert visitor().device(EMAIL, 0) == ""


@pytest.mark.parametrize("referrer", ["http://[", "http://[::1", "http://a]b/", "\x7f", "//"])
def test_a_referrer_that_is_none_is_no_error_of_ours(client, referrer):
    for path, status in (("/nowhere", 404), ("/account/sessions/end_others", 303), ("/auth/reset", 400)):
        assert client.post(path, headers={"Referer": referrer}).status_code == status
