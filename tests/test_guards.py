"""Guards: who is let in, where the others are sent, and a site builder's own pages behind them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint, Flask, render_template_string, request
from flask.testing import FlaskClient
from instruments import change_user, later
from pages import EMAIL, JSON, PASSWORD, Browser, Letters, is_signed_in, other_browser, sign_in, sign_up
from world import look

import magicauth
from magicauth import admin_required, current_user, fresh_sign_in_required, login_required

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def app(make_new_app: Callable[..., Flask]) -> Flask:
    """One that a page can be added to."""
    return make_new_app()


@pytest.fixture
def site(app: Flask) -> Flask:
    """An app with pages of a site builder's own, one behind each guard."""
    pages = Blueprint("pages", __name__)

    @pages.get("/reports")
    @login_required
    def reports() -> str:
        return f"Reports for {current_user.name}"

    @pages.get("/reports/<int:number>")
    @login_required
    def report(number: int) -> dict[str, object]:
        return {"number": number, "email": current_user.email, "id": current_user.id}

    @pages.get("/reports/of/<path:name>")
    @login_required
    def of(name: str) -> list[str]:
        return [name, request.query_string.decode()]

    @pages.get("/reports/secret/<path:name>")
    @fresh_sign_in_required
    def secret(name: str) -> list[str]:
        return [name, request.query_string.decode()]

    @pages.route("/reports/größe", methods=["GET", "POST"])
    @fresh_sign_in_required
    def size() -> str:
        return render_template_string("{{ magicauth.typed.get('note') }}")

    @pages.post("/reports/press")
    @fresh_sign_in_required
    def press() -> str:
        return "pressed"

    @pages.post("/reports/send")
    @login_required
    def send() -> dict[str, str]:
        return {"sent": "yes"}

    @pages.route("/reports/vault", methods=["GET", "POST"])
    @fresh_sign_in_required
    def vault() -> dict[str, str]:
        return {"vault": "open"}

    @pages.get("/reports/all")
    @admin_required
    def everything() -> dict[str, str]:
        return {"all": "of them"}

    @pages.get("/open")
    def anybody() -> dict[str, object]:
        return {"name": current_user.name if current_user else None}

    app.register_blueprint(pages)
    return app


def test_the_example_of_the_readme_guards_a_page(make_new_app, monkeypatch):
    """A stranger comes back to the page after signing in; a program gets a 401."""
    (example,) = [
        code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "/reports" in code
    ]
    # The stage's own: development, its own stores, letters that arrive.
    monkeypatch.setattr(magicauth, "create_app", make_new_app)
    site: dict[str, Any] = {"__name__": "site"}
    exec(compile(example, "README.md", "exec"), site)
    # A string without a page's furniture: no `Browser` that looks at pages.
    app = site["app"]
    sign_up(app.test_client())
    browser = app.test_client()
    sent_away = browser.get("/reports")
    assert (sent_away.status_code, sent_away.location) == (303, "/auth?next=/reports")
    assert browser.get("/reports", headers=JSON).status_code == 401
    form = browser.get(sent_away.location)
    assert '<input type="hidden" name="next" value="/reports">' in form.text
    assert sign_in(browser, next="/reports").location == "/reports"
    assert super(Browser, browser).open("/reports").text == "Reports for Ada Lovelace"


def test_a_stranger_is_sent_to_sign_in_and_comes_back_to_the_very_page(site, mailbox):
    sign_up(site.test_client())
    browser = site.test_client()
    asked = "/reports/7?year=2026&tag=a%20b&tag=ü"
    away = browser.get(asked)
    assert away.status_code == 303
    assert away.location.startswith("/auth?next=/reports/7%3F")
    hidden = re.search(r'name="next" value="([^"]+)"', browser.get(away.location).text)
    assert hidden is not None
    done = sign_in(browser, next=hidden[1].replace("&amp;", "&"))
    assert browser.get(done.location).get_json()["number"] == 7
    assert "year=2026&tag=a%20b&tag=%C3%BC" in done.location


@pytest.mark.parametrize(
    "asked",
    [
        "C%23",
        "what%3F",
        "100%25",
        "a%2541",
        "a%20b",
        "%C3%BC",
        "a;b=c,d",
        "x?q=why?",
        "x?a=%23&b=%C3%BC",
        "x?",
        "a+b?c+d",
    ],
)
def test_a_name_with_signs_in_it_leads_back_to_what_was_asked_for(site, mailbox, redis, asked):
    browser = site.test_client()
    sign_up(browser)
    meant = browser.get(f"/reports/of/{asked}").get_json()
    browser.post("/logout")
    away = parse_qs(urlsplit(browser.get(f"/reports/of/{asked}").location).query)["next"][0]
    assert browser.get(sign_in(browser, next=away).location).get_json() == meant
    with later(redis, 1000):
        assert browser.get(f"/reports/secret/{asked}").location == "/auth/fresh"
        back = browser.post("/auth/fresh", data={"password": PASSWORD}).location
        assert browser.get(back).get_json() == meant
    answer = browser.post("/language", data={"language": "de", "back": away})
    assert browser.get(answer.location).get_json() == meant


def test_a_page_whose_own_name_is_encoded_is_found_again(app, site, redis):
    app.test_client_class = FlaskClient
    browser, page = app.test_client(), "/reports/gr%C3%B6%C3%9Fe"
    sign_up(browser)
    assert browser.post("/language", data={"language": "de", "back": page}).location == page
    with later(redis, 1000):
        assert browser.post(page, data={"note": "typed"}).location == "/auth/fresh"
        assert browser.post("/auth/fresh", data={"password": PASSWORD}).location == page
        assert browser.get(page).text == "typed"
        with later(redis, 1000):
            browser.post("/reports/press", headers={"Referer": f"http://localhost{page}"})
            assert browser.post("/auth/fresh", data={"password": PASSWORD}).location == page


def test_a_program_gets_a_401(site):
    answer = site.test_client().get("/reports", headers=JSON)
    assert (answer.status_code, answer.get_json()) == (401, {"status": "FAIL", "message": "Sign in required."})
    assert site.test_client().post("/reports/send", json={}).status_code == 401


def test_a_form_without_a_page_of_its_own_leads_to_sign_in_without_next(site):
    answer = site.test_client().post("/reports/send", data={"x": "y"})
    assert (answer.status_code, answer.location) == (303, "/auth")
    answer = site.test_client().post("/reports/vault", data={"x": "y"})
    assert (answer.status_code, answer.location) == (303, "/auth?next=/reports/vault")


def test_logout_leads_to_sign_in_without_next(client):
    assert client.post("/logout").location == "/auth"
    assert client.post("/logout", headers=JSON).status_code == 401


def test_every_guarded_door_is_shut_for_strangers_and_changes_nothing(app, mailbox):
    before = look(app)
    stranger = app.test_client()
    guarded = 0
    for rule in app.url_map.iter_rules():
        guard = getattr(app.view_functions[rule.endpoint], "guard", None)
        for method in {"GET", "POST"} & (rule.methods or set()) if guard else ():
            guarded += 1
            for headers in ({}, {"Cookie": "magicauth=" + "A" * 43}):
                page = app.test_client(use_cookies=False).open(rule.rule, method=method, headers=headers)
                assert (page.status_code, page.location.partition("?")[0]) == (303, "/auth"), rule
            answer = stranger.open(rule.rule, method=method, headers=JSON)
            assert (answer.status_code, answer.get_json()["message"]) == (401, "Sign in required."), rule
    assert guarded >= 20
    assert look(app) == before


def test_somebody_who_has_proven_only_one_thing_is_a_stranger(site, mailbox):
    sign_up(site.test_client())
    for password in ("", PASSWORD):
        browser = site.test_client()
        browser.post("/auth", data={"email": EMAIL, "password": password})
        assert browser.get("/reports", headers=JSON).status_code == 401
        assert browser.get("/open").get_json() == {"name": None}
    browser = site.test_client()
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/auth/password"
    assert browser.get("/reports", headers=JSON).status_code == 401


def test_current_user_is_nobody_for_a_stranger_and_somebody_for_who_is_signed_in(site, mailbox):
    browser = site.test_client()
    assert browser.get("/open").get_json() == {"name": None}
    sign_up(browser)
    assert browser.get("/open").get_json() == {"name": "Ada Lovelace"}
    assert browser.get("/reports/1").get_json()["email"] == EMAIL
    browser.post("/logout")
    assert browser.get("/open").get_json() == {"name": None}


def test_a_stale_sign_in_is_asked_again_and_then_goes_on(site, mailbox, redis):
    browser = site.test_client()
    sign_up(browser)
    assert browser.get("/reports/vault").get_json() == {"vault": "open"}
    with later(redis, 901):
        away = browser.get("/reports/vault")
        assert (away.status_code, away.location) == (303, "/auth/fresh")
        answer = browser.get("/reports/vault", headers=JSON)
        assert (answer.status_code, answer.get_json()["message"]) == (403, "Fresh sign-in required.")
        assert browser.post("/reports/vault", json={}).status_code == 403
        assert browser.get("/reports/1").status_code == 200
        browser.get("/reports/vault?shelf=7&shelf=8")
        assert browser.post("/auth/fresh", data={"password": PASSWORD}).location == "/reports/vault?shelf=7&shelf=8"
        assert browser.get("/reports/vault").get_json() == {"vault": "open"}


def test_a_stranger_at_a_fresh_door_signs_in_first(site):
    answer = site.test_client().get("/reports/vault")
    assert answer.location == "/auth?next=/reports/vault"
    assert site.test_client().get("/reports/vault", headers=JSON).status_code == 401


def test_only_administrators_pass_and_only_as_long_as_they_are(site, mailbox):
    browser = site.test_client()
    assert browser.get("/reports/all", headers=JSON).status_code == 401
    sign_up(browser)
    refused = browser.get("/reports/all", headers=JSON)
    assert (refused.status_code, refused.get_json()["message"]) == (403, "Access denied.")
    assert browser.get("/reports/all").status_code == 403
    assert site.test_cli_runner().invoke(args=["users", "promote", EMAIL]).exit_code == 0
    if not is_signed_in(browser):
        sign_in(browser)
    assert browser.get("/reports/all").get_json() == {"all": "of them"}
    change_user(site, is_admin=False)
    assert browser.get("/reports/all", headers=JSON).status_code == 403


def test_a_deleted_account_is_a_stranger_at_every_guard(site, mailbox):
    browser, other = site.test_client(), other_browser(site.test_client())
    sign_up(browser)
    sign_in(other)
    assert site.test_cli_runner().invoke(args=["users", "delete", EMAIL, "--yes"]).exit_code == 0
    for one in (browser, other):
        for path in ("/reports", "/reports/vault", "/reports/all", "/home"):
            assert one.get(path, headers=JSON).status_code == 401, path


def test_a_page_of_a_site_builder_gets_the_headers_and_refusals_of_the_house(site):
    answer = site.test_client().get("/open")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    evil = {"Sec-Fetch-Site": "cross-site"}
    assert site.test_client().post("/reports/send", headers=evil | JSON).status_code == 403
    assert Letters(site).all() == []
