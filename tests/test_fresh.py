"""`/auth/fresh`: saying again who one is, and back to where one was."""

import pytest
from bs4 import BeautifulSoup
from instruments import at_once, later, raise_epoch, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

STALE = 901
NEW_EMAIL = "ada@new.example.org"


@pytest.fixture
def stale(ada, redis):
    """The same, a quarter of an hour later."""
    with later(redis, STALE):
        yield ada


def ask_code(browser, mailbox, email=EMAIL):
    """Asks for a code that makes the sign-in fresh, and returns it."""
    assert browser.post("/auth/fresh/code").location == "/auth/fresh"
    return mailbox.last(email).code


def is_fresh(browser):
    return browser.get("/account/password", headers=JSON).status_code == 200


# --- the journey -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "fresh"), [(880, True), (901, False)])
def test_a_sign_in_is_fresh_for_a_quarter_of_an_hour(ada, redis, seconds, fresh):
    with later(redis, seconds):
        assert is_fresh(ada) is fresh
        assert is_signed_in(ada)


@pytest.mark.parametrize("path", ["/account/password", "/account/email", "/account/export", "/account/delete"])
def test_the_password_leads_back_to_the_page_that_wanted_it(stale, path):
    assert stale.get(path).location == "/auth/fresh"
    page = BeautifulSoup(stale.get("/auth/fresh").text, "html.parser")
    assert page.find("input", {"name": "password"})["autocomplete"] == "current-password"
    done = stale.post("/auth/fresh", data={"password": PASSWORD})
    assert (done.status_code, done.location) == (303, path)
    assert stale.get(path).status_code == 200


def test_a_mailed_code_leads_back_too(stale, mailbox):
    stale.get("/account/email")
    code = ask_code(stale, mailbox)
    letter = mailbox.last(EMAIL)
    assert code.replace(" ", "") in letter.subject.replace(" ", "") and not any(
        "token" in link for link in letter.links
    )
    page = BeautifulSoup(stale.get("/auth/fresh").text, "html.parser")
    assert page.find("input", {"name": "OTP"})["autocomplete"] == "one-time-code"
    assert stale.post("/auth/fresh", data={"OTP": f"{code[:3]} {code[3:]}"}).location == "/account/email"
    assert is_fresh(stale)


def test_a_code_goes_on_where_another_tab_was_quicker_with_the_password(stale, mailbox):
    stale.get("/account/email")
    assert stale.post("/auth/fresh", data={"OTP": "123456"}).status_code == 404
    code = ask_code(stale, mailbox)
    assert stale.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/email"
    assert stale.post("/auth/fresh", data={"OTP": code}).location == "/account/email"
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 404


def test_its_countdown_is_of_the_budgets_that_are_asked(client, redis):
    sign_up(client, "Grace.H@example.org")
    for number in range(5):
        with later(redis, 61 * number):
            assert client.post("/auth/fresh/code").status_code == 303
    with later(redis, 61 * 5):
        page = BeautifulSoup(client.get("/auth/fresh").text, "html.parser")
        answer = client.post("/auth/fresh/code", headers=JSON)
        assert answer.status_code == 429
        shown = int(page.find(attrs={"data-countdown": True})["data-countdown"])
        assert abs(shown - int(answer.headers["Retry-After"])) < 2


def test_only_a_page_that_somebody_sees_is_gone_back_to(stale):
    stale.get("/account/email")
    assert stale.head("/account/delete").location == "/auth/fresh"
    assert stale.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/email"


def test_as_json(stale, mailbox):
    refused = stale.get("/account/export.json", headers=JSON)
    assert (refused.status_code, refused.get_json()["message"]) == (403, "Fresh sign-in required.")
    assert stale.post("/auth/fresh/code", json={}).get_json()["next"] == "/auth/fresh"
    done = stale.post("/auth/fresh", json={"OTP": mailbox.last(EMAIL).code})
    assert (done.status_code, done.get_json()["status"], done.get_json()["next"]) == (200, "SUCCESS", "/account")
    assert stale.get("/account/export.json").status_code == 200


def test_fresh_again_is_fresh_for_another_quarter_of_an_hour_and_no_longer(stale, redis):
    stale.post("/auth/fresh", data={"password": PASSWORD})
    with later(redis, 880):
        assert is_fresh(stale)
    with later(redis, STALE):
        assert not is_fresh(stale)


def test_the_session_gets_a_new_id_and_no_longer_life(app, stale):
    before, (session,) = session_id(stale), stale.get("/account/sessions", headers=JSON).get_json()["sessions"]
    stale.post("/auth/fresh", data={"password": PASSWORD})
    assert session_id(stale) != before
    replayed = app.test_client()
    replayed.set_cookie("magicauth", before)
    assert not is_signed_in(replayed)
    (after,) = stale.get("/account/sessions", headers=JSON).get_json()["sessions"]
    assert after["created_at"] == session["created_at"]


def test_an_account_without_a_password_is_asked_for_a_code_alone(app, redis):
    assert app.test_cli_runner().invoke(args=["users", "create", EMAIL]).exit_code == 0
    browser, mailbox = app.test_client(), Letters(app)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    with later(redis, STALE):
        assert "password" not in BeautifulSoup(browser.get("/auth/fresh").text, "html.parser").find("main").decode()
        assert browser.post("/auth/fresh", json={"password": ""}).status_code == 401
        assert browser.post("/auth/fresh", data={"OTP": ask_code(browser, mailbox)}).status_code == 303
        assert is_fresh(browser)


def test_what_cannot_be_the_password_is_no_guess(ada, redis):
    with later(redis, 1000):
        for sent in ({}, {"password": ""}, {"password": None}, {"password": 5}):
            for _ in range(4):
                assert ada.post("/auth/fresh", json=sent).status_code == 401
        assert ada.post("/auth/fresh", json={"password": PASSWORD}).status_code == 200


def test_where_there_is_no_password_none_is_counted(make_app, redis):
    browser = make_app(MAGICAUTH_PASSWORDS="off").test_client()
    sign_up(browser)
    with later(redis, 1000):
        assert {browser.post("/auth/fresh", json={"password": PASSWORD}).status_code for _ in range(12)} == {401}


def test_a_program_is_told_what_it_takes(ada, redis):
    assert ada.get("/account/password", headers=JSON).get_json()["has_password"] is True
    with later(redis, 1000):
        asked = ada.get("/auth/fresh", headers=JSON).get_json()
        assert (asked["has_password"], asked["code_sent"]) == (True, False)
        ada.post("/auth/fresh/code", json={})
        assert ada.get("/auth/fresh", headers=JSON).get_json()["code_sent"] is True


def test_where_passwords_are_off_none_is_taken(make_app, redis):
    sign_up(make_app().test_client())
    app = make_app(MAGICAUTH_PASSWORDS="off")
    browser, mailbox = app.test_client(), Letters(app)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    with later(redis, STALE):
        assert browser.post("/auth/fresh", json={"password": PASSWORD}).status_code == 401
        assert 'name="password"' not in browser.get("/auth/fresh").text
        assert browser.post("/auth/fresh", data={"OTP": ask_code(browser, mailbox)}).status_code == 303


# --- what was typed --------------------------------------------------------------------------------------------------


def test_what_was_typed_still_stands_once(stale):
    assert stale.post("/account/email", data={"email": NEW_EMAIL}).location == "/auth/fresh"
    assert stale.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/email"
    field = BeautifulSoup(stale.get("/account/email").text, "html.parser").find("input", {"name": "email"})
    assert field["value"] == NEW_EMAIL
    assert NEW_EMAIL not in stale.get("/account/email").text


def test_what_was_typed_survives_the_way_by_code(stale, mailbox):
    stale.post("/account/email", data={"email": NEW_EMAIL})
    code = ask_code(stale, mailbox)
    stale.get("/auth/fresh")
    stale.post("/auth/fresh", data={"OTP": "x"})
    stale.post("/auth/fresh", data={"OTP": code})
    assert f'value="{NEW_EMAIL}"' in stale.get("/account/email").text


def test_what_was_typed_shows_on_no_other_page(stale):
    stale.post("/account/email", data={"email": NEW_EMAIL})
    others = [
        "/auth/fresh",
        "/account",
        "/home",
        "/account/sessions",
        "/account/activity",
        "/auth/reset",
        "/users/magic_link",
    ]
    for path in others:
        assert NEW_EMAIL not in stale.get(path).text, path
    stale.post("/auth/fresh", data={"password": PASSWORD})
    # Both have a field of that name.
    for path in ("/account/delete", "/account/password", *others):
        assert NEW_EMAIL not in stale.get(path).text, path


def test_secrets_that_were_typed_are_not_kept(stale, redis):
    secrets = {
        "old_password": "my secret old phrase",
        "password": "my secret new phrase",
        "OTP": "135790",
        "token": "tok-en-tok-en",
    }
    assert stale.post("/account/password", data=secrets).location == "/auth/fresh"
    kept = b"".join(redis.get(key) for key in redis.scan_iter("magicauth:session:*"))
    assert not [secret for secret in secrets.values() if secret.encode() in kept]
    assert stale.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/password"
    page = stale.get("/account/password").text
    assert not [secret for secret in secrets.values() if secret in page]


def test_what_was_typed_is_gone_with_the_session(stale):
    stale.post("/account/email", data={"email": NEW_EMAIL})
    stale.post("/logout")
    sign_up(stale, "eve@example.org", name="Eve")
    assert NEW_EMAIL not in stale.get("/account/email").text


def test_a_sign_in_as_somebody_else_forgets_what_was_typed(app, stale, mailbox):
    sign_up(app.test_client(), "eve@example.org", name="Eve")
    stale.post("/account/email", data={"email": NEW_EMAIL})
    assert sign_in(stale, "eve@example.org").location == "/home"
    assert NEW_EMAIL not in stale.get("/account/email").text


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [{"password": "not the one"}, {"password": ""}, {}, {"OTP": "", "password": "x"}])
def test_a_wrong_password_is_refused(stale, form):
    answer = stale.post("/auth/fresh", json=form)
    assert (answer.status_code, answer.get_json()["message"]) == (401, "Password is incorrect.")
    page = stale.post("/auth/fresh", data=form)
    assert page.status_code == 401 and 'id="password-error"' in page.text
    assert not is_fresh(stale)


def test_passwords_are_counted(stale):
    for _ in range(10):
        assert stale.post("/auth/fresh", json={"password": "x"}).status_code == 401
    answer = stale.post("/auth/fresh", json={"password": PASSWORD})
    assert answer.status_code == 429 and 0 < int(answer.headers["Retry-After"]) <= 300
    assert not is_fresh(stale)


def test_codes_are_counted(stale, mailbox):
    code = ask_code(stale, mailbox)
    left = [stale.post("/auth/fresh", json={"OTP": "x"}).get_json()["attempts_left"] for _ in range(5)]
    assert left == [4, 3, 2, 1, 0]
    answer = stale.post("/auth/fresh", json={"OTP": code})
    assert (answer.status_code, answer.get_json()["message"]) == (404, "OTP not found")
    assert not is_fresh(stale)


def test_a_code_works_once(stale, mailbox):
    code = ask_code(stale, mailbox)
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 200
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 404


@pytest.mark.parametrize("code", [" - ", "", None, 123456, ["123456"]])
def test_what_is_no_code_costs_neither_a_guess_nor_a_password(stale, mailbox, code):
    right = ask_code(stale, mailbox)
    for _ in range(11):
        answer = stale.post("/auth/fresh", json={"OTP": code})
        assert (answer.status_code, answer.get_json()["message"]) == (400, "OTP required.")
    assert stale.post("/auth/fresh", data={"OTP": ""}).status_code == 400
    assert stale.post("/auth/fresh", json={"OTP": "x" + right}).get_json()["attempts_left"] == 4
    assert stale.post("/auth/fresh", json={"password": PASSWORD}).status_code == 200


def test_no_code_where_none_was_asked_for_is_not_found(stale):
    assert stale.post("/auth/fresh", json={"OTP": ""}).status_code == 404


def test_many_first_presses_at_once_send_one_code(stale, mailbox):
    before = len(mailbox.all(EMAIL))
    presses = [same_browser(stale) for _ in range(10)]
    told = at_once(10, lambda n: presses[n].post("/auth/fresh/code").status_code)
    # One that comes late is told that the letter is on its way.
    assert 303 in told and set(told) <= {303, 429}
    assert len(mailbox.all(EMAIL)) == before + 1
    assert stale.post("/auth/fresh", data={"OTP": mailbox.last(EMAIL).code}).status_code == 303


def test_the_code_can_be_asked_for_again(stale, mailbox, redis):
    code = ask_code(stale, mailbox)
    assert "data-countdown" in stale.get("/auth/fresh").text
    too_soon = stale.post("/auth/fresh/code", json={})
    assert too_soon.status_code == 429 and 0 < int(too_soon.headers["Retry-After"]) <= 60
    with later(redis, 61):
        assert ask_code(stale, mailbox) == code
        assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/auth/fresh"), ("POST", "/auth/fresh"), ("POST", "/auth/fresh/code")]
)
def test_a_stranger_is_sent_to_sign_in(client, mailbox, method, path):
    assert client.open(path, method=method).location.startswith("/auth")
    assert client.open(path, method=method, headers=JSON).status_code == 401
    assert mailbox.all() == []


def test_a_get_confirms_nothing(stale, mailbox):
    code = ask_code(stale, mailbox)
    stale.get(f"/auth/fresh?OTP={code}&password={PASSWORD}")
    assert not is_fresh(stale)


def test_a_sign_in_under_way_is_no_sign_in(ada, mailbox):
    browser = other_browser(ada)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert browser.post("/auth/fresh", json={"password": PASSWORD}).status_code == 401


# --- attacks: values of one purpose at the door of another -----------------------------------------------------------


def test_a_code_that_was_asked_for_is_over_when_the_password_was_quicker(ada, mailbox):
    code = ask_code(ada, mailbox)
    ada.post("/auth/fresh", data={"password": PASSWORD})
    assert ada.post("/auth/fresh", json={"OTP": code}).status_code == 404


def test_a_change_of_address_that_waits_for_its_code_goes_on_beside_it(ada, mailbox):
    ada.post("/account/email", data={"email": NEW_EMAIL})
    code = ask_code(ada, mailbox)
    assert ada.post("/auth/fresh", data={"OTP": code}).status_code == 303
    assert ada.post("/verify", data={"OTP": mailbox.last(NEW_EMAIL).code}).location == "/account"


def test_a_fresh_code_answers_nothing_else(app, stale, mailbox):
    code = ask_code(stale, mailbox)
    answer = stale.post("/verify", json={"OTP": code})
    assert (answer.status_code, answer.get_json()["message"]) == (404, "OTP not found")
    assert stale.get("/verify", headers=JSON).status_code == 404
    assert stale.post("/verify/resend", json={}).status_code == 404
    assert stale.get("/auth/reset/password", headers=JSON).status_code == 404
    # Nor does the token that its letter does not even hold.
    redis, keys = app.extensions["magicauth-redis"], app.extensions["magicauth-keys"]
    for key in redis.scan_iter("magicauth:challenge:*"):
        if redis.hget(key, "purpose") == b"fresh":
            token = keys.token("fresh", key.decode().rpartition(":")[2])
            for door in ("/auth/link", "/auth/not_me", "/account/email/undo"):
                assert stale.post(door, json={"token": token, "email": EMAIL}).status_code == 403
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 200, "and no guess was spent on the way"


@pytest.mark.parametrize(("start", "form"), [("/auth", {"password": PASSWORD}), ("/auth/reset", {})])
def test_the_code_of_a_sign_in_or_reset_makes_nothing_fresh(stale, mailbox, start, form):
    stale.post(start, data={"email": EMAIL, **form})
    code = mailbox.last(EMAIL).code
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 404
    assert not is_fresh(stale)
    assert stale.post("/verify", json={"OTP": code}).status_code == 200


def test_the_code_of_a_new_address_makes_nothing_fresh(ada, mailbox, redis):
    ada.post("/account/email", data={"email": NEW_EMAIL})
    code = mailbox.last(NEW_EMAIL).code
    with later(redis, STALE):
        assert ada.post("/auth/fresh", json={"OTP": code}).status_code == 404
        assert not is_fresh(ada)


def test_a_code_is_good_in_the_browser_that_asked_alone(app, stale, mailbox):
    code = ask_code(stale, mailbox)
    other = app.test_client()
    sign_in(other)
    assert other.post("/auth/fresh", json={"OTP": code}).status_code == 404


def test_the_code_of_one_account_does_not_confirm_another(app, stale, mailbox):
    sign_up(app.test_client(), "eve@example.org", name="Eve")
    code = ask_code(stale, mailbox)
    sign_in(stale, "eve@example.org")
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 404


def test_a_change_meanwhile_voids_the_code_and_the_session(app, stale, mailbox, redis):
    code = ask_code(stale, mailbox)
    raise_epoch(app)
    assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 401
    with later(redis, 61):
        assert not is_signed_in(stale)


def test_a_code_asked_for_before_a_change_is_not_sent_again(stale, mailbox, redis):
    """The code under way died with the change: asking again brings one that works."""
    ask_code(stale, mailbox)
    stale.post("/auth/fresh", data={"password": PASSWORD})
    stale.post("/account/sessions/end_others")
    with later(redis, 61):
        code = ask_code(stale, mailbox)
        assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 200


def test_after_a_change_of_address_the_code_goes_to_the_new_one(stale, mailbox, redis):
    ask_code(stale, mailbox)
    stale.post("/auth/fresh", data={"password": PASSWORD})
    stale.post("/account/email", data={"email": NEW_EMAIL})
    stale.post("/verify", data={"OTP": mailbox.last(NEW_EMAIL).code})
    with later(redis, 61):
        letters = len(mailbox.all(EMAIL))
        code = ask_code(stale, mailbox, NEW_EMAIL)
        assert len(mailbox.all(EMAIL)) == letters
        assert stale.post("/auth/fresh", json={"OTP": code}).status_code == 200
