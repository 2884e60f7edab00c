"""Steps that are over and sessions that have ended: people are told in plain words, and led on."""

import pytest
from bs4 import BeautifulSoup
from instruments import later, same_browser
from pages import EMAIL, JSON, PASSWORD, other_browser, sign_in


@pytest.fixture
def browser(ada):
    """Another browser, where nobody is signed in."""
    return other_browser(ada)


def page_of(answer):
    return BeautifulSoup(answer.text, "html.parser").main


# --- steps -----------------------------------------------------------------------------------------------------------


def second_code(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    tab, code = same_browser(browser), {"OTP": mailbox.last(EMAIL).code}
    browser.post("/verify", data=code)
    return tab, "/verify", code


def second_new_password(browser, mailbox):
    browser.post("/auth/reset", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    tab, form = same_browser(browser), {"password": "seven other horses graze"}
    browser.post("/auth/reset/password", data=form)
    return tab, "/auth/reset/password", form


def letter_again_after_lunch(browser, _mailbox):
    return browser, "/verify/resend", {}


@pytest.mark.parametrize("press", [second_code, second_new_password, letter_again_after_lunch])
def test_a_step_that_is_over_is_no_page_that_was_not_found(browser, mailbox, press):
    tab, path, form = press(browser, mailbox)
    answer = tab.post(path, data=form)
    page = page_of(answer)
    assert (answer.status_code, page.h1.get_text()) == (404, "This step is over")
    assert "mistyped" not in page.get_text()
    assert [link["href"] for link in page.find_all("a")] == ["/auth"]
    assert tab.post(path, json=form).get_json()["message"] in ("OTP not found", "Sign-in not found.")


def test_a_code_that_was_typed_in_another_tab_leads_to_the_password(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL})
    code = {"OTP": mailbox.last(EMAIL).code}
    assert browser.post("/verify", data=code).location == "/auth/password"
    assert browser.post("/verify", data=code).location == "/auth/password"
    assert browser.post("/verify", json=code).status_code == 404


def test_a_code_that_does_not_make_the_sign_in_fresh_is_told_of_in_plain_words(ada, mailbox, redis):
    with later(redis, 901):
        ada.post("/auth/fresh/code")
        code = mailbox.last(EMAIL).code
        page = page_of(ada.post("/auth/fresh", data={"OTP": "x"}))
        assert page.select_one("#error-summary a")["href"] == "#OTP"
        assert "OTP" not in page.get_text()
        with later(redis, 601):
            page = page_of(ada.post("/auth/fresh", data={"OTP": code}))
            assert "That code is no longer good." in page.get_text() and "OTP" not in page.get_text()
            assert page.find("input", {"name": "OTP"}) is None
            assert page_of(ada.get("/auth/fresh")).find("input", {"name": "OTP"}) is None


def test_after_saying_who_one_is_the_form_waits_for_one_more_press(ada, redis):
    with later(redis, 901):
        ada.post("/account/email", data={"email": "new@example.org"})
        assert ada.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/email"
        page = page_of(ada.get("/account/email"))
        assert page.find("input", {"name": "email"})["value"] == "new@example.org"
        assert "Press the button once more to finish." in page.select_one("[role=status]").get_text()


def test_a_form_that_comes_after_another_tab_has_signed_out_is_told_of_too(ada):
    ada.post("/logout")
    assert ada.post("/account", data={"name": "Ada"}).location == "/auth?next=/account"
    assert "what you sent was not saved" in page_of(ada.get("/auth")).select_one(".notice").get_text()


def test_a_page_of_somebody_signed_in_is_known_as_one_and_waits_for_no_sign_in(ada, redis):
    """What it shows is taken away when another tab signs out; that another tab is signed in leads it nowhere."""
    ada.post("/account/email", data={"email": "new@example.org"})
    asked = ["/verify", "/users/magic_link/sent", "/account"]
    with later(redis, 1000):
        for path in [*asked, "/auth/fresh"]:
            main = page_of(ada.get(path))
            assert (main.has_attr("data-signed-in"), main.has_attr("data-waiting")) == (True, False), path
    stranger = ada.application.test_client()
    stranger.post("/auth", data={"email": "grace@example.org"})
    for path in asked[:2]:
        main = page_of(stranger.get(path))
        assert (main.has_attr("data-signed-in"), main.has_attr("data-waiting")) == (False, True), path


def test_what_a_program_did_is_no_news_on_a_page_that_is_opened_later(ada):
    ada.post("/account", json={"name": "Ada King"})
    assert page_of(ada.get("/account")).select_one(".notice") is None
    ada.post("/account", data={"name": "Ada"})
    assert page_of(ada.get("/account")).select_one(".notice").get_text() == "Saved."


# --- sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("GET", "Your session has ended. Sign in, and you go on where you were."),
        ("POST", "Your session has ended, and what you sent was not saved. Sign in, and send it again."),
    ],
)
def test_a_session_that_ended_meanwhile_is_told_of_once(ada, redis, method, words):
    with later(redis, 1801):
        assert ada.open("/account", method=method, data={"name": "Ada"}).location == "/auth?next=/account"
        assert page_of(ada.get("/auth")).select_one(".notice").get_text() == words
        assert page_of(ada.get("/auth")).select_one(".notice") is None


def test_who_never_had_one_is_not_told_that_it_ended(browser):
    answer = browser.get("/account")
    assert (answer.location, answer.headers.getlist("Set-Cookie")) == ("/auth?next=/account", [])


# --- detours ---------------------------------------------------------------------------------------------------------


def test_where_one_was_going_and_the_tick_outlive_a_wrong_address(browser):
    browser.post("/auth", data={"email": "adq@example.org", "next": "/account/activity", "remember": "on"})
    way = page_of(browser.get("/verify")).find("a", string="Wrong address?")["href"]
    assert way == "/auth?email=adq%40example.org&next=%2Faccount%2Factivity&remember=on"
    form = page_of(browser.get(way)).form
    assert form.find("input", {"name": "next"})["value"] == "/account/activity"
    assert form.find("input", {"name": "remember"}).has_attr("checked")


def test_where_one_was_going_outlives_a_forgotten_password(browser, mailbox):
    way = page_of(browser.get("/auth?next=/account/activity")).find("a", string="Forgot your password?")["href"]
    form = page_of(browser.get(way)).form
    browser.post("/auth/reset", data={"email": EMAIL, "next": form.find("input", {"name": "next"})["value"]})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    answer = browser.post("/auth/reset/password", data={"password": "seven other horses graze"})
    assert answer.location == "/account/activity"


def test_from_the_password_too_one_goes_on_to_where_one_was_going(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "next": "/account/activity"})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    page = page_of(browser.get("/auth/password"))
    ways = {link.get_text(): link["href"] for link in page.select(".more a")}
    assert ways["Not you?"] == "/auth?next=%2Faccount%2Factivity"
    assert ways["Forgot your password?"] == "/auth/reset?email=ada%40example.org&next=%2Faccount%2Factivity"


def test_a_link_of_somebody_elses_leads_nowhere_else(browser):
    for path in ("/auth/reset", "/auth"):
        assert page_of(browser.get(f"{path}?next=//evil.example")).find("input", {"name": "next"}) is None
    answer = browser.post("/auth/reset", data={"email": EMAIL, "next": "//evil.example"}, headers=JSON)
    assert answer.get_json()["next"] == "/verify"


def test_password_managers_are_led_to_the_page_that_changes_it(ada, browser):
    assert ada.get("/.well-known/change-password").location == "/account/password"
    sign_in(browser)
    assert browser.get("/account/password").status_code == 200
