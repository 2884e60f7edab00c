"""Letters of warning: what happened to the account, and a way out that works."""

import threading
from contextlib import nullcontext
from pathlib import Path
from shutil import rmtree

import pytest
from conftest import wait_for
from instruments import at_once, later, letters_waiting, same_browser
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up, sign_up_by_mail
from redis.exceptions import ConnectionError as RedisConnectionError

from magicauth import audit
from magicauth.models import Action

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}
NEW = "seven other horses graze"


def warnings(mailbox, email=EMAIL):
    """The letters to that address that say: this was not me."""
    return [letter for letter in mailbox.all(email) if any("/auth/not_me" in link for link in letter.links)]


# --- what is told of -------------------------------------------------------------------------------------------------


def sign_in_from_a_new_browser(ada, _mailbox):
    sign_in(other_browser(ada))


def change_the_password(ada, _mailbox):
    ada.post("/account/password", data={"old_password": PASSWORD, "password": NEW})


def choose_a_forgotten_password(ada, mailbox):
    ada.post("/auth/reset", data={"email": EMAIL})
    ada.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    ada.post("/auth/reset/password", data={"password": NEW})


def sign_in_on_the_phone(ada, mailbox):
    sign_in(other_browser(ada))
    mailbox.all()  # The one about the phone has come.
    rmtree(Path(ada.application.instance_path) / "mailbox")


def end_the_other_sessions(ada, mailbox):
    sign_in_on_the_phone(ada, mailbox)
    ada.post("/account/sessions/end_others")


def end_one_session(ada, mailbox):
    sign_in_on_the_phone(ada, mailbox)
    sessions = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    handle = next(one["session"] for one in sessions if not one["current"])
    ada.post("/account/sessions/end", data={"session": handle})


def let_an_operator_end_them(ada, _mailbox):
    ada.application.test_cli_runner().invoke(args=["users", "sign-out", EMAIL])


def use_up_the_codes(ada, _mailbox):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    for _ in range(5):
        thief.post("/verify", data={"OTP": "x"})


EVENTS = {
    "sign-in from a browser not seen before": (sign_in_from_a_new_browser, "New sign-in to magicauth"),
    "password changed": (change_the_password, "Your magicauth password was changed"),
    "password reset": (choose_a_forgotten_password, "Your magicauth password was changed"),
    "sessions ended": (end_the_other_sessions, "You were signed out of magicauth"),
    "one session ended": (end_one_session, "You were signed out of magicauth"),
    "sessions ended by an operator": (let_an_operator_end_them, "You were signed out of magicauth"),
    "codes used up after a right password": (use_up_the_codes, "Someone may know your magicauth password"),
}


@pytest.mark.parametrize("event", EVENTS)
def test_the_owner_is_told_with_a_way_out_whose_get_changes_nothing_and_whose_post_ends_all_sessions(
    ada, mailbox, event
):
    act, subject = EVENTS[event]
    act(ada, mailbox)
    (letter,) = warnings(mailbox)
    assert letter.subject == subject
    assert letter.links[0] in letter.text and letter.links[0].replace("&", "&amp;") in letter.html
    assert letter.code is None
    phone = other_browser(ada)
    sign_in(phone, password=NEW if "password was changed" in subject else PASSWORD)
    owner = other_browser(ada)
    assert owner.get(letter.link).status_code == 200
    assert is_signed_in(phone)
    assert owner.post(letter.link).location == "/verify"
    assert not is_signed_in(phone) and not is_signed_in(ada)
    assert owner.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/auth/reset/password"


def test_a_changed_address_is_told_to_the_old_one_with_its_own_way_out(ada, mailbox):
    ada.post("/account/email", data={"email": "ada@new.example.org"})
    ada.post("/verify", data={"OTP": mailbox.last("ada@new.example.org").code})
    notice = mailbox.last(EMAIL)
    assert notice.subject == "Your address at magicauth was changed"
    assert "/account/email/undo?token=" in notice.link
    assert not warnings(mailbox, "ada@new.example.org")


def test_a_deleted_account_is_told_of_too(ada, mailbox):
    ada.post("/account/delete", data={"email": EMAIL})
    letter = mailbox.last(EMAIL)
    assert letter.subject == "Your magicauth account was deleted"
    assert not any("token" in link for link in letter.links)


# --- what they say ---------------------------------------------------------------------------------------------------


def test_when_by_which_browser_and_from_where(ada, mailbox):
    thief = other_browser(ada)
    everywhere = {"headers": FIREFOX, "environ_overrides": ELSEWHERE}
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD}, **everywhere)
    thief.post("/verify", data={"OTP": mailbox.last(EMAIL).code}, **everywhere)
    (letter,) = warnings(mailbox)
    for told in (letter.text, letter.html):
        assert "Firefox on Linux" in told and "203.0.113.9" in told and "UTC" in told


def test_a_browser_cannot_write_into_the_letter(ada, mailbox):
    thief = other_browser(ada)
    hostile = {"User-Agent": "Firefox/1 <a href='https://evil.example'>Click here, Ada</a>"}
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD}, headers=hostile)
    thief.post("/verify", data={"OTP": mailbox.last(EMAIL).code}, headers=hostile)
    (letter,) = warnings(mailbox)
    assert "evil.example" not in letter.text + letter.html + letter.subject


def test_they_go_to_the_address_as_the_owner_wrote_it(client, mailbox):
    client.post("/users/magic_link", data={"email": "Ada@Example.org"})
    client.post("/users/signup", data={"token": mailbox.last().token, "name": "Ada", "password": PASSWORD})
    client.post("/account/password", data={"old_password": PASSWORD, "password": NEW})
    assert len(warnings(mailbox, "Ada@example.org")) == 1


# --- what is not told of ---------------------------------------------------------------------------------------------


def test_a_browser_that_is_known_is_no_news(ada, mailbox):
    for _ in range(2):
        ada.post("/logout")
        sign_in(ada)
    assert warnings(mailbox) == []
    ada.delete_cookie("magicauth-device")
    sign_in(ada)
    assert len(warnings(mailbox)) == 1


def test_a_browser_known_to_an_earlier_account_of_the_address_is_news(ada, mailbox, redis):
    ada.post("/account/delete", data={"email": EMAIL})
    with later(redis, 2):
        sign_up(other_browser(ada), EMAIL, name="Another Ada")
        assert sign_in(ada).location == "/home"
        assert len(warnings(mailbox)) == 1


def test_a_browser_known_to_one_account_is_new_to_another(ada, mailbox):
    sign_up(other_browser(ada), "eve@example.org", name="Eve")
    sign_in(ada, "eve@example.org")
    assert len(warnings(mailbox, "eve@example.org")) == 1


@pytest.mark.parametrize(
    "forge", [lambda cookie: cookie[:-3] + "AAA", lambda cookie: "A" * 22 + cookie[22:], lambda _: "x"]
)
def test_a_forged_device_is_not_known(app, ada, mailbox, forge):
    thief = app.test_client()
    thief.set_cookie("magicauth-device", forge(ada.get_cookie("magicauth-device").value))
    sign_in(thief)
    assert len(warnings(mailbox)) == 1


def test_signing_up_warns_nobody(client, mailbox):
    sign_up_by_mail(client)
    assert len(mailbox.all(EMAIL)) == 1


def test_codes_used_up_without_the_password_are_no_news(ada, mailbox):
    stranger = other_browser(ada)
    stranger.post("/auth", data={"email": EMAIL})
    for _ in range(6):
        stranger.post("/verify", data={"OTP": "x"})
    assert warnings(mailbox) == []


def test_guesses_behind_the_password_are_told_of_over_all_challenges(ada, mailbox):
    for guesses in (4, 1, 4):
        thief = other_browser(ada)
        assert thief.post("/auth", data={"email": EMAIL, "password": PASSWORD}).location == "/verify"
        for _ in range(guesses):
            thief.post("/verify", data={"OTP": "x"})
    (letter,) = warnings(mailbox)
    assert letter.subject == "Someone may know your magicauth password"


def test_what_an_owner_mistypes_now_and_then_is_no_news(ada, mailbox):
    for attempt in range(6):
        ada.post("/logout")
        ada.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        ada.post("/verify", data={"OTP": "x"})
        assert ada.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/home", attempt
        rmtree(Path(ada.application.instance_path) / "mailbox")
    assert warnings(mailbox) == []


def test_they_are_counted_for_a_day_from_the_first(ada, redis):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    for life in (86_400, 100):
        thief.post("/verify", data={"OTP": "x"})
        (key,) = redis.keys("magicauth:behind-password:*")
        assert 0 < redis.ttl(key) <= life
        redis.expire(key, 100)


def test_codes_used_up_are_told_once(ada, mailbox):
    use_up_the_codes(ada, mailbox)
    assert len(warnings(mailbox)) == 1


def test_a_stranger_to_whom_nothing_happened_is_not_written_to(ada, mailbox):
    stranger = other_browser(ada)
    for _ in range(5):
        stranger.post("/auth", data={"email": "nobody@example.org", "password": "x"})
    stranger.post("/auth", data={"email": EMAIL, "password": "x"})
    assert mailbox.all() == []


@pytest.mark.parametrize("act", [end_the_other_sessions, change_the_password, choose_a_forgotten_password])
def test_a_browser_whose_session_ended_with_all_others_is_a_new_one_again(ada, mailbox, act):
    thief = other_browser(ada)
    sign_in(thief)
    act(ada, mailbox)
    seen = len(warnings(mailbox))
    password = PASSWORD if act is end_the_other_sessions else NEW
    sign_in(thief, password=password)
    assert warnings(mailbox)[0].subject == "New sign-in to magicauth" and len(warnings(mailbox)) == seen + 1
    # The one that ended them is not.
    ada.post("/logout")
    sign_in(ada, password=password)
    assert len(warnings(mailbox)) == seen + 1


def test_the_browser_of_an_account_that_is_gone_is_new_to_the_next_one_of_its_address(ada, mailbox, redis):
    assert ada.post("/account/delete", data={"email": EMAIL}).location == "/auth"
    # A second is as exact as the cookie is.
    with later(redis, 5):
        sign_up(other_browser(ada))
        choose_a_forgotten_password(ada, mailbox)
        assert is_signed_in(ada)
        assert "New sign-in to magicauth" in {letter.subject for letter in warnings(mailbox)}


def test_an_account_without_a_password_is_warned_as_well(app):
    assert app.test_cli_runner().invoke(args=["users", "create", EMAIL]).exit_code == 0
    browser, mailbox = app.test_client(), Letters(app)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    (letter,) = warnings(mailbox)
    assert letter.subject == "New sign-in to magicauth"
    assert app.test_client().post(letter.link).location == "/verify"
    assert not is_signed_in(browser)


# --- where another change comes first --------------------------------------------------------------------------------


def test_a_change_that_another_overtakes_is_not_told_of(ada, mailbox, redis, overtaken):
    thief = same_browser(ada)
    overtaken(Action.PASSWORD_CHANGED, lambda: thief.post("/account/sessions/end_others"))
    change_the_password(ada, mailbox)
    wait_for(lambda: not letters_waiting(redis))
    assert [letter.subject for letter in mailbox.all(EMAIL)] == ["You were signed out of magicauth"]
    assert other_browser(ada).get(mailbox.last(EMAIL).link).status_code == 200


@pytest.mark.parametrize("action", [Action.PASSWORD_CHANGED, Action.PASSWORD_RESET])
def test_of_two_changes_at_once_the_letter_of_the_one_that_was_done_goes_out(ada, mailbox, redis, overtaken, action):
    change, subject = CHANGES[action]
    thief = same_browser(ada)
    overtaken(action, lambda: change_the_password(thief, mailbox))
    change(ada, mailbox)
    wait_for(lambda: not letters_waiting(redis))
    (letter,) = [letter for letter in mailbox.all(EMAIL) if letter.subject == subject]
    assert other_browser(ada).post(letter.link).location == "/verify"


# --- where Redis is lost once the change is committed -----------------------------------------------------------------


def change_the_address(ada, mailbox):
    ada.post("/account/email", data={"email": "new@example.org"})
    ada.post("/verify", data={"OTP": mailbox.last("new@example.org").code})


def delete_the_account(ada, _mailbox):
    ada.post("/account/delete", data={"email": EMAIL})


CHANGES = {
    Action.PASSWORD_CHANGED: (change_the_password, "Your magicauth password was changed"),
    Action.PASSWORD_RESET: (choose_a_forgotten_password, "Your magicauth password was changed"),
    Action.SESSIONS_ENDED: (end_the_other_sessions, "You were signed out of magicauth"),
    Action.EMAIL_CHANGED: (change_the_address, "Your address at magicauth was changed"),
    Action.DELETED: (delete_the_account, "Your magicauth account was deleted"),
}


@pytest.fixture
def redis_dies_after(app, monkeypatch):
    """Lets requests lose their Redis from the commit of an action on, until it is called back."""
    pool, away, receivers = app.extensions["magicauth-redis"].connection_pool, threading.Event(), []
    get_connection = pool.get_connection

    def connect(*arguments, **options):
        if away.is_set() and threading.current_thread() is threading.main_thread():
            raise RedisConnectionError
        return get_connection(*arguments, **options)

    def begin(action):
        receivers.append(lambda _, user: away.set())
        audit.signal(action).connect(receivers[-1])
        return away

    monkeypatch.setattr(pool, "get_connection", connect)
    return begin


@pytest.mark.parametrize("action", CHANGES)
def test_the_owner_is_told_even_if_redis_dies_once_the_change_is_made(ada, mailbox, redis_dies_after, action):
    change, subject = CHANGES[action]
    away = redis_dies_after(action)
    change(ada, mailbox)
    assert away.is_set()
    away.clear()
    assert [letter.subject for letter in mailbox.all(EMAIL)].count(subject) == 1


def test_nobody_is_told_of_what_could_not_be_committed(ada, mailbox, redis, unwritable):
    unwritable()
    for action, (change, subject) in CHANGES.items():
        change(ada, mailbox)
        # What cannot be called back is given up after a minute.
        with later(redis, 61) if action == Action.DELETED else nullcontext():
            assert subject not in [letter.subject for letter in mailbox.all(EMAIL)]
    assert is_signed_in(ada)


@pytest.mark.parametrize("action", [Action.PASSWORD_CHANGED, Action.DELETED])
def test_of_many_presses_at_once_one_changes_it_and_one_letter_tells_of_it(ada, mailbox, redis, action):
    change, subject = CHANGES[action]
    tabs = [same_browser(ada) for _ in range(6)]
    at_once(6, lambda number: change(tabs[number], mailbox))
    # The others' letters wait for what does not come true; what cannot be called back is given up after a minute.
    with later(redis, 61) if action == Action.DELETED else nullcontext():
        wait_for(lambda: not letters_waiting(redis))
    assert [letter.subject for letter in mailbox.all(EMAIL)].count(subject) == 1
