"""The mailed code: typed, mistyped, asked for again, over, and guessed at by a hundred at once."""

import time

import pytest
import time_machine
from bs4 import BeautifulSoup
from conftest import wait_for
from instruments import at_once, change_user, failing, later, raise_epoch, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

from magicauth import challenges


@pytest.fixture
def browser(client):
    """A browser that has shown Ada's password and is asked for the code."""
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    return browser


def wrong(code):
    """A code that is not `code`."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)


def type_code(client, code):
    """Status, message and guesses left of one guess."""
    answer = client.post("/verify", json={"OTP": code})
    return answer.status_code, answer.get_json()["message"], answer.get_json().get("attempts_left")


NOT_FOUND = (404, "OTP not found", None)


# --- what is taken for the code --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        *("{}{}{}{}{}{}", "{}{}{} {}{}{}", "{}{}{}-{}{}{}", " {} {} {} {} {} {} ", "{}{}-{}{}-{}{}-"),
        *(f"{{}}{{}}{{}}{between}{{}}{{}}{{}}" for between in "\u00a0\u2009\u202f\u3000\u2010\u2011\u2013\u2014\u2212"),
    ],
)
def test_spaces_and_dashes_are_forgiven(browser, mailbox, shape):
    assert type_code(browser, shape.format(*mailbox.last().code)) == (200, "OTP is correct", None)
    assert is_signed_in(browser)


@pytest.mark.parametrize("form", [{}, {"OTP": ""}, {"OTP": "  "}, {"OTP": "---"}])
def test_an_empty_code_is_asked_for_again_and_costs_no_guess(browser, mailbox, form):
    for _ in range(6):
        answer = browser.post("/verify", json=form)
        assert (answer.status_code, answer.get_json()["message"]) == (400, "OTP required.")
    assert browser.post("/verify", data=form).status_code == 400
    assert type_code(browser, wrong(mailbox.last().code))[2] == 4
    assert type_code(browser, mailbox.last().code)[0] == 200


@pytest.mark.parametrize(
    "make", [int, lambda code: [code], lambda code: {"code": code}, lambda _: True, lambda _: None]
)
def test_a_code_that_is_not_a_string_is_none_and_costs_no_guess(browser, mailbox, make):
    assert type_code(browser, make(mailbox.last().code)) == (400, "OTP required.", None)
    assert type_code(browser, wrong(mailbox.last().code))[2] == 4


@pytest.mark.parametrize("first_digit", ["\u0660", "\u06f0", "\uff10", "\U0001d7ce", "\u0966"])
def test_digits_of_other_scripts_are_not_the_code(browser, mailbox, first_digit):
    code = mailbox.last().code
    other = "".join(chr(ord(first_digit) + int(digit)) for digit in code)
    assert other.isdigit() and int(other) == int(code)
    assert type_code(browser, other) == (401, "Incorrect OTP", 4)
    assert type_code(browser, code)[0] == 200


@pytest.mark.parametrize("make", ["+{}", "{}\0", "0x{}", "{}.0", "0{}", "{}1", "\u200b{}", "{}\n"])
def test_nearly_the_code_is_not_the_code(browser, mailbox, make):
    answer = browser.post("/verify", json={"OTP": make.format(mailbox.last().code)})
    assert answer.status_code in (400, 401)
    assert not is_signed_in(browser)


# --- guesses ---------------------------------------------------------------------------------------------------------


def test_five_guesses_are_counted_down_and_then_the_question_is_closed(browser, mailbox):
    code = mailbox.last().code
    told = [type_code(browser, wrong(code)) for _ in range(6)]
    assert told == [(401, "Incorrect OTP", left) for left in (4, 3, 2, 1, 0)] + [NOT_FOUND]
    assert type_code(browser, code) == NOT_FOUND
    assert browser.get("/verify", headers=JSON).status_code == 404
    assert not is_signed_in(browser)


def test_a_wrong_code_shows_the_page_again_with_what_is_left(browser, mailbox):
    answer = browser.post("/verify", data={"OTP": wrong(mailbox.last().code)})
    assert answer.status_code == 401
    page = BeautifulSoup(answer.text, "html.parser")
    assert page.find(id="error-summary")["role"] == "alert"
    assert page.find("input", {"name": "OTP"}).get("value", "") == ""
    assert page.find("input", {"name": "OTP"})["aria-invalid"] == "true"
    assert page.find("input", {"name": "OTP"}).has_attr("autofocus")
    assert "4" in page.find(id="OTP-error").get_text()


def test_spent_guesses_show_the_page_that_offers_a_new_code(browser, mailbox):
    for _ in range(5):
        browser.post("/verify", data={"OTP": wrong(mailbox.last().code)})
    answer = browser.post("/verify", data={"OTP": mailbox.last().code})
    assert answer.status_code == 404
    page = BeautifulSoup(answer.text, "html.parser")
    assert page.find("form", {"action": "/verify/resend"}) and not page.find("input", {"name": "OTP"})


def test_the_fifth_guess_may_be_the_right_one(browser, mailbox):
    code = mailbox.last().code
    for _ in range(4):
        type_code(browser, wrong(code))
    assert type_code(browser, code) == (200, "OTP is correct", None)


def test_length_and_guesses_are_settings(make_app):
    app = make_app(MAGICAUTH_CODE_DIGITS="10", MAGICAUTH_CODE_ATTEMPTS="2")
    sign_up(app.test_client())
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = Letters(app).last().code
    assert len(code) == 10
    assert browser.get("/verify", headers=JSON).get_json()["digits"] == 10
    assert [type_code(browser, wrong(code)) for _ in range(3)] == [
        (401, "Incorrect OTP", 1),
        (401, "Incorrect OTP", 0),
        NOT_FOUND,
    ]


def test_none_is_found_before_what_was_typed_is_looked_at(make_app):
    app = make_app(MAGICAUTH_LIMIT_CODES_PER_ACCOUNT="5 per hour")
    browser = app.test_client()
    assert type_code(browser, "") == NOT_FOUND
    assert type_code(browser, "123456") == NOT_FOUND
    browser.post("/auth", data={"email": EMAIL})
    for _ in range(5):
        assert type_code(browser, "x")[0] == 401
    # The budget is spent too by now; and still there is none.
    assert type_code(browser, "x") == NOT_FOUND
    assert type_code(browser, "") == NOT_FOUND


def test_a_hundred_wrong_codes_at_once_are_five_guesses(browser, mailbox):
    code = mailbox.last().code
    tabs = [same_browser(browser) for _ in range(100)]
    told = at_once(100, lambda n: type_code(tabs[n], wrong(code)))
    assert sorted(left for status, _, left in told if status == 401) == [0, 1, 2, 3, 4]
    assert {status for status, _, _ in told} <= {401, 404, 429}
    assert type_code(browser, code) == NOT_FOUND


def test_a_hundred_guesses_at_once_with_the_right_one_among_them_sign_in_at_most_once(browser, mailbox):
    code = mailbox.last().code
    tabs = [same_browser(browser) for _ in range(100)]
    told = at_once(100, lambda n: type_code(tabs[n], code if n % 10 == 9 else wrong(code))[0])
    assert told.count(401) + told.count(200) <= 5
    assert sum(is_signed_in(tab) for tab in tabs) == told.count(200) <= 1


def test_two_hundred_right_codes_at_once_make_one_session(browser, mailbox, redis):
    code = mailbox.last().code
    before = set(redis.keys("magicauth:session:*"))
    tabs = [same_browser(browser) for _ in range(200)]
    told = at_once(200, lambda n: type_code(tabs[n], code)[0])
    assert told.count(200) == 1
    assert set(told) <= {200, 404, 429}
    assert [is_signed_in(tab) for tab in tabs].count(True) == 1
    # The one that asked is gone, the one that is signed in has come.
    assert len(set(redis.keys("magicauth:session:*")) - before) == 1


def test_code_and_link_at_once_are_one_answer(browser, mailbox):
    letter = mailbox.last()
    tabs = [same_browser(browser) for _ in range(40)]

    def answer(n):
        if n % 2:
            return type_code(tabs[n], letter.code)[0]
        return tabs[n].post("/auth/link", json={"token": letter.token}).status_code

    told = at_once(40, answer)
    assert told.count(200) == 1
    assert set(told) <= {200, 403, 404, 429}
    assert sum(is_signed_in(tab) for tab in tabs) == 1


# --- whose code it is ------------------------------------------------------------------------------------------------


def test_no_question_is_open_in_a_browser_that_asked_none(client):
    assert client.get("/verify").location == "/auth"
    answer = client.get("/verify", headers=JSON)
    assert (answer.status_code, answer.get_json()["message"]) == (404, "OTP not found")
    assert type_code(client, "123456") == NOT_FOUND
    page = client.post("/verify", data={"OTP": "123456"})
    assert page.status_code in (303, 404)
    resent = client.post("/verify/resend", json={})
    assert (resent.status_code, resent.get_json()["message"]) == (404, "OTP not found")
    assert session_id(client) == ""


def test_a_code_is_good_only_in_the_browser_that_asked(browser, mailbox):
    code = mailbox.last().code
    assert type_code(other_browser(browser), code) == NOT_FOUND
    thief = other_browser(browser)
    thief.post("/auth", data={"email": EMAIL})
    assert type_code(thief, code) in [(401, "Incorrect OTP", 4), (200, "OTP is correct", None)]
    assert not is_signed_in(thief)
    assert type_code(browser, code)[0] == 200


def test_a_stranger_who_asks_for_somebody_elses_codes_spends_his_own_guesses(browser, mailbox):
    code = mailbox.last().code
    thief = other_browser(browser)
    thief.post("/auth", data={"email": EMAIL})
    for _ in range(5):
        type_code(thief, "x")
    assert type_code(thief, "x") == NOT_FOUND
    assert type_code(browser, code)[0] == 200


def test_a_code_works_once(browser, mailbox):
    code = mailbox.last().code
    tab = same_browser(browser)
    assert type_code(browser, code)[0] == 200
    assert type_code(browser, code) == NOT_FOUND
    assert type_code(tab, code) == NOT_FOUND


def test_a_strangers_question_has_no_right_answer(app, client, redis):
    client.post("/auth", data={"email": "nobody@example.org"})
    Letters(app).all()
    keys = [key.decode().rpartition(":")[2] for key in redis.keys("magicauth:challenge:*")]
    with app.app_context():
        (code,) = [challenge.code for key in keys if (challenge := challenges.get(key)).purpose == "sign_in"]
    assert type_code(client, code) == (401, "Incorrect OTP", 4)


def test_a_changed_password_or_address_voids_the_open_question(app, browser, mailbox):
    letter = mailbox.last()
    raise_epoch(app)
    assert type_code(browser, letter.code) == NOT_FOUND
    assert not is_signed_in(browser)


def test_what_was_shown_before_a_change_does_not_count_after_it(app, client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last().code})
    raise_epoch(app)
    assert browser.post("/auth/password", json={"password": PASSWORD}).status_code == 404
    assert not is_signed_in(browser)


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_code_expires_and_can_be_asked_for_again_without_starting_over(browser, mailbox, redis):
    old = mailbox.last()
    with later(redis, 550):
        assert browser.get("/verify", headers=JSON).status_code == 200
    with later(redis, 51):
        assert type_code(browser, old.code) == NOT_FOUND
        assert browser.get("/verify", headers=JSON).status_code == 404
        page = browser.get("/verify")
        assert page.status_code == 200 and "/verify/resend" in page.text
        assert browser.post("/verify/resend").location == "/verify"
        new = mailbox.last()
        assert new.links != old.links
        assert type_code(browser, new.code) == (200, "OTP is correct", None)
        assert is_signed_in(browser)


def test_a_code_expires_by_the_servers_clock(make_app):
    app = make_app(MAGICAUTH_SIGN_IN_TTL="1")
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL})
    wait_for(lambda: browser.get("/verify", headers=JSON).status_code == 404)
    assert type_code(browser, "x") == NOT_FOUND


def test_the_pending_sign_in_ends_twice_the_time_after_its_last_letter(browser, redis):
    with later(redis, 1100):
        assert browser.post("/verify/resend", json={}).status_code == 200
        with later(redis, 1100):
            assert browser.get("/verify").status_code == 200
            with later(redis, 101):
                assert browser.post("/verify/resend", json={}).status_code == 404
                assert browser.get("/verify").location == "/auth"


# --- asking for the letter again -------------------------------------------------------------------------------------


def test_asking_too_soon_says_how_long_to_wait(browser, mailbox):
    before = len(mailbox.all())
    answer = browser.post("/verify/resend", json={})
    assert answer.status_code == 429
    assert 30 <= int(answer.headers["Retry-After"]) <= 60
    page = browser.post("/verify/resend")
    assert page.status_code == 429 and "Retry-After" in page.headers
    assert "You can try again in" in page.text
    assert len(mailbox.all()) == before
    assert type_code(browser, mailbox.last().code)[0] == 200


def test_whoever_must_wait_for_a_budget_too_is_told_of_the_longer_wait(make_app):
    client = make_app(MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="1 per 10 minutes").test_client()
    client.post("/auth", data={"email": EMAIL})
    answer = client.post("/verify/resend", json={})
    assert answer.status_code == 429 and 500 < int(answer.headers["Retry-After"]) <= 600
    assert 500 < countdown(client) <= 600


def test_a_new_letter_for_a_stranger_goes_where_he_typed_it(client, mailbox):
    client.post("/auth", data={"email": "Grace.Hopper@Example.org"})
    for _ in range(5):
        client.post("/verify", data={"OTP": "0"})
    letters = len(mailbox.all())
    assert client.post("/verify/resend").location == "/verify"
    assert [letter.to for letter in mailbox.all()[:-letters]] == ["Grace.Hopper@example.org"]


def test_the_same_code_and_link_come_again_when_the_wait_is_over(browser, mailbox, redis):
    wait = int(browser.post("/verify/resend", json={}).headers["Retry-After"])
    first = mailbox.last()
    with later(redis, wait):
        answer = browser.post("/verify/resend", json={})
        assert (answer.status_code, answer.get_json()["next"]) == (200, "/verify")
        second = mailbox.last()
        assert second.sent_at > first.sent_at
        assert (second.code, second.links) == (first.code, first.links)
        assert browser.post("/verify/resend", json={}).status_code == 429
        assert type_code(browser, first.code)[0] == 200


def test_a_letter_sent_again_is_good_as_long_as_the_first(browser, mailbox, redis):
    with later(redis, 550):
        browser.post("/verify/resend")
        code = mailbox.last().code
        with later(redis, 550):
            assert type_code(browser, code)[0] == 200


def test_asking_again_renews_no_guesses(browser, mailbox, redis):
    code = mailbox.last().code
    for _ in range(3):
        type_code(browser, wrong(code))
    with later(redis, 61):
        browser.post("/verify/resend")
        assert type_code(browser, wrong(code)) == (401, "Incorrect OTP", 1)


def test_after_the_last_guess_a_new_code_can_be_asked_for_at_once_and_the_password_still_counts(browser, mailbox):
    old = mailbox.last()
    for _ in range(5):
        type_code(browser, wrong(old.code))
    assert browser.post("/verify/resend").location == "/verify"
    new = mailbox.last()
    assert new.links != old.links
    assert type_code(browser, new.code)[0] == 200
    assert is_signed_in(browser)


@pytest.mark.parametrize("path", ["/auth", "/auth/reset", "/account/email"])
def test_many_first_presses_at_once_send_one_letter_whose_code_is_good(ada, mailbox, path):
    form = {"email": "grace@example.org", "next": "/account"}
    if path != "/account/email":
        sign_up(other_browser(ada), form["email"])
    letters = len(mailbox.all(form["email"]))
    tabs = [same_browser(ada) for _ in range(6)]
    told = at_once(6, lambda number: tabs[number].post(path, data=form).location)
    assert set(told) == {"/verify"}
    assert len(mailbox.all(form["email"])) == letters + 1
    assert ada.post("/verify", json={"OTP": mailbox.last(form["email"]).code}).status_code == 200


@pytest.mark.parametrize("path", ["/auth", "/auth/reset", "/account/email"])
def test_a_press_after_one_whose_letter_could_not_be_queued_sends_it(app, ada, mailbox, path):
    form = {"email": "grace@example.org"}
    letters = len(mailbox.all())
    with failing(app, "EVALSHA", "{magicauth-mail}"):
        assert ada.post(path, json=form).status_code == 503
    for _ in range(2):
        assert ada.post(path, json=form).status_code == 200
    assert len(mailbox.all()) == letters + 1


def test_a_change_of_address_that_could_not_be_noted_is_begun_anew(app, ada, mailbox):
    thief = other_browser(ada)
    sign_in(thief)
    with failing(app, "SET", "magicauth:change-of:"):
        assert thief.post("/account/email", json={"email": "mallory@example.org"}).status_code == 503
    assert thief.post("/account/email", json={"email": "mallory@example.org"}).status_code == 200
    token = mailbox.last("mallory@example.org").token
    ada.post("/account/sessions/end_others")
    assert (
        other_browser(ada).post("/auth/link", json={"token": token, "email": "mallory@example.org"}).status_code == 403
    )


def use_elsewhere(browser, letter):
    assert other_browser(browser).post(letter.link, data={"email": EMAIL}).location == "/auth/password"


def use_up(browser, letter):
    assert [type_code(browser, wrong(letter.code))[0] for _ in range(6)] == [*(5 * [401]), 404]


def change_the_account(browser, _):
    raise_epoch(browser.application)


@pytest.mark.parametrize("end", [use_elsewhere, use_up, change_the_account])
def test_a_press_after_the_code_is_over_sends_another_that_is_good(ada, mailbox, end):
    browser = other_browser(ada)
    browser.post("/auth", data={"email": "nobody@example.org"})
    browser.post("/auth", data={"email": EMAIL})
    first = mailbox.last(EMAIL)
    end(browser, first)
    letters, tabs = len(mailbox.all(EMAIL)), [same_browser(browser) for _ in range(6)]
    at_once(6, lambda number: tabs[number].post("/auth", data={"email": EMAIL}))
    assert len(mailbox.all(EMAIL)) == letters + 1
    second = mailbox.last(EMAIL)
    assert second.link != first.link
    assert browser.post("/verify", data={"OTP": second.code}).location == "/auth/password"


def test_forty_presses_of_the_button_at_once_send_one_letter(browser, mailbox, redis):
    before = len(mailbox.all())
    with later(redis, 61):
        tabs = [same_browser(browser) for _ in range(40)]
        told = at_once(40, lambda n: tabs[n].post("/verify/resend", json={}).status_code)
        assert told.count(200) == 1
        assert set(told) == {200, 429}
        assert len(mailbox.all()) == before + 1


def test_many_presses_at_once_for_a_new_code_send_one_that_is_good_whoever_answers_last(browser, mailbox):
    for _ in range(5):
        type_code(browser, wrong(mailbox.last().code))
    before = len(mailbox.all())
    tabs = [same_browser(browser) for _ in range(10)]
    told = at_once(10, lambda number: tabs[number].post("/verify/resend", json={}).status_code)
    assert set(told) <= {200, 429}
    assert len(mailbox.all()) == before + 1
    assert type_code(browser, mailbox.last().code)[0] == 200


def test_whoever_asked_for_somebody_elses_address_does_not_learn_at_once_that_the_account_changed(app, browser, redis):
    raise_epoch(app)
    assert browser.post("/verify/resend", json={}).status_code == 429
    with later(redis, 61):
        assert browser.post("/verify/resend", json={}).status_code == 200


def test_wrong_codes_count_for_the_account_though_they_cannot_be_recorded(browser, unwritable):
    unwritable()
    for number in range(2):
        stranger = other_browser(browser)
        stranger.post("/auth", data={"email": EMAIL})
        assert [type_code(stranger, "x")[0] for _ in range(5)] == [503] * 5, number
    stranger = other_browser(browser)
    stranger.post("/auth", data={"email": EMAIL})
    assert type_code(stranger, "x")[0] == 429


def test_a_strangers_letter_is_sent_again_just_the_same(client, mailbox, redis):
    client.post("/auth", data={"email": "nobody@example.org"})
    first = mailbox.last()
    assert client.post("/verify/resend", json={}).status_code == 429
    with later(redis, 61):
        assert client.post("/verify/resend", json={}).status_code == 200
        second = mailbox.last()
        assert second.sent_at > first.sent_at and second.links == first.links


def countdown(browser):
    """Seconds until the page says that the letter may be sent again; None where it may now."""
    form = BeautifulSoup(browser.get("/verify").text, "html.parser").find("form", {"action": "/verify/resend"})
    clock = form.find(attrs={"data-countdown": True})
    return int(clock["data-countdown"]) if clock else None


def test_the_page_counts_down_to_the_next_letter(browser, redis):
    assert 30 <= countdown(browser) <= 60
    with later(redis, 61):
        assert countdown(browser) is None


def test_a_browser_that_the_account_knows_is_told_of_its_own_budget(make_app):
    ada = make_app(MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="3 per hour").test_client()
    sign_up(ada)
    ada.post("/account/password", data={"old_password": PASSWORD, "password": "seven other horses graze"})
    for _ in range(4):
        other_browser(ada).post("/auth", data={"email": EMAIL})
    ada.post("/logout")
    assert ada.post("/auth", data={"email": EMAIL}).location == "/verify"
    assert 30 <= countdown(ada) <= 60


def test_what_the_page_counts_is_not_too_short(client):
    with time_machine.travel(time.time(), tick=False) as clock:
        client.post("/auth", data={"email": EMAIL})
        clock.shift(50.6)
        shown = countdown(client)
        clock.shift(shown)
        assert client.post("/verify/resend", json={}).status_code == 200
        clock.shift(-shown)
        assert (shown, client.post("/verify/resend", json={}).status_code) == (10, 429)


def test_a_clock_that_is_put_back_makes_nobody_wait_for_longer(client, mailbox):
    client.post("/auth", data={"email": EMAIL})
    letters = len(mailbox.all())
    with time_machine.travel(time.time() - 3600):
        assert countdown(client) is None
        assert client.post("/verify/resend", json={}).status_code == 200
        assert len(mailbox.all()) == letters + 1
        assert 30 <= countdown(client) <= 60
        assert client.post("/verify/resend", json={}).status_code == 429


@pytest.mark.parametrize(("behind", "status"), [(9, 429), (55, 429), (65, 200)])
def test_the_clocks_of_two_machines_may_differ_by_a_minute(client, behind, status):
    client.post("/auth", data={"email": EMAIL})
    with time_machine.travel(time.time() - behind):
        assert (countdown(client) is None) == (status == 200)
        assert client.post("/verify/resend", json={}).status_code == status


def test_the_waiting_page_says_where_the_letter_is(browser, mailbox):
    mailbox.all()
    page = BeautifulSoup(browser.get("/verify").text, "html.parser")
    assert page.find(attrs={"data-letter": True})["data-letter"] == "sent"


def test_looking_at_the_page_changes_nothing(browser, mailbox, redis):
    mailbox.all()

    def stored():
        return {key: redis.dump(key) for key in redis.keys("magicauth:*")}

    before = stored()
    for _ in range(100):
        assert browser.get("/verify").status_code == 200
    assert stored() == before


def test_after_the_sign_in_the_question_is_over(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    sign_in(browser)
    assert browser.get("/verify", headers=JSON).status_code == 404
    assert browser.post("/verify/resend", json={}).status_code == 404


def test_a_redis_that_stumbles_after_the_right_code_leaves_it_good(client, mailbox, redis):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last().code
    # What the letter of warning about a new browser takes.
    redis.execute_command("ACL", "SETUSER", "default", "-zadd")
    try:
        assert browser.post("/verify", data={"OTP": code}).status_code == 503
    finally:
        redis.execute_command("ACL", "SETUSER", "default", "+@all")
    assert browser.post("/verify", data={"OTP": code}).location == "/home"


@pytest.mark.parametrize(
    ("email", "webmail"),
    [("ada@yahoo.co.uk", "Open Yahoo Mail"), ("ada@outlook.fr", "Open Outlook"), ("ada@live.example.org", None)],
)
def test_the_webmail_of_a_domain_that_countries_have_too_is_known(client, email, webmail):
    client.post("/auth", data={"email": email})
    page = client.get("/verify").text
    assert webmail in page if webmail else 'target="_blank"' not in page


# --- sent again after the account changed ----------------------------------------------------------------------------


def test_sent_again_after_every_session_was_ended_the_letter_can_be_answered(app, browser, mailbox, redis):
    browser.post("/auth", data={"email": EMAIL})
    raise_epoch(app)
    with later(redis, 61):
        assert browser.post("/verify/resend").location == "/verify"
        assert browser.post("/verify", json={"OTP": mailbox.last(EMAIL).code}).status_code == 200


def test_sent_again_after_the_account_was_enabled_the_letter_signs_in(app, browser, mailbox, redis):
    change_user(app, disabled=True)
    browser.post("/auth", data={"email": EMAIL})
    assert mailbox.last(EMAIL).code is None
    change_user(app, disabled=False)
    with later(redis, 61):
        browser.post("/verify/resend")
        assert browser.post("/verify", json={"OTP": mailbox.last(EMAIL).code}).status_code == 200


def test_sent_again_after_the_account_was_made_the_letter_signs_in(client, mailbox, redis):
    browser = other_browser(client)
    browser.post("/auth", data={"email": "new@example.org"})
    sign_up(client, "new@example.org")
    with later(redis, 61):
        browser.post("/verify/resend")
        assert browser.post("/verify", json={"OTP": mailbox.last("new@example.org").code}).status_code == 200
