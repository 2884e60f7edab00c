"""`/auth/password/strength`: how strong a password would be, while it is being typed."""

import logging
import sys
import threading
import time
from collections import Counter

import pytest
from argon2 import PasswordHasher
from conftest import wait_for
from instruments import at_once, change_user, later, redis_commands, same_browser, sql_statements
from pages import EMAIL, JSON, PASSWORD, Letters, other_browser, sign_up
from world import look

from magicauth import passwords
from magicauth.languages import CODES
from magicauth.models import User

DOOR = "/auth/password/strength"
TOO_EASY = "This password is too easy to guess. Longer, or with an unusual word, is better."
# What stands for letters, and is tried as each of them: the worst that can be typed.
LETTER_LIKE = "2+6(130{174378$|@1@21a{7{@!%355<9416@5@482$46{1216%29<3<8!|8abcxyzzy1234"


@pytest.fixture
def newcomer(client, mailbox):
    """A browser that has opened a sign-up link, and the link's token."""
    client.post("/users/magic_link", data={"email": EMAIL})
    return client, mailbox.last().token


@pytest.fixture
def forgetful(client, mailbox):
    """A browser that has proven its address for a new password."""
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth/reset", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": mailbox.last().code})
    return browser


def ask(browser, password, **fields):
    return browser.post(DOOR, json={"password": password, **fields})


def said(browser, password, **fields):
    """Score and sentence."""
    answer = ask(browser, password, **fields)
    assert (answer.status_code, answer.get_json()["status"]) == (200, "SUCCESS")
    return answer.get_json()["score"], answer.get_json()["message"]


def said_at_last(browser, password):
    """The same, asked until it is looked at: of many at once few are."""
    answer = wait_for(lambda: found if (found := ask(browser, password)).status_code == 200 else None)
    return answer.get_json()["score"], answer.get_json()["message"]


@pytest.mark.parametrize(
    ("password", "score", "words"),
    [
        (PASSWORD, 4, "Very strong."),
        ("monkey garden", 3, "Strong."),
        ("dragon lake", 2, "Fair. Names and common words are quickly guessed: add an unusual one."),
        ("qwertyuiop[]xk9", 2, "Fair. Rows of keys are quickly guessed: add an unusual word."),
        ("bluebluebluesky7", 2, "Fair. Repeats are quickly guessed: add an unusual word."),
        ("12.03.1987 xi", 2, "Fair. Dates and years are quickly guessed: add an unusual word."),
        ("password1", 0, TOO_EASY),
        (EMAIL, 0, TOO_EASY),
        ("magicauth7!", 1, TOO_EASY),
        ("short", 0, "Use at least 8 characters."),
        ("x" * 129, 0, "Use at most 128 characters."),
        ("12345678\0", 0, "The password holds a character that cannot be used."),
    ],
)
def test_it_says_how_strong_and_what_would_help(newcomer, password, score, words):
    browser, token = newcomer
    assert said(browser, password, token=token) == (score, words)


@pytest.mark.parametrize(
    "password",
    [
        "grace.hopper",
        "Hopper, Grace",
        "GraceHopper1906",
        "grace_hopper",
        "navy-yard.org",
        "grace.hopper@navy-yard",
        "!!navyyard2024",
        "Yard of Grace",
        "gráce-HOPPER",
    ],
)
def test_it_refuses_what_is_made_of_name_and_address_however_they_are_joined(client, mailbox, password):
    client.post("/users/magic_link", data={"email": "grace.hopper@navy-yard.org"})
    form = {"token": mailbox.last().token, "name": "Grace Hopper"}
    score, words = said(client, password, **form)
    assert (score < 2, words) == (True, TOO_EASY)
    assert client.post("/users/signup", json=form | {"password": password}).status_code == 400
    # What is left may be short.
    for other in ("grace plants rhubarb", "grace.hopper plum7", "~#%^&*()-_=+[]{};:", "Grace~#%^&*()-_="):
        assert said(client, other, **form)[0] > 2


@pytest.mark.parametrize(
    ("email", "name", "password"),
    [
        ("ada@ox.ac.uk", "Ada", "ada.ox.ac.uk"),
        ("x@y.example", "Li Wu", "Li-Wu:Li-Wu"),
        ("x@y.example", "José García López", "jose.garcia.lopez"),
    ],
)
def test_nor_do_short_words_and_accents_make_it_hard_to_guess(client, mailbox, email, name, password):
    client.post("/users/magic_link", data={"email": email})
    assert said(client, password, token=mailbox.last().token, name=name)[0] < 2


def test_a_name_that_is_longer_than_any_is_cut(client, mailbox, monkeypatch):
    seen, guess = [], passwords._guess
    monkeypatch.setattr(passwords, "_guess", lambda password, words: seen.extend(words) or guess(password, words))
    client.post("/users/magic_link", data={"email": EMAIL})
    said(client, PASSWORD, token=mailbox.last().token, name="x" * 30_000)
    assert max(map(len, seen)) == 100


@pytest.mark.parametrize("password", ["short", "x" * 129, "password1", EMAIL, "augusta king", "KingAugusta", PASSWORD])
def test_it_refuses_what_the_form_refuses_in_the_same_words(newcomer, password):
    browser, token = newcomer
    score, words = said(browser, password, token=token, name="Augusta King")
    form = {"token": token, "name": "Augusta King", "password": password}
    answer = browser.post("/users/signup", json=form)
    refused = [] if answer.status_code == 201 else answer.get_json()["errors"]["password"]
    assert ([words] if score < 2 else []) == refused


def test_who_chooses_a_new_password_is_told_what_it_must_not_be_made_of(client, forgetful):
    for browser in (client, forgetful):
        assert said(browser, EMAIL) == said(browser, "lovelace") == (0, TOO_EASY)
        assert said(browser, PASSWORD) == (4, "Very strong.")


def test_the_sentence_is_in_the_readers_language(newcomer):
    browser, token = newcomer
    answers = {
        code: browser.post(
            DOOR, json={"password": "password1", "token": token}, headers={"Accept-Language": code}
        ).get_json()["message"]
        for code in CODES
    }
    assert answers["en"] == TOO_EASY
    assert len(set(answers.values())) == len(CODES)


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [({}, 401), ({"token": ""}, 401), ({"token": "x"}, 403), ({"token": "a" * 26 + "." + "b" * 43}, 403)],
)
def test_a_stranger_gets_no_work_out_of_it(client, fields, status):
    assert ask(client, PASSWORD, **fields).status_code == status


def test_a_stranger_with_a_form_is_sent_to_sign_in(client):
    assert client.post(DOOR, data={"password": PASSWORD}).location == "/auth"


def test_a_link_that_is_used_or_expired_asks_nothing_more(newcomer, redis):
    browser, token = newcomer
    with later(redis, 86_401):
        assert ask(browser, PASSWORD, token=token).status_code == 403
    browser.post("/users/magic_link", data={"email": EMAIL})
    token = Letters(browser.application).last().token
    browser.post("/users/signup", data={"token": token, "name": "Ada", "password": PASSWORD})
    assert ask(other_browser(browser), PASSWORD, token=token).status_code in (400, 403)


def test_a_reset_that_is_not_proven_yet_or_a_sign_in_under_way_is_nothing(client):
    sign_up(client)
    for start in ("/auth", "/auth/reset"):
        browser = other_browser(client)
        browser.post(start, data={"email": EMAIL})
        assert ask(browser, PASSWORD).status_code == 401


def test_where_passwords_are_off_there_is_no_such_door(make_app):
    client = make_app(MAGICAUTH_PASSWORDS="off").test_client()
    sign_up(client, password="")
    assert ask(client, PASSWORD).status_code == 404


def test_a_foreign_site_cannot_ask(client):
    sign_up(client)
    assert client.post(DOOR, json={"password": PASSWORD}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


# --- what it costs and leaves ----------------------------------------------------------------------------------------


def test_it_reads_the_session_and_nothing_else(app, client, redis):
    sign_up(client)
    with redis_commands(redis) as commands, sql_statements(app) as statements:
        assert said(client, PASSWORD)[0] == 4
    assert ([command for command in commands if not command.startswith("EVALSHA")], statements) == (["GET"], [])


def test_what_is_typed_is_kept_nowhere(app, client, newcomer, forgetful, caplog):
    caplog.set_level(logging.DEBUG)
    _, token = newcomer
    before = look(app)
    for browser, fields in (
        (newcomer[0], {"token": token}),
        (client, {}),
        (forgetful, {}),
        (other_browser(client), {}),
    ):
        for password in ("horse battery", "hunter22", "12345678\0"):
            browser.post(DOOR, data={"password": password, **fields}, headers=JSON)
    assert look(app) == before
    assert not [word for word in ("horse", "hunter22", "12345678") if word in caplog.text]


def test_no_password_takes_long_to_look_at(newcomer):
    """zxcvbn tries every letter that each sign may stand for: seconds, where there are many."""
    browser, token = newcomer
    said(browser, PASSWORD, token=token)
    for password in (LETTER_LIKE, LETTER_LIKE[::-1], "|+4836917052" * 10, "a" * 128, "1/1/1987" * 16):
        began = time.thread_time()
        answer = browser.post("/users/signup", json={"token": token, "name": "", "password": password})
        assert answer.status_code == 400
        assert time.thread_time() - began < 0.4, password


def test_of_many_at_once_each_is_looked_at_with_its_own_name(client):
    sign_up(client, name="Xanthippe Quillfeather")
    bob = other_browser(client)
    sign_up(bob, "bob@example.org", name="Bob")
    tabs = [same_browser(client if number % 2 else bob) for number in range(12)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        scores = at_once(12, lambda number: [said_at_last(tabs[number], "quillfeather")[0] for _ in range(4)])
    finally:
        sys.setswitchinterval(interval)
    assert scores == [[3] * 4, [0] * 4] * 6


def test_of_many_at_once_few_are_looked_at(client, monkeypatch):
    sign_up(client)
    guess, go_on, refused = passwords._guess, threading.Event(), []

    def guess_slowly(*arguments):
        assert go_on.wait(10)
        return guess(*arguments)

    monkeypatch.setattr(passwords, "_guess", guess_slowly)
    tabs = [same_browser(client) for _ in range(8)]

    def look(number):
        answer = ask(tabs[number], PASSWORD)
        if answer.status_code == 429:
            refused.append(number)
        if len(refused) == 6:
            go_on.set()
        return answer.status_code, answer.headers.get("Retry-After")

    answers = Counter(at_once(8, look))
    assert answers == {(200, None): 2, (429, "1"): 6}
    assert ask(client, PASSWORD).status_code == 200


def test_where_there_is_no_memory_to_check_a_password_it_is_not_called_wrong(client, monkeypatch):
    sign_up(client)
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(memory_cost=2**31, time_cost=1, parallelism=1))
    new = other_browser(client)
    link = new.post("/users/magic_link", json={"email": "eve@example.org"})
    form = {"token": Letters(client.application).last("eve@example.org").token, "name": "Eve", "password": PASSWORD}
    assert (link.status_code, new.post("/users/signup", json=form).status_code) == (200, 503)
    monkeypatch.undo()
    assert new.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 200
    assert new.post("/users/signup", json=form).status_code == 201


def test_a_password_that_there_was_no_memory_to_check_is_not_counted(client):
    sign_up(client)
    with client.application.app_context():
        kept = User.by_email(EMAIL).password_hash
    change_user(client.application, password_hash=kept.replace("m=8,", f"m={2**31},"))
    stranger = other_browser(client)
    for _ in range(12):
        assert stranger.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 503
    change_user(client.application, password_hash=kept)
    assert stranger.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 200
