"""`/auth/password`: the second step of a sign-in that began with the e-mail."""

import pytest
from bs4 import BeautifulSoup
from instruments import at_once, change_user, later, raise_epoch, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_up

from magicauth import sessions


@pytest.fixture
def browser(client, mailbox):
    """A browser that has proven Ada's address and is asked for the password."""
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/auth/password"
    return browser


def prove(client, password):
    """Status and message, or where it leads."""
    answer = client.post("/auth/password", json={"password": password})
    return answer.status_code, answer.get_json().get("next") or answer.get_json()["message"]


WRONG = (401, "Password is incorrect.")


def test_the_page_names_the_account_for_password_managers(browser):
    page = BeautifulSoup(browser.get("/auth/password").text, "html.parser")
    name = page.find("input", {"name": "email"})
    assert (name["value"], name["autocomplete"]) == (EMAIL, "username") and name.has_attr("readonly")
    assert page.find("input", {"name": "password"})["autocomplete"] == "current-password"


def test_the_right_password_finishes_the_sign_in(browser):
    assert not is_signed_in(browser)
    done = browser.post("/auth/password", data={"password": PASSWORD})
    assert (done.status_code, done.location) == (303, "/home")
    assert is_signed_in(browser)


def test_a_wrong_password_is_told_beside_its_field_and_the_step_stays_open(browser):
    answer = browser.post("/auth/password", data={"password": "not the one"})
    assert answer.status_code == 401
    page = BeautifulSoup(answer.text, "html.parser")
    assert "Password is incorrect." in page.find(id="password-error").get_text()
    assert "not the one" not in answer.text
    assert prove(browser, "not the one") == WRONG
    assert not is_signed_in(browser)
    assert prove(browser, PASSWORD) == (200, "/home")


@pytest.mark.parametrize("password", ["", None, 5, [PASSWORD], PASSWORD.upper(), f"{PASSWORD} ", "a\0b", "x" * 5000])
def test_nothing_but_the_password_is_the_password(browser, password):
    assert prove(browser, password) in (WRONG, (400, "Invalid request."))
    assert not is_signed_in(browser)


def test_before_the_address_is_proven_there_is_no_such_step(client, mailbox):
    assert client.get("/auth/password").location == "/auth"
    assert client.post("/auth/password", data={"password": PASSWORD}).location == "/auth"
    assert client.get("/auth/password", headers=JSON).status_code == 404
    assert client.post("/auth/password", json={"password": PASSWORD}).status_code == 404
    sign_up(client)
    asking = other_browser(client)
    asking.post("/auth", data={"email": EMAIL})
    assert asking.get("/auth/password").location == "/verify"
    assert asking.post("/auth/password", data={"password": PASSWORD}).location == "/verify"
    assert asking.post("/auth/password", json={"password": PASSWORD}).status_code == 404
    shown_one = other_browser(client)
    shown_one.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert shown_one.get("/auth/password").location == "/verify"
    assert shown_one.post("/auth/password", json={"password": PASSWORD}).status_code == 404
    assert not is_signed_in(asking) and not is_signed_in(shown_one)


def test_back_from_here_to_the_code_leads_here_again(browser):
    assert browser.get("/verify").location == "/auth/password"
    assert browser.get("/verify", headers=JSON).status_code == 404
    assert browser.post("/auth/password", data={"password": PASSWORD}).location == "/home"


def test_back_to_the_code_of_an_account_that_changed_says_that_it_is_over(app, browser):
    raise_epoch(app)
    assert browser.get("/verify").status_code == 200
    assert browser.get("/auth/password").location == "/verify"


def test_beginning_again_keeps_the_proof_of_the_address(browser, mailbox):
    letters = len(mailbox.all())
    assert browser.post("/auth", data={"email": EMAIL}).location == "/auth/password"
    assert browser.post("/auth", json={"email": EMAIL, "password": "not the one"}).status_code == 401
    answer = browser.post("/auth", json={"email": EMAIL, "password": PASSWORD})
    assert (answer.status_code, answer.get_json()["next"]) == (200, "/home")
    assert is_signed_in(browser)
    assert [letter.subject for letter in mailbox.all()[:-letters]] == ["New sign-in to magicauth"]


def test_beginning_again_beside_a_session_keeps_that_until_the_password(browser, client, mailbox):
    other = other_browser(client)
    sign_up(other, "eve@example.org")
    other.post("/auth", data={"email": EMAIL})
    other.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    assert other.post("/auth", data={"email": EMAIL}).location == "/auth/password"
    assert other.get("/home", headers=JSON).get_json()["user"]["email"] == "eve@example.org"
    assert prove(other, PASSWORD) == (200, "/home")
    assert other.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


def test_what_was_proven_before_the_account_changed_counts_no_longer_when_it_begins_again(app, browser, mailbox):
    raise_epoch(app)
    assert browser.post("/verify/resend").location == "/verify"
    assert browser.post("/auth", data={"email": EMAIL}).location == "/verify"
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/auth/password"


def test_beginning_again_after_the_account_changed_begins_anew(app, browser, mailbox):
    raise_epoch(app)
    assert browser.post("/auth", data={"email": EMAIL, "password": PASSWORD}).location == "/verify"
    assert not is_signed_in(browser)
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/home"


def test_who_is_signed_in_has_no_such_step(browser):
    assert prove(browser, PASSWORD) == (200, "/home")
    assert prove(browser, PASSWORD)[0] == 404
    assert is_signed_in(browser)


def test_a_guessed_next_in_the_form_is_not_where_it_leads(browser):
    answer = browser.post("/auth/password?next=/elsewhere", data={"password": PASSWORD, "next": "/elsewhere"})
    assert answer.location == "/home"


def test_the_proof_of_one_account_is_none_for_another(app, browser):
    sign_up(app.test_client(), "eve@example.org", name="Eve", password="another fine passphrase")
    assert prove(browser, "another fine passphrase") == WRONG
    assert browser.post("/auth/password", json={"email": "eve@example.org", "password": PASSWORD}).status_code == 200
    assert browser.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


def test_the_step_is_over_when_the_pending_sign_in_is(browser, redis):
    with later(redis, 1100):
        assert browser.get("/auth/password").status_code == 200
        with later(redis, 101):
            assert browser.get("/auth/password").location == "/auth"
            assert prove(browser, PASSWORD)[0] == 404


def test_the_step_is_over_when_the_account_changes(app, browser):
    raise_epoch(app)
    assert prove(browser, PASSWORD)[0] == 404
    assert browser.post("/auth/password", data={"password": PASSWORD}).status_code == 303
    assert not is_signed_in(browser)


def test_the_step_is_over_when_the_account_is_disabled(app, browser):
    change_user(app, disabled=True)
    assert prove(browser, PASSWORD)[0] == 404
    assert not is_signed_in(browser)


def test_wrong_passwords_here_and_at_the_first_step_draw_on_one_budget(browser):
    for _ in range(5):
        assert prove(browser, "not the one") == WRONG
        assert browser.post("/auth", json={"email": EMAIL, "password": "not the one"}).status_code == 401
    answer = browser.post("/auth/password", json={"password": PASSWORD})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    page = browser.post("/auth/password", data={"password": PASSWORD})
    assert page.status_code == 429 and "Retry-After" in page.headers
    assert not is_signed_in(browser)


def test_of_forty_right_passwords_at_once_one_signs_in(browser, mailbox, redis):
    presses = [same_browser(browser) for _ in range(40)]
    told = at_once(40, lambda number: prove(presses[number], PASSWORD))
    assert told.count((200, "/home")) == 1
    assert {status for status, _ in told} <= {200, 404, 429}
    assert [is_signed_in(press) for press in presses].count(True) == 1
    # The one who signed up, and the one of these.
    assert len(redis.keys("magicauth:session:*")) == 2
    assert [letter.subject for letter in mailbox.all(EMAIL)].count("New sign-in to magicauth") == 1


def test_of_many_who_begin_again_with_the_right_password_at_once_one_signs_in(browser, redis):
    presses = [same_browser(browser) for _ in range(9)]
    told = at_once(9, lambda number: presses[number].post("/auth", json={"email": EMAIL, "password": PASSWORD}))
    assert [answer.get_json().get("next") for answer in told].count("/home") == 1
    assert [is_signed_in(press) for press in presses].count(True) == 1


def test_a_press_that_was_overtaken_leads_where_the_other_does(browser, monkeypatch):
    monkeypatch.setattr(sessions.Session, "claim", lambda _: False)
    assert browser.post("/auth/password", data={"password": PASSWORD}).location == "/home"
    assert not is_signed_in(browser)


def test_the_session_id_changes_when_the_step_is_done(browser):
    before, tab = session_id(browser), same_browser(browser)
    prove(browser, PASSWORD)
    assert session_id(browser) != before
    assert prove(tab, PASSWORD)[0] == 404
    assert not is_signed_in(tab)
