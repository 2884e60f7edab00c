"""The boundary that browsers watch: cross-site requests, foreign hosts, proxies, and a front end of another origin."""

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from flask_cors import cross_origin
from instruments import quiet_app
from pages import EMAIL, JSON, PASSWORD, Browser, is_signed_in, other_browser, sign_up, sign_up_by_mail
from production import PUBLIC_URL, PublicBrowser, production
from werkzeug.test import create_environ, run_wsgi_app
from world import look, posts

FRONT_END = "https://app.example.org"


@pytest.fixture
def public(make_new_app: Any, tmp_path: Any) -> PublicBrowser:
    """A browser on a production app that has a front end of another origin on the same site."""
    return production(make_new_app, tmp_path, MAGICAUTH_ALLOWED_ORIGINS=FRONT_END).test_client()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


SITES = [None, "same-origin", "none", "same-site", "cross-site", "", "Same-Origin", "same-origin, cross-site", "\xff"]
ORIGINS = [
    None,
    PUBLIC_URL,
    FRONT_END,
    "null",
    "",
    "https://evil.example",
    "http://id.example.org",
    "https://id.example.org:8443",
    "https://id.example.org:443",
    "https://id.example.org/",
    "https://id.example.org/path",
    "https://ID.example.org",
    "https://id.example.org.",
    "https://id.example.org.evil.example",
    "https://id.example.org@evil.example",
    "https://evil.example#id.example.org",
    "https://evil.example?https://id.example.org",
    "https://evil.id.example.org",
    "https://example.org",
    "https://id-example.org",
    f"{PUBLIC_URL} {PUBLIC_URL}",
    f"{PUBLIC_URL}, https://evil.example",
    "https://app.example.org:8443",
    "http://app.example.org",
    "https://evil-app.example.org",
    "https://app.example.org.evil.example",
    "file://",
    "chrome-extension://abcdef",
    "http://localhost",
    "https://[",
    "https://id.example.org:port",
    "*",
    "\xff",
]


def _may(site: str | None, origin: str | None) -> bool:
    """What mechanisms.md says, in the words of a table: a browser's own account of itself, else where it came from."""
    return {
        "same-origin": True,
        "none": True,
        "same-site": origin == FRONT_END,
        None: origin in (None, PUBLIC_URL, FRONT_END),
    }.get(site, False)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_an_unsafe_request_of_another_site_is_403(public, method):
    for site, origin in itertools.product(SITES, ORIGINS):
        headers = {"Sec-Fetch-Site": site, "Origin": origin, **JSON}
        sent = {name: value for name, value in headers.items() if value is not None}
        answer = public.open("/logout", method=method, headers=sent)
        if _may(site, origin):
            assert answer.status_code == (401 if method == "POST" else 405), (site, origin)
        else:
            message = answer.get_json()["message"]
            assert (answer.status_code, message) == (403, "Cross-site request refused."), (site, origin)


def test_a_safe_request_may_come_from_anywhere(public):
    for site, origin in itertools.product(SITES, ORIGINS):
        headers = {name: value for name, value in (("Sec-Fetch-Site", site), ("Origin", origin)) if value is not None}
        assert public.get("/auth", headers=headers).status_code == 200, (site, origin)


def test_there_is_no_exemption_and_nothing_changes(client, mailbox):
    sign_up_by_mail(client)
    before = look(client.application)
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    form = {"email": EMAIL, "password": PASSWORD, "token": mailbox.last().token, "name": "Eve", "OTP": "000000"}
    for path in [*posts(client.application), "/nowhere"]:
        assert client.post(path, data=form, headers=evil).mimetype == "text/html"
        for sent in ({"data": form}, {"json": form}, {"data": b"{", "content_type": "application/json"}):
            answer = client.post(path, headers=evil | JSON, **sent)
            assert (answer.status_code, answer.get_json()["message"]) == (403, "Cross-site request refused."), path
            assert not answer.headers.getlist("Set-Cookie"), path
    assert look(client.application) == before
    assert is_signed_in(client)


def test_in_development_another_site_is_another_site_too(client):
    for origin in (
        "https://evil.example",
        "null",
        "",
        "http://localhost.evil.example",
        "http://[",
        "ftp://localhost",
        "x",
    ):
        assert client.post("/auth", json={"email": "x"}, headers={"Origin": origin}).status_code == 403, origin
    for origin in ("http://localhost:5000", "http://127.0.0.1", "http://[::1]:8000", "https://localhost"):
        assert client.post("/auth", json={"email": "x"}, headers={"Origin": origin}).status_code == 400, origin


def test_a_cross_site_request_is_refused_before_its_session_is_looked_up(closed_port, tmp_path):
    with quiet_app(f"redis://127.0.0.1:{closed_port}", tmp_path) as app:
        client = app.test_client(use_cookies=False)
        cookie = {"Cookie": "magicauth=" + "A" * 43}
        assert client.post("/logout", headers=cookie | JSON).status_code == 503
        evil = cookie | {"Sec-Fetch-Site": "cross-site"}
        assert client.post("/logout", headers=evil | JSON).status_code == 403


FOREIGN_HOSTS = [
    "evil.example",
    "id.example.org.evil.example",
    "evil.id.example.org",
    "example.org",
    "id.example.org.",
    "id.example.org:8443",
    "id.example.org:port",
    "id.example.org:99999",
    "id.example.org@evil.example",
    "evil.example@id.example.org",
    "id.example.org/evil",
    "id.example.org?evil",
    "id.example.org#evil",
    "id.example.org\\evil",
    "id.example.org evil.example",
    "id.example.org, evil.example",
    "id.example.org%00",
    "id.example.org\t",
    "[id.example.org]",
    "[::1]",
    "localhost",
    "127.0.0.1",
    "\xef\xbd\x89d.example.org",
    "",
]


def test_a_foreign_host_is_400_in_both_forms_wherever_it_asks(public):
    before = look(public.application)
    for host in FOREIGN_HOSTS:
        foreign = {"environ_overrides": {"HTTP_HOST": host}}
        for path in ("/", "/auth", "/home", "/verify", "/users/signup?token=x", "/nowhere"):
            page = public.get(path, **foreign)
            assert (page.status_code, page.mimetype) == (400, "text/html"), (host, path)
            assert "evil" not in page.text
            answer = public.get(path, headers=JSON, **foreign)
            assert (answer.status_code, answer.get_json()["message"]) == (400, "Host not allowed."), (host, path)
        assert public.get("/static/app.css", **foreign).status_code == 400, host
        answer = public.post("/users/magic_link", json={"email": EMAIL}, **foreign)
        assert (answer.status_code, answer.get_json()["message"]) == (400, "Host not allowed."), host
    with public.get("/static/app.css") as file:
        assert file.status_code == 200
    assert look(public.application) == before


def test_a_request_without_a_host_is_400(public):
    environ = create_environ("/auth", PUBLIC_URL)
    del environ["HTTP_HOST"]
    _, status, _ = run_wsgi_app(public.application, environ)
    assert status == "400 BAD REQUEST"


def test_our_own_host_is_ours_however_it_is_written(public):
    for host in ("id.example.org", "ID.Example.ORG", "id.example.org:443", "id.example.org:80"):
        assert public.get("/auth", environ_overrides={"HTTP_HOST": host}).status_code == 200, host


def test_machines_may_ask_after_health_by_any_name(public):
    for path in ("/healthz", "/readyz"):
        for host in ("10.0.0.7:8000", "evil.example", "web-1.internal"):
            answer = public.get(path, environ_overrides={"HTTP_HOST": host})
            assert (answer.status_code, answer.is_json) == (200, True), (path, host)


def test_development_with_a_public_url_answers_loopback_names_too(make_app):
    client = make_app(PUBLIC_URL="https://id.example.org").test_client()
    for host in ("id.example.org", "localhost:5001", "127.0.0.1", "[::1]:5000"):
        assert client.get("/auth", headers={"Host": host}).status_code == 200, host
    assert client.get("/auth", headers={"Host": "evil.example"}).status_code == 400


def test_development_answers_loopback_names_only(client):
    for host in ("localhost", "localhost:5000", "127.0.0.1:8000", "[::1]:5000"):
        assert client.get("/auth", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "localhost.evil.example",
        "192.168.1.7:5000",
        "0.0.0.0",
        "localhost/x",
        "[::2]",
        "[::1",
    ):
        assert client.get("/auth", headers={"Host": host}).status_code == 400, host


def test_forwarded_headers_are_believed_from_trusted_proxies_only(make_new_app, tmp_path):
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-For": "192.0.2.1"}
    public = production(make_new_app, tmp_path).test_client()
    assert public.get("/auth", headers=forwarded).status_code == 200
    behind_one = production(make_new_app, tmp_path, MAGICAUTH_TRUSTED_PROXIES=1).test_client()
    assert behind_one.get("/auth", headers=forwarded).status_code == 400
    own = {"X-Forwarded-Host": "evil.example, id.example.org"}
    assert behind_one.get("/auth", headers=own, environ_overrides={"HTTP_HOST": "10.0.0.7"}).status_code == 200


def test_an_origin_is_no_pattern(make_new_app, tmp_path):
    origin = "http://[::1]:3000"
    app = production(make_new_app, tmp_path, MAGICAUTH_ALLOWED_ORIGINS=f"{FRONT_END}, {origin}")
    for asking, named in [
        *((one, one) for one in (origin, FRONT_END)),
        *(
            (other, None)
            for other in (
                *("http://1:3000", "http://::3000", "http://1:3000.evil.com", "http://[::1]:30001"),
                *(f"{FRONT_END}.evil.com", "https://appxexample.org", f"{FRONT_END}:8443"),
            )
        ),
    ]:
        asked = {"Origin": asking, "Access-Control-Request-Method": "POST"}
        assert _preflight(app, "/auth", asked).headers.get("Access-Control-Allow-Origin") == named, asking


def _preflight(app: Flask, path: str, headers: dict[str, str]) -> Response:
    # Not by a browser that looks at pages: here is none to look at.
    return FlaskClient(app, Response).options(path, base_url=PUBLIC_URL, headers=headers)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_views_of_a_sites_own_may_be_called_by_other_methods(public, method):
    asked = {"Origin": FRONT_END, "Access-Control-Request-Method": method}
    assert method in _preflight(public.application, "/auth", asked).headers["Access-Control-Allow-Methods"]


def test_a_front_end_of_the_same_site_may_call_with_credentials(public):
    asking = {
        "Origin": FRONT_END,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for path in posts(public.application):
        answer = _preflight(public.application, path, asking)
        assert answer.status_code == 200, path
        assert answer.headers["Access-Control-Allow-Origin"] == FRONT_END, path
        assert answer.headers["Access-Control-Allow-Credentials"] == "true", path
        assert "POST" in answer.headers["Access-Control-Allow-Methods"], path
        assert answer.headers["Access-Control-Allow-Headers"].lower() == "content-type", path
        assert "Origin" in answer.vary, path
    for answer in (
        public.post("/auth", json={"email": "x"}, headers={"Origin": FRONT_END, "Sec-Fetch-Site": "same-site"}),
        public.get("/home", headers={"Origin": FRONT_END, "Sec-Fetch-Site": "same-site", **JSON}),
        public.post("/auth", data=b"{", content_type="application/json", headers={"Origin": FRONT_END}),
    ):
        assert answer.status_code in (400, 401)
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [FRONT_END]
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.vary


def test_a_front_end_reads_that_an_address_is_none(make_new_app, tmp_path):
    app = production(make_new_app, tmp_path, MAGICAUTH_ALLOWED_ORIGINS=FRONT_END, MAGICAUTH_PASSWORDS="off")
    asked = {"Origin": FRONT_END, "Access-Control-Request-Method": "POST"}
    for path in ("/nowhere", "/auth/reset", "/auth/password", "/account/password"):
        preflight = _preflight(app, path, asked)
        assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (200, FRONT_END), path
        answer = app.test_client().post(path, json={}, headers={"Origin": FRONT_END})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (404, FRONT_END), path
    assert _preflight(app, "/nowhere", {}).status_code == 404
    strange = _preflight(app, "/nowhere", asked | {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in strange.headers


def test_views_of_a_sites_own_answer_preflights_themselves(make_new_app, tmp_path):
    app = production(make_new_app, tmp_path, MAGICAUTH_ALLOWED_ORIGINS=FRONT_END)
    partner = "https://partner.example"

    @app.route("/api", methods=["POST"])
    @cross_origin(origins=[partner])
    def api():
        return "api"

    asked = {"Origin": partner, "Access-Control-Request-Method": "POST"}
    assert _preflight(app, "/api", asked).headers["Access-Control-Allow-Origin"] == partner


def test_no_other_origin_is_named(public):
    for origin in ORIGINS:
        if origin is None or origin == FRONT_END:
            continue
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = _preflight(public.application, "/auth", asking)
        for answer in (preflight, public.get("/auth", headers={"Origin": origin})):
            assert not [name for name, _ in answer.headers if name.startswith("Access-Control")], origin


def test_without_a_front_end_cors_is_closed(app):
    client = FlaskClient(app, Response)
    for origin in ("https://app.example.org", "http://localhost:3000", "null"):
        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (client.options("/logout", headers=asking), client.get("/healthz", headers=asking)):
            assert not [name for name, _ in answer.headers if name.startswith("Access-Control")], origin


def test_files_name_no_origin_either(public):
    with public.get("/static/app.css", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_two_browsers_never_share_a_session(client: Browser, mailbox: Any) -> None:
    sign_up(client)
    assert not is_signed_in(other_browser(client))
