"""`/account/password`: another password, or a first one."""

from itertools import pairwise

import pytest
from bs4 import BeautifulSoup
from conftest import wait_for
from instruments import delivering, later, letters_waiting, quiet_app, raise_epoch, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up, sign_up_by_mail
from sqlalchemy.exc import OperationalError

from magicauth.extensions import db
from magicauth.models import AuditEvent

NEW = "seven other horses graze"
CHANGE = {"old_password": PASSWORD, "password": NEW}


def without_password(app, email=EMAIL):
    """A browser signed in to an account that an operator made, which has no password yet."""
    assert app.test_cli_runner().invoke(args=["users", "create", email, "--name", "Ada"]).exit_code == 0
    browser = app.test_client()
    browser.post("/auth", data={"email": email})
    assert browser.post("/verify", data={"OTP": Letters(app).last(email).code}).location == "/home"
    return browser


# --- changing it -----------------------------------------------------------------------------------------------------


def test_the_new_password_counts_and_the_old_one_no_longer(ada):
    changed = ada.post("/account/password", data=CHANGE)
    assert (changed.status_code, changed.location) == (303, "/account")
    assert "Your password is changed." in ada.get("/account").text
    stranger = other_browser(ada)
    assert stranger.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert sign_in(stranger, password=NEW).location == "/home"


def test_as_json(ada):
    answer = ada.post("/account/password", json=CHANGE)
    assert answer.get_json() == {"status": "SUCCESS", "message": "Password changed.", "next": "/account"}


def test_every_other_session_ends_and_this_one_goes_on_under_a_new_id(app, ada, mailbox):
    phone = other_browser(ada)
    sign_in(phone)
    before = session_id(ada)
    ada.post("/account/password", data=CHANGE)
    assert not is_signed_in(phone)
    assert is_signed_in(ada) and session_id(ada) != before
    replayed = app.test_client()
    replayed.set_cookie("magicauth", before)
    assert not is_signed_in(replayed)
    letter = mailbox.last(EMAIL)
    assert "password was changed" in letter.subject and "/auth/not_me?token=" in letter.links[0]


def test_the_password_counts_exactly_as_it_was_typed(ada):
    ada.post("/account/password", data={"old_password": PASSWORD, "password": f" {NEW}\t"})
    assert other_browser(ada).post("/auth", json={"email": EMAIL, "password": NEW}).status_code == 401
    assert sign_in(other_browser(ada), password=f" {NEW}\t").location == "/home"


def test_the_form_lets_password_managers_do_their_work(ada):
    page = BeautifulSoup(ada.get("/account/password").text, "html.parser")
    hints = {field["name"]: field["autocomplete"] for field in page.select("main input:not([type=hidden])")}
    assert hints == {"email": "username", "old_password": "current-password", "password": "new-password"}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["", "not the one", PASSWORD.upper(), f"{PASSWORD} ", None, 5, [PASSWORD], "a\x00b"])
def test_without_the_old_password_nothing_changes(ada, mailbox, old):
    letters = len(mailbox.all())
    answer = ada.post("/account/password", json={"old_password": old, "password": NEW})
    assert answer.status_code == 401
    assert list(answer.get_json()["errors"]) == ["old_password"]
    assert len(mailbox.all()) == letters
    assert other_browser(ada).post("/auth", json={"email": EMAIL, "password": NEW}).status_code == 401


@pytest.mark.parametrize(
    "new", ["", "short", "x" * 129, "password1", EMAIL, "Ada Lovelace", "magicauth1", "a\x00" * 8, None]
)
def test_a_weak_new_password_is_refused_beside_its_field(ada, new):
    phone = other_browser(ada)
    sign_in(phone)
    answer = ada.post("/account/password", json={"old_password": PASSWORD, "password": new})
    assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["password"])
    assert is_signed_in(phone)


def test_what_is_wrong_stands_beside_its_field_and_no_secret_in_the_page(ada):
    for form, field, status in (
        ({"old_password": "not the one", "password": NEW}, "old_password", 401),
        ({"old_password": PASSWORD, "password": "password1"}, "password", 400),
    ):
        page = ada.post("/account/password", data=form)
        assert page.status_code == status
        assert f'id="{field}-error"' in page.text
        assert not any(secret in page.text for secret in form.values())


def test_a_thief_in_the_session_cannot_guess_the_old_password_for_ever(ada, redis):
    for _ in range(10):
        assert ada.post("/account/password", json={"old_password": "x", "password": NEW}).status_code == 401
    answer = ada.post("/account/password", json=CHANGE)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    # The same budget as everywhere else: another form is no way round it.
    assert ada.post("/auth/fresh", json={"password": PASSWORD}).status_code == 429
    with later(redis, int(answer.headers["Retry-After"])):
        assert ada.post("/account/password", json=CHANGE).status_code == 200


def test_right_passwords_cost_nothing(ada):
    passwords = [PASSWORD, NEW] * 7
    for old, new in pairwise(passwords):
        assert ada.post("/account/password", json={"old_password": old, "password": new}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stranger_or_a_stale_sign_in_is_refused(ada, redis, method):
    stranger = other_browser(ada)
    assert stranger.open("/account/password", method=method).location == "/auth?next=/account/password"
    assert stranger.open("/account/password", method=method, headers=JSON).status_code == 401
    with later(redis, 901):
        assert ada.open("/account/password", method=method, data=CHANGE).location == "/auth/fresh"
        answer = ada.open("/account/password", method=method, headers=JSON, data=CHANGE)
        assert (answer.status_code, answer.get_json()["message"]) == (403, "Fresh sign-in required.")
    assert sign_in(stranger).location == "/home"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_where_passwords_are_off_there_is_no_such_page(make_app, method):
    client = make_app(MAGICAUTH_PASSWORDS="off").test_client()
    sign_up(client, password="")
    assert client.open("/account/password", method=method).status_code == 404
    assert client.open("/account/password", method=method, headers=JSON, data=CHANGE).status_code == 404
    assert "/account/password" not in client.get("/account").text


# --- what was open when it changed -----------------------------------------------------------------------------------


def test_a_sign_in_with_the_old_password_cannot_be_finished(ada, mailbox):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last(EMAIL).code
    ada.post("/account/password", data=CHANGE)
    assert thief.post("/verify", json={"OTP": code}).status_code == 404
    assert not is_signed_in(thief)


def test_a_proven_address_does_not_wait_for_the_next_password(ada, mailbox):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL})
    assert thief.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/auth/password"
    ada.post("/account/password", data=CHANGE)
    for password in (PASSWORD, NEW):
        assert thief.post("/auth/password", json={"password": password}).status_code == 404


@pytest.mark.parametrize("start", ["/auth", "/auth/reset"])
def test_a_link_on_its_way_is_void(ada, mailbox, start):
    thief = other_browser(ada)
    thief.post(start, data={"email": EMAIL})
    letter = mailbox.last(EMAIL)
    ada.post("/account/password", data=CHANGE)
    assert thief.post("/auth/link", json={"token": letter.token}).status_code in (403, 404)
    assert other_browser(ada).post("/auth/link", json={"token": letter.token, "email": EMAIL}).status_code in (403, 404)
    assert thief.get("/auth/reset/password", headers=JSON).status_code == 404


def test_a_proven_reset_is_void(ada, mailbox):
    thief = other_browser(ada)
    thief.post("/auth/reset", data={"email": EMAIL})
    assert thief.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/auth/reset/password"
    ada.post("/account/password", data=CHANGE)
    assert thief.post("/auth/reset/password", json={"password": "the thief's own words"}).status_code == 404
    assert sign_in(other_browser(ada), password=NEW).location == "/home"


def test_an_old_password_does_not_join_a_new_code(ada, mailbox, redis):
    thief = other_browser(ada)
    thief.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    ada.post("/account/password", data=CHANGE)
    with later(redis, 61):
        thief.post("/verify/resend")
        thief.post("/verify", json={"OTP": mailbox.last(EMAIL).code})
        thief.post("/verify/resend")
        thief.post("/verify", json={"OTP": mailbox.last(EMAIL).code})
        assert not is_signed_in(thief)


def test_a_change_of_address_that_was_under_way_is_void(ada, mailbox):
    ada.post("/account/email", data={"email": "ada@new.example.org"})
    letter = mailbox.last("ada@new.example.org")
    ada.post("/account/password", data=CHANGE)
    assert ada.post("/verify", json={"OTP": letter.code}).status_code == 404
    elsewhere = {"token": letter.token, "email": "ada@new.example.org"}
    assert other_browser(ada).post("/auth/link", json=elsewhere).status_code in (403, 404)
    assert ada.get("/account", headers=JSON).get_json()["user"]["email"] == EMAIL


# --- the first one ---------------------------------------------------------------------------------------------------


def test_an_account_without_a_password_chooses_one_and_is_asked_for_it_from_then_on(app):
    browser = without_password(app)
    page = BeautifulSoup(browser.get("/account/password").text, "html.parser")
    assert not page.find("input", {"name": "old_password"})
    assert browser.post("/account/password", data={"password": NEW}).location == "/account"
    stranger = app.test_client()
    stranger.post("/auth", data={"email": EMAIL})
    code = Letters(app).last(EMAIL).code
    assert stranger.post("/verify", data={"OTP": code}).location == "/auth/password"
    assert stranger.post("/auth/password", data={"password": NEW}).location == "/home"


def test_a_first_password_is_judged_as_any_other(app):
    browser = without_password(app)
    assert browser.post("/account/password", json={"password": "password1"}).status_code == 400
    assert browser.post("/account/password", json={}).status_code == 400


def test_a_first_password_wants_a_fresh_sign_in_of_this_epoch(app, redis):
    browser = without_password(app)
    with later(redis, 901):
        assert browser.post("/account/password", json={"password": NEW}).status_code == 403
    raise_epoch(app)
    assert browser.post("/account/password", json={"password": NEW}).status_code == 401


@pytest.mark.parametrize("stays_away", [False, True])
@pytest.mark.parametrize("done", [True, False])
def test_a_change_whose_commit_was_not_answered_is_told_of_if_it_was_done(
    redis, redis_url, tmp_path, monkeypatch, done, stays_away
):
    with quiet_app(redis_url, tmp_path) as app:
        ada = app.test_client()
        with delivering(app):
            sign_up_by_mail(ada)
        commit, silent = db.session.commit, OperationalError("COMMIT", {}, Exception("server closed the connection"))

        def commit_and_fall_silent():
            commit() if done else db.session.rollback()
            raise silent

        def look_in_vain(_):
            raise silent

        with monkeypatch.context() as broken:
            broken.setattr(db.session, "commit", commit_and_fall_silent)
            if stays_away:
                broken.setattr(AuditEvent, "stands", look_in_vain)
            assert ada.post("/account/password", json={"old_password": PASSWORD, "password": NEW}).status_code == 503
        with delivering(app):
            told = Letters(app)
            wait_for(lambda: not letters_waiting(redis)) if done or not stays_away else None
            assert (told.last(EMAIL).subject == "Your magicauth password was changed") == done
