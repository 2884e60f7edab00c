"""Redis that hangs or is lost in the middle of a request: it is waited for once, and what was not done can be done."""

import threading

import pytest
import redis.exceptions
from conftest import wait_for
from pages import EMAIL, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up, sign_up_by_mail

from magicauth import challenges


@pytest.fixture
def hang_after(app, monkeypatch):
    """Lets the app's Redis answer so many commands more, and then hang; lists what it is asked from then on."""

    def begin(commands):
        client = app.extensions["magicauth-redis"]
        pool, asked = client.connection_pool, []
        get_connection = pool.get_connection

        def count(*arguments, **options):
            # Whoever does not ask in the visitor's name, in a thread of its own, may wait until Redis is back.
            if threading.current_thread() is threading.main_thread():
                asked.append(None)
                if len(asked) > commands:
                    raise redis.exceptions.TimeoutError
            return get_connection(*arguments, **options)

        monkeypatch.setattr(pool, "get_connection", count)
        return asked

    return begin


class Lost:
    """The app's Redis, lost to requests after so many commands more, until that is over."""

    def __init__(self, pool):
        self._connect, self._left = pool.get_connection, None

    def after(self, commands):
        self._left = commands

    def over(self):
        self._left = None

    def connect(self, *arguments, **options):
        if self._left is not None and threading.current_thread() is threading.main_thread():
            self._left -= 1
            if self._left < 0:
                raise redis.exceptions.ConnectionError
        return self._connect(*arguments, **options)


@pytest.fixture
def lost(app, monkeypatch):
    pool = app.extensions["magicauth-redis"].connection_pool
    lost = Lost(pool)
    monkeypatch.setattr(pool, "get_connection", lost.connect)
    return lost


def ask_for_a_code(client):
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    return browser, "/verify", {"OTP": Letters(client.application).last().code}


def begin_to_sign_in(client):
    return other_browser(client), "/auth", {"email": EMAIL, "password": PASSWORD}


def forget_the_password(client):
    browser = other_browser(client)
    browser.post("/auth/reset", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": Letters(client.application).last().code})
    return browser, "/auth/reset/password", {"password": "another horse battery staple"}


def follow_a_link(client):
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    return browser, "/auth/link", {"token": Letters(client.application).last().token}


def ask_for_a_letter(client):
    return other_browser(client), "/users/magic_link", {"email": "new@example.org"}


@pytest.mark.parametrize("commands", range(8))
@pytest.mark.parametrize(
    "get_ready", [ask_for_a_code, begin_to_sign_in, forget_the_password, follow_a_link, ask_for_a_letter]
)
def test_it_is_waited_for_once(app, client, hang_after, get_ready, commands):
    sign_up(client)
    browser, path, form = get_ready(client)
    asked = hang_after(commands)
    answer = browser.post(path, data=form)
    assert answer.status_code in (303, 503)
    assert len(asked) <= commands + 1, (len(asked), commands)


@pytest.mark.parametrize("page", ["/auth/link", "/users/signup", "/auth/not_me", "/account/email/undo"])
def test_the_page_of_a_link_waits_for_it_once_too(client, hang_after, page):
    sign_up_by_mail(client)
    token = Letters(client.application).last().token
    asked = hang_after(0)
    assert client.get(page, query_string={"token": token}).status_code == 503
    assert len(asked) == 1


def say_that_it_was_not_me(client):
    sign_in(other_browser(client))
    return client, "/auth/not_me", {"token": Letters(client.application).last().token}


def say_again_who_one_is(client):
    client.post("/auth/fresh/code")
    return client, "/auth/fresh", {"OTP": Letters(client.application).last().code}


def prove_the_address_first(client):
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/verify", data={"OTP": Letters(client.application).last().code})
    return browser, "/auth/password", {"password": PASSWORD}


@pytest.mark.parametrize("commands", range(12))
def test_a_password_that_finishes_a_sign_in_can_be_typed_again(client, lost, commands):
    sign_up(client)
    browser, path, form = prove_the_address_first(client)
    lost.after(commands)
    answer = browser.post(path, data=form)
    lost.over()
    if answer.status_code == 503:
        wait_for(lambda: browser.post(path, data=form).location == "/home")
    assert is_signed_in(browser)


@pytest.mark.parametrize("commands", range(12))
@pytest.mark.parametrize(
    "get_ready",
    [ask_for_a_code, follow_a_link, say_that_it_was_not_me, say_again_who_one_is],
    ids=lambda do: do.__name__,
)
def test_what_a_redis_that_is_lost_in_between_leaves_undone_can_be_done_again(app, client, lost, get_ready, commands):
    sign_up(client)
    browser, path, form = get_ready(client)
    lost.after(commands)
    answer = browser.post(path, data=form)
    lost.over()
    if answer.status_code == 503:
        wait_for(lambda: browser.post(path, data=form).status_code == 303)
    if path == "/auth/not_me":
        assert not is_signed_in(client)
        assert "code for a new password" in Letters(app).last().subject
    else:
        assert browser.get("/home").status_code == 200 or browser.get("/auth/password").status_code == 200


@pytest.fixture
def silent_end(monkeypatch):
    """Challenges are ended, and Redis does not say so."""
    take = challenges._take

    def take_and_fall_silent(*arguments):
        take(*arguments)
        raise redis.exceptions.ConnectionError

    return lambda: monkeypatch.setattr(challenges, "_take", take_and_fall_silent)


def test_a_code_whose_end_is_not_answered_stays_ended(app, client, silent_end, monkeypatch):
    """Another may have had the answer, and got in."""
    sign_up(client)
    browser, path, form = ask_for_a_code(client)
    silent_end()
    assert browser.post(path, data=form).status_code == 503
    monkeypatch.undo()
    assert browser.post(path, json=form).status_code == 404
    assert browser.post("/verify/resend", json={}).status_code == 200


def test_a_warning_whose_end_is_not_answered_is_good_again(app, client, silent_end, monkeypatch):
    sign_up(client)
    browser, path, form = say_that_it_was_not_me(client)
    silent_end()
    assert browser.post(path, data=form).status_code == 503
    monkeypatch.undo()
    wait_for(lambda: browser.post(path, data=form).status_code == 303)
    assert not is_signed_in(client)


@pytest.mark.parametrize("commands", [5, 6, 7])
def test_a_code_that_was_taken_already_is_good_again(app, client, hang_after, monkeypatch, commands):
    sign_up(client)
    browser, path, form = ask_for_a_code(client)
    hang_after(commands)
    assert browser.post(path, data=form).status_code == 503
    monkeypatch.undo()
    wait_for(lambda: browser.post(path, data=form).location == "/home")
    assert is_signed_in(browser)


def test_metrics_ask_one_that_hangs_once(app, client, hang_after, monkeypatch):
    monkeypatch.setitem(app.config, "MAGICAUTH_METRICS_TOKEN", "token")
    asked = hang_after(0)
    answer = client.get("/metrics", headers={"Authorization": "Bearer token"})
    assert answer.status_code == 200 and 'magicauth_up{dependency="redis"} 0.0' in answer.text
    assert len(asked) == 1
