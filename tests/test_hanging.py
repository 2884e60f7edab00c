"""Redis that begins to hang in the middle of a request: whoever waited for it once does not wait again."""

import threading

import pytest
import redis.exceptions
from conftest import wait_for
from pages import EMAIL, PASSWORD, Letters, is_signed_in, other_browser, sign_up


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


@pytest.mark.parametrize("commands", [5, 6, 7])
def test_a_code_that_was_taken_already_is_good_again(app, client, hang_after, monkeypatch, commands):
    sign_up(client)
    browser, path, form = ask_for_a_code(client)
    hang_after(commands)
    assert browser.post(path, data=form).status_code == 503
    monkeypatch.undo()
    wait_for(lambda: browser.post(path, data=form).location == "/home")
    assert is_signed_in(browser)
