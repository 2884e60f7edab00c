"""`/account/email`: moving the account to another address, and taking that back."""

import contextlib
import itertools
import re

import pytest
from bs4 import BeautifulSoup
from conftest import wait_for
from instruments import (
    at_once,
    change_user,
    delivering,
    failing,
    later,
    letters_waiting,
    quiet_app,
    redis_commands,
    same_browser,
    session_id,
    sql_statements,
)
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

from magicauth import challenges, sessions
from magicauth.models import Action

NEW = "ada@new.example.org"
THIEF = "mallory@example.org"
HOUR = 3600


@pytest.fixture
def eve(client):
    """Eve's browser, signed in to her own account."""
    browser = other_browser(client)
    sign_up(browser, "eve@example.org", name="Eve")
    return browser


def address(client):
    return client.get("/account", headers=JSON).get_json()["user"]["email"]


def move(client, mailbox, to):
    """Changes the address by the mailed code."""
    assert client.post("/account/email", data={"email": to}).location == "/verify"
    assert client.post("/verify", data={"OTP": mailbox.last(to).code}).location == "/account"


def undo_link(mailbox, to):
    return next(letter.link for letter in mailbox.all(to) if "/account/email/undo" in letter.links[0])


def proves_address(client, mailbox, email):
    """Whether a new browser can prove that address for an account (the password is another matter)."""
    browser = other_browser(client)
    browser.post("/auth", data={"email": email})
    code = mailbox.last(email).code
    return code is not None and browser.post("/verify", data={"OTP": code}).location == "/auth/password"


# --- moving ----------------------------------------------------------------------------------------------------------


def test_the_code_mailed_to_the_new_address_moves_the_account(ada, mailbox):
    assert "It changes when you type the code or open the link" in ada.get("/account/email").text
    asked = ada.post("/account/email", data={"email": "Ada@New.example.org"})
    assert (asked.status_code, asked.location) == (303, "/verify")
    letter = mailbox.last()
    assert letter.to == "Ada@new.example.org"
    assert address(ada) == EMAIL
    assert "Ada@new.example.org".lower() in ada.get("/verify").text.lower()
    done = ada.post("/verify", data={"OTP": letter.code})
    assert (done.status_code, done.location) == (303, "/account")
    assert "Your email address is changed." in ada.get("/account").text
    assert "Email address changed" in ada.get("/account/activity").text
    assert address(ada) == "Ada@new.example.org"
    stranger = other_browser(ada)
    stranger.post("/auth", data={"email": NEW.upper(), "password": PASSWORD})
    assert stranger.post("/verify", data={"OTP": mailbox.last("Ada@new.example.org").code}).location == "/home"
    assert stranger.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401


def test_as_json(ada, mailbox):
    asked = ada.post("/account/email", json={"email": NEW})
    assert (asked.status_code, asked.get_json()["next"]) == (200, "/verify")
    done = ada.post("/verify", json={"OTP": mailbox.last(NEW).code})
    assert (done.get_json()["message"], done.get_json()["next"]) == ("OTP is correct", "/account")


def test_the_link_moves_it_in_the_browser_that_asked(ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    letter = mailbox.last(NEW)
    for _ in range(3):
        assert ada.get(letter.link).status_code == 200
    assert address(ada) == EMAIL
    assert ada.post("/auth/link", data={"token": letter.token}).location == "/account"
    assert address(ada) == NEW
    assert is_signed_in(ada)


def test_the_link_moves_it_in_another_browser_that_names_the_address_and_signs_nobody_in(ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    letter, phone = mailbox.last(NEW), other_browser(ada)
    assert phone.post("/auth/link", json={"token": letter.token}).status_code == 403
    assert phone.post("/auth/link", json={"token": letter.token, "email": EMAIL}).status_code == 403
    assert address(ada) == EMAIL
    assert phone.post("/auth/link", data={"token": letter.token, "email": NEW.upper()}).location == "/auth"
    assert not is_signed_in(phone)
    assert sign_in(phone, NEW).location == "/home"
    assert address(phone) == NEW


def test_every_other_session_ends_and_this_one_goes_on_under_a_new_id(ada, mailbox):
    phone = other_browser(ada)
    sign_in(phone)
    before = session_id(ada)
    move(ada, mailbox, NEW)
    assert not is_signed_in(phone)
    assert is_signed_in(ada) and session_id(ada) != before


def test_the_old_address_is_told_and_the_new_one_gets_no_way_back(ada, mailbox):
    move(ada, mailbox, NEW)
    notice = mailbox.last(EMAIL)
    assert "was changed" in notice.subject
    assert "/account/email/undo?token=" in notice.links[0] and "72 hours" in notice.text
    # Enough to be recognised by its owner, no more: a thief's address is evidence, an owner's is nobody's business.
    assert NEW not in notice.text and "a••••@new.example.org" in notice.text
    assert not any("undo" in link for letter in mailbox.all(NEW) for link in letter.links)


def test_the_browser_is_known_under_the_new_address_too(ada, mailbox):
    move(ada, mailbox, NEW)
    ada.post("/logout")
    letters = len(mailbox.all(NEW))
    sign_in(ada, NEW)
    assert len(mailbox.all(NEW)) == letters + 1, "only the sign-in letter, no warning"


def test_the_letter_can_be_asked_for_again(ada, mailbox, redis):
    ada.post("/account/email", data={"email": NEW})
    first = mailbox.last(NEW)
    too_soon = ada.post("/verify/resend", json={})
    assert too_soon.status_code == 429 and 0 < int(too_soon.headers["Retry-After"]) <= 60
    with later(redis, 61):
        assert ada.post("/verify/resend").location == "/verify"
        again = mailbox.last(NEW)
        assert (again.code, again.links) == (first.code, first.links)
        assert ada.post("/verify", data={"OTP": first.code}).location == "/account"


def test_asking_twice_sends_one_letter_to_a_taken_address_too(ada, eve, mailbox):
    for email in (NEW, "eve@example.org"):
        ada.post("/account/email", data={"email": email})
        letters = mailbox.all(email)
        assert ada.post("/account/email", data={"email": email}).location == "/verify"
        assert mailbox.all(email) == letters


def test_the_code_of_a_letter_that_was_asked_for_twice_moves_the_account(ada, mailbox):
    for _ in range(2):
        ada.post("/account/email", data={"email": NEW})
    assert ada.post("/verify", data={"OTP": mailbox.last(NEW).code}).location == "/account"


def test_a_new_letter_after_spent_guesses_keeps_the_address_as_it_was_typed(ada, mailbox):
    ada.post("/account/email", data={"email": "Ada.King@New.Example.org"})
    for _ in range(5):
        ada.post("/verify", data={"OTP": "0"})
    assert ada.post("/verify/resend").location == "/verify"
    assert ada.post("/verify", data={"OTP": mailbox.last().code}).location == "/account"
    assert address(ada) == "Ada.King@new.example.org"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed", ["", "  ", "ada", "ada@new.example.org\r\nBcc: eve@example.org", "a@b.example,c@d.example", None, 5, [NEW]]
)
def test_a_bad_address_is_refused_and_nothing_is_sent(ada, mailbox, typed):
    letters = len(mailbox.all())
    answer = ada.post("/account/email", json={"email": typed})
    assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["email"])
    assert len(mailbox.all()) == letters


@pytest.mark.parametrize("typed", [EMAIL, "ADA@EXAMPLE.ORG", f" {EMAIL} "])
def test_ones_own_address_is_no_change(ada, typed):
    page = ada.post("/account/email", data={"email": typed})
    assert page.status_code == 400
    assert "This is your address already." in page.text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stranger_or_a_stale_sign_in_is_refused(ada, mailbox, redis, method):
    letters = len(mailbox.all())
    stranger = other_browser(ada)
    assert stranger.open("/account/email", method=method).location == "/auth?next=/account/email"
    assert stranger.open("/account/email", method=method, headers=JSON).status_code == 401
    with later(redis, 901):
        assert ada.open("/account/email", method=method, data={"email": NEW}).location == "/auth/fresh"
        assert ada.open("/account/email", method=method, headers=JSON, data={"email": NEW}).status_code == 403
    assert len(mailbox.all()) == letters


def test_a_link_from_outside_cannot_put_an_address_into_the_form(ada):
    """Else `/account/email?email=mallory@…` in a forwarded mail is an account lost by one press of the button."""
    page = ada.get(f"/account/email?email={THIEF}")
    assert THIEF not in BeautifulSoup(page.text, "html.parser").find("main").decode()


def test_going_back_from_the_waiting_page_keeps_the_address(ada):
    ada.post("/account/email", data={"email": NEW})
    waiting = BeautifulSoup(ada.get("/verify").text, "html.parser")
    back = next(link["href"] for link in waiting.find_all("a") if link["href"].startswith("/account/email"))
    assert BeautifulSoup(ada.get(back).text, "html.parser").find("input", {"name": "email"})["value"] == NEW


# --- a taken address tells nothing -----------------------------------------------------------------------------------


def seen(response, typed):
    """What a visitor sees of an answer, but for the address that was typed and what differs between any two answers."""
    body = response.text.replace(typed, "…")
    body = re.sub(r'datetime="[^"]*"|data-countdown="[^"]*"|>[^<]*</time>', "", body)
    return response.status_code, response.location, sorted(response.headers.keys()), body


@pytest.mark.parametrize("as_json", [False, True])
def test_a_taken_address_is_answered_like_a_free_one(app, ada, eve, mailbox, redis, as_json):
    """Else whoever has an account could ask of every address whether it has one."""
    change_user(app, "eve@example.org", disabled=False)
    other = other_browser(ada)
    sign_in(other)
    answers = []
    for browser, typed in ((ada, "eve@example.org"), (other, "fay@example.org")):
        headers = JSON if as_json else {}
        story = [browser.post("/account/email", data={"email": typed}, headers=headers)]
        mailbox.all()  # The page says whether the letter has gone: here it has.
        story.append(browser.get("/verify", headers=headers))
        story.append(browser.get("/account/email", headers=headers))
        for _ in range(6):
            story.append(browser.post("/verify", data={"OTP": "x"}, headers=headers))
        with later(redis, 61):
            story.append(browser.post("/verify/resend", headers=headers))
        happened = browser.get("/account/activity", headers=JSON).get_json()["events"]
        assert "wrong code" not in [event["result"] for event in happened]
        answers.append([seen(answer, typed) for answer in story])
    taken, free = answers
    assert taken == free


def test_nor_does_it_renew_the_guesses_when_its_letter_is_sent_again(ada, eve, redis):
    left = []
    for typed in ("eve@example.org", "fay@example.org"):
        ada.post("/account/email", data={"email": typed})
        ada.post("/verify", data={"OTP": "x"})
        with later(redis, 61):
            ada.post("/verify/resend")
            left.append(ada.post("/verify", json={"OTP": "x"}).get_json()["attempts_left"])
    assert left == [3, 3]


def test_a_taken_address_costs_what_a_free_one_does(redis, redis_url, tmp_path):
    """The same Redis commands and SQL statements: no clock tells them apart."""
    with quiet_app(redis_url, tmp_path, MAGICAUTH_SITE_NAME="x") as app:
        for email in (EMAIL, "eve@example.org", "dis@example.org"):
            with delivering(app):
                sign_up(app.test_client(), email)
        change_user(app, "dis@example.org", disabled=True)
        with delivering(app):
            ada = app.test_client()
            sign_in(ada)
            Letters(app).all()
        costs = []
        for typed in ("warm-up@example.org", "eve@example.org", "dis@example.org", "free@example.org"):
            with redis_commands(redis) as commands, sql_statements(app) as statements:
                assert ada.post("/account/email", data={"email": typed}).status_code == 303
            with redis_commands(redis) as wrong_code, sql_statements(app) as wrong_code_statements:
                assert ada.post("/verify", json={"OTP": "x"}).status_code == 401
            costs.append((commands, statements, wrong_code, wrong_code_statements))
        assert costs[1] == costs[2] == costs[3]


def test_the_owner_of_a_taken_address_is_told_and_no_code_moves_the_account(app, ada, eve, mailbox):
    ada.post("/account/email", data={"email": "eve@example.org"})
    letter = mailbox.last("eve@example.org")
    assert letter.code is None and "already have an account" in letter.subject
    (challenge,) = [
        key.decode().rpartition(":")[2]
        for key in app.extensions["magicauth-redis"].keys("magicauth:challenge:*")
        if app.extensions["magicauth-redis"].hget(key, "purpose") == b"change_email"
    ]
    keys = app.extensions["magicauth-keys"]
    derived = keys.code("change_email", challenge, 6)
    assert ada.post("/verify", json={"OTP": derived}).status_code == 401
    forged = {"token": keys.token("change_email", challenge), "email": "eve@example.org"}
    assert ada.post("/auth/link", json=forged).status_code == 403
    assert (address(ada), address(eve)) == (EMAIL, "eve@example.org")


def test_the_letter_to_the_owner_of_a_taken_address_signs_in_to_that_account_alone(ada, eve, mailbox):
    ada.post("/account/email", data={"email": "eve@example.org"})
    token = mailbox.last("eve@example.org").token
    assert ada.post("/auth/link", json={"token": token}).status_code == 403
    assert address(ada) == EMAIL
    assert (
        eve.post("/auth/link", json={"token": token, "email": "eve@example.org"}).get_json()["next"] == "/auth/password"
    )


def test_an_address_taken_meanwhile_is_refused_once_it_is_proven(ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    code = mailbox.last(NEW).code
    sign_up(other_browser(ada), NEW, name="Another Ada")
    answer = ada.post("/verify", json={"OTP": code})
    assert (answer.status_code, answer.get_json()["message"]) == (400, "Email already in use.")
    assert address(ada) == EMAIL
    assert is_signed_in(ada)


def test_a_link_whose_address_was_taken_meanwhile_says_so(ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    letter = mailbox.last(NEW)
    sign_up(other_browser(ada), NEW, name="Another Ada")
    answer = ada.post("/auth/link", data={"token": letter.token})
    assert answer.status_code == 400
    assert "Email already in use." in answer.text and "Sign in to it" not in answer.text


def test_a_link_that_is_no_longer_good_says_which_address_it_is_and_leads_to_another_try(ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    link = mailbox.last(NEW).link
    ada.post("/account/sessions/end_others")
    for answer in (ada.get(link), ada.post(link)):
        page = BeautifulSoup(answer.text, "html.parser")
        assert answer.status_code == 403 and f"You are signed in as {EMAIL}." in page.main.get_text()
        assert page.select_one("main a[href='/account/email']")


def test_a_link_in_a_browser_of_another_account_says_that_it_stays_so(ada, eve, mailbox):
    ada.post("/account/email", data={"email": NEW})
    letter = mailbox.last(NEW)
    told = BeautifulSoup(eve.get(letter.link).text, "html.parser").main.get_text()
    assert "You stay signed in here as eve@example.org." in told and "another account" not in told
    assert eve.post("/auth/link", data={"token": letter.token, "email": NEW}).location == "/auth"
    assert "That account has its new address. You stay signed in here." in eve.get("/home").text


# --- whose change it is ----------------------------------------------------------------------------------------------


def test_a_link_for_one_account_does_not_move_another(ada, eve, mailbox):
    """Ada's link, opened in Eve's browser: Eve's account stays where it is, whatever she types."""
    ada.post("/account/email", data={"email": NEW})
    token = mailbox.last(NEW).token
    assert eve.post("/auth/link", json={"token": token}).status_code == 403
    assert eve.post("/auth/link", json={"token": token, "email": "eve@example.org"}).status_code == 403
    assert (address(ada), address(eve)) == (EMAIL, "eve@example.org")
    assert eve.post("/auth/link", json={"token": token, "email": NEW}).get_json()["next"] == "/auth"
    assert address(eve) == "eve@example.org"
    assert sign_in(other_browser(ada), NEW).location == "/home"


def test_a_code_for_one_account_does_not_move_another(ada, eve, mailbox):
    ada.post("/account/email", data={"email": NEW})
    code = mailbox.last(NEW).code
    assert eve.post("/verify", json={"OTP": code}).status_code == 404
    eve.post("/account/email", data={"email": "eve@new.example.org"})
    assert eve.post("/verify", json={"OTP": code}).status_code == 401
    assert address(eve) == "eve@example.org"


def test_whoever_signs_in_next_does_not_finish_the_change(ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    code = mailbox.last(NEW).code
    ada.post("/logout")
    assert ada.post("/verify", json={"OTP": code}).status_code == 404
    sign_in(ada)
    assert ada.post("/verify", json={"OTP": code}).status_code == 404
    assert address(ada) == EMAIL


def test_the_code_for_a_sign_in_is_no_proof_of_a_new_address(ada, mailbox):
    other_browser(ada).post("/auth", data={"email": EMAIL})
    sign_in_code = mailbox.last(EMAIL).code
    ada.post("/account/email", data={"email": NEW})
    assert ada.post("/verify", json={"OTP": sign_in_code}).status_code == 401
    assert address(ada) == EMAIL


def test_a_change_that_an_intruder_began_ends_with_the_session_that_he_is_shown_out_of(ada, mailbox):
    intruder = other_browser(ada)
    sign_in(intruder)
    intruder.post("/account/email", data={"email": "thief@example.org"})
    link = mailbox.last("thief@example.org")
    shown = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    handle = next(session["session"] for session in shown if not session["current"])
    assert ada.post("/account/sessions/end", json={"session": handle}).status_code == 200
    answer = other_browser(ada).post("/auth/link", json={"token": link.token, "email": "thief@example.org"})
    assert answer.status_code == 403
    assert ada.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


def test_nor_does_one_that_he_begins_while_he_is_shown_out(ada, mailbox, monkeypatch):
    intruder, revoke, tokens = other_browser(ada), sessions.revoke, []
    sign_in(intruder)

    def begin_and_revoke(*arguments):
        intruder.post("/account/email", data={"email": "thief@example.org"})
        tokens.append(mailbox.last("thief@example.org").token)
        return revoke(*arguments)

    shown = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    handle = next(session["session"] for session in shown if not session["current"])
    monkeypatch.setattr(sessions, "revoke", begin_and_revoke)
    assert ada.post("/account/sessions/end", json={"session": handle}).status_code == 200
    answer = other_browser(ada).post("/auth/link", json={"token": tokens[0], "email": "thief@example.org"})
    assert answer.status_code == 403


def test_nor_does_one_whose_letter_he_has_asked_for_again_and_again(make_app, redis):
    ada = make_app(MAGICAUTH_SIGN_IN_TTL=10_800).test_client()
    sign_up(ada)
    intruder, mailbox, passed = other_browser(ada), Letters(ada.application), 0
    sign_in(intruder, remember="on")
    intruder.post("/account/email", data={"email": "thief@example.org"})
    with contextlib.ExitStack() as time:
        for _ in range(12):
            time.enter_context(later(redis, 10_000))
            assert intruder.post("/verify/resend").location == "/verify"
            token, passed = mailbox.last("thief@example.org").token, passed + 10_000
        assert passed > challenges.CHANGE_LIFE
        owner = other_browser(ada)
        sign_in(owner)
        shown = owner.get("/account/sessions", headers=JSON).get_json()["sessions"]
        for session in (one for one in shown if not one["current"]):
            owner.post("/account/sessions/end", json={"session": session["session"]})
        answer = other_browser(ada).post("/auth/link", json={"token": token, "email": "thief@example.org"})
        assert answer.status_code == 403


def test_of_changes_begun_at_once_one_is_left_for_the_owner_to_end(make_app):
    app = make_app(MAGICAUTH_LIMIT_MAILS_PER_ADDRESS="1000 per hour")
    ada = app.test_client()
    sign_up(ada)
    tabs = [same_browser(ada) for _ in range(8)]
    at_once(8, lambda number: tabs[number].post("/account/email", data={"email": f"thief{number}@example.org"}))
    links = [Letters(app).all(f"thief{number}@example.org") for number in range(8)]
    good = [
        letter.token
        for letters in links
        for letter in letters
        if other_browser(ada).get("/auth/link", query_string={"token": letter.token}, headers=JSON).status_code == 200
    ]
    assert len(good) == 1


def test_a_change_that_was_ended_while_it_was_being_answered_is_not_opened_again(app, ada, mailbox):
    ada.post("/account/email", data={"email": NEW})
    with app.app_context():
        challenge = challenges.open_link(mailbox.last(NEW).token, ["change_email"])
        taken = challenges.take(challenge)
        challenges.void_change(taken.user_id)
        challenges.reopen(taken, "an end")
        assert challenges.get(taken.id) is None


def test_nor_one_that_is_ended_just_then(app, ada, mailbox):
    ends = itertools.count()
    ada.post("/account/email", data={"email": NEW})
    with app.app_context():
        challenge = challenges.open_link(mailbox.last(NEW).token, ["change_email"])

    def act(number):
        with app.app_context():
            challenges.void_change(challenge.user_id) if number else challenges.reopen(challenge, str(next(ends)))

    for _ in range(40):
        with app.app_context():
            challenges.take(challenge)
            challenges.remember_change(challenge, challenge.user_id)
        at_once(2, act)
        with app.app_context():
            assert challenges.get(challenge.id) is None


def test_a_second_change_takes_the_place_of_the_first(ada, mailbox):
    ada.post("/account/email", data={"email": "first@example.org"})
    first = mailbox.last("first@example.org")
    ada.post("/account/email", data={"email": "second@example.org"})
    assert ada.post("/auth/link", json={"token": first.token, "email": "first@example.org"}).status_code == 403
    assert ada.post("/verify", data={"OTP": mailbox.last("second@example.org").code}).location == "/account"


# --- taking it back --------------------------------------------------------------------------------------------------


def test_the_way_back_restores_the_address_and_ends_every_session(ada, mailbox):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    owner = other_browser(ada)
    done = owner.post(link)
    assert (done.status_code, done.location) == (303, "/auth")
    assert not is_signed_in(ada) and not is_signed_in(owner)
    assert sign_in(owner).location == "/home"
    assert address(owner) == EMAIL
    assert owner.post("/auth", json={"email": NEW, "password": PASSWORD}).status_code == 401


def test_looking_at_the_way_back_changes_nothing(ada, mailbox):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    scanner = other_browser(ada)
    for _ in range(5):
        page = scanner.get(link)
        assert page.status_code == 200 and EMAIL in page.text
        assert scanner.head(link, headers=JSON).status_code == 200
    assert is_signed_in(ada) and address(ada) == NEW
    assert scanner.post(link).location == "/auth"


def test_the_way_back_works_once(ada, mailbox):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    other_browser(ada).post(link)
    for answer in (other_browser(ada).post(link, headers=JSON), other_browser(ada).get(link, headers=JSON)):
        assert (answer.status_code, answer.get_json()["message"]) == (403, "Access denied.")


@pytest.mark.parametrize(
    ("token", "status", "message"),
    [("", 400, "Token required."), ("x", 403, "Access denied."), ("a" * 26 + "." + "b" * 43, 403, "Access denied.")],
)
def test_a_bad_way_back_is_refused(client, token, status, message):
    for answer in (
        client.post("/account/email/undo", json={"token": token}),
        client.get(f"/account/email/undo?token={token}", headers=JSON),
    ):
        assert (answer.status_code, answer.get_json()["message"]) == (status, message)


@pytest.mark.parametrize(("hours", "good"), [(71, True), (73, False)])
def test_the_way_back_is_good_for_72_hours(ada, mailbox, redis, hours, good):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    with later(redis, hours * HOUR):
        assert other_browser(ada).post(link, json={}).status_code == (200 if good else 403)


def test_the_way_back_works_after_the_thief_has_changed_the_password(ada, mailbox):
    move(ada, mailbox, THIEF)
    ada.post("/account/password", data={"old_password": PASSWORD, "password": "all mine for ever now"})
    assert other_browser(ada).post(undo_link(mailbox, EMAIL)).location == "/auth"
    assert not is_signed_in(ada)
    assert proves_address(ada, mailbox, EMAIL)
    assert not proves_address(ada, mailbox, THIEF)


def test_the_way_back_works_after_the_thief_has_moved_on(ada, mailbox):
    move(ada, mailbox, THIEF)
    move(ada, mailbox, "mallory@elsewhere.example")
    assert other_browser(ada).post(undo_link(mailbox, EMAIL)).location == "/auth"
    assert proves_address(ada, mailbox, EMAIL)


def test_the_thief_has_no_way_back_of_his_own_after_the_owner_has_taken_hers(ada, mailbox):
    """Two changes in a row give the thief's first address a way back too: it must not outlive the owner's."""
    move(ada, mailbox, THIEF)
    move(ada, mailbox, "mallory@elsewhere.example")
    thiefs = undo_link(mailbox, THIEF)
    assert other_browser(ada).post(undo_link(mailbox, EMAIL)).location == "/auth"
    assert other_browser(ada).post(thiefs, json={}).status_code == 403
    assert proves_address(ada, mailbox, EMAIL)
    assert not proves_address(ada, mailbox, THIEF)


def test_the_thiefs_warnings_end_nothing_after_the_owner_has_taken_the_address_back(ada, mailbox):
    move(ada, mailbox, THIEF)
    sign_in(other_browser(ada), THIEF)
    ada.post("/account/sessions/end_others")
    thiefs = mailbox.last(THIEF)
    assert "/auth/not_me" in thiefs.link
    other_browser(ada).post(undo_link(mailbox, EMAIL))
    owner = other_browser(ada)
    assert sign_in(owner).location == "/home"
    assert other_browser(ada).post(thiefs.link, json={}).status_code == 403
    assert is_signed_in(owner)


def test_who_loses_the_address_by_it_is_told(ada, mailbox):
    move(ada, mailbox, NEW)
    assert other_browser(ada).post(undo_link(mailbox, EMAIL)).location == "/auth"
    letter = mailbox.last(NEW)
    assert letter.subject == "Your address at magicauth was changed back"
    # Nothing that opens anything: it may be the thief.
    assert not any("token=" in link for link in letter.links)


def test_the_way_back_waits_for_no_letter(ada, mailbox, full):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    with full():
        other_browser(ada).post(link)
    assert proves_address(ada, mailbox, EMAIL) and not proves_address(ada, mailbox, NEW)


def test_nothing_is_told_where_nothing_was_taken_back(ada, mailbox, redis):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    move(ada, mailbox, EMAIL)
    assert other_browser(ada).post(link).location == "/auth"
    other = other_browser(ada)
    sign_up(other, THIEF)
    move(other, mailbox, "mallory@elsewhere.example")
    link = undo_link(mailbox, THIEF)
    sign_up(other_browser(ada), THIEF)
    assert other_browser(ada).post(link, json={}).status_code == 400
    wait_for(lambda: not letters_waiting(redis))
    assert not [letter for letter in mailbox.all() if "changed back" in letter.subject]


def test_the_owner_still_has_hers_after_the_thief_has_taken_his(ada, mailbox):
    move(ada, mailbox, THIEF)
    move(ada, mailbox, "mallory@elsewhere.example")
    assert other_browser(ada).post(undo_link(mailbox, THIEF)).location == "/auth"
    assert other_browser(ada).post(undo_link(mailbox, EMAIL)).location == "/auth"
    assert proves_address(ada, mailbox, EMAIL)


def test_a_thief_who_is_quick_does_not_keep_the_owner_from_it(ada, mailbox, overtaken):
    move(ada, mailbox, THIEF)
    overtaken(Action.EMAIL_CHANGE_UNDONE, lambda: ada.post("/account/sessions/end_others"))
    assert other_browser(ada).post(undo_link(mailbox, EMAIL)).location == "/auth"
    assert not is_signed_in(ada) and proves_address(ada, mailbox, EMAIL)


def test_once_the_account_is_gone_it_offers_nothing(ada, mailbox):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    ada.post("/account/delete", data={"email": NEW})
    for answer in (other_browser(ada).get(link), other_browser(ada).post(link)):
        assert answer.status_code == 403 and "Take" not in answer.text


def test_a_change_that_another_overtakes_is_not_told_of(ada, mailbox, redis, overtaken):
    thief = same_browser(ada)
    overtaken(Action.EMAIL_CHANGED, lambda: ada.post("/account/sessions/end_others"))
    thief.post("/account/email", data={"email": THIEF})
    thief.post("/verify", data={"OTP": mailbox.last(THIEF).code})
    wait_for(lambda: not letters_waiting(redis))
    assert not [letter for letter in mailbox.all(EMAIL) if "was changed" in letter.subject]


def test_the_way_back_ends_what_the_thief_has_open(ada, mailbox):
    move(ada, mailbox, THIEF)
    ada.post("/account/email", data={"email": "mallory@elsewhere.example"})
    change = mailbox.last("mallory@elsewhere.example")
    thief = other_browser(ada)
    thief.post("/auth/reset", data={"email": THIEF})
    reset = mailbox.last(THIEF)
    other_browser(ada).post(undo_link(mailbox, EMAIL))
    assert thief.post("/verify", json={"OTP": reset.code}).status_code == 404
    for letter, typed in ((reset, THIEF), (change, "mallory@elsewhere.example")):
        answer = other_browser(ada).post("/auth/link", json={"token": letter.token, "email": typed})
        assert answer.status_code in (403, 404)
    assert proves_address(ada, mailbox, EMAIL)


def test_the_way_back_to_an_address_that_somebody_else_has_now_is_refused_and_stays_good(app, ada, mailbox):
    move(ada, mailbox, NEW)
    link = undo_link(mailbox, EMAIL)
    sign_up(other_browser(ada), EMAIL, name="Another Ada")
    answer = other_browser(ada).post(link, json={})
    assert (answer.status_code, answer.get_json()["message"]) == (400, "Email already in use.")
    assert is_signed_in(ada) and address(ada) == NEW
    assert app.test_cli_runner().invoke(args=["users", "delete", "--yes", EMAIL]).exit_code == 0
    assert other_browser(ada).post(link, json={}).status_code == 200


def test_the_way_back_opens_no_other_door_and_no_other_link_opens_it(ada, mailbox):
    move(ada, mailbox, NEW)
    undo = undo_link(mailbox, EMAIL).partition("token=")[2]
    stranger = other_browser(ada)
    for door in ("/auth/link", "/auth/not_me", "/users/signup"):
        answer = stranger.post(
            door, json={"token": undo, "email": EMAIL, "name": "Mallory", "password": "not my own words"}
        )
        assert answer.status_code == 403, door
    stranger.post("/auth", data={"email": NEW})
    sign_in_token = mailbox.last(NEW).token
    stranger.post("/users/magic_link", data={"email": "nobody@example.org"})
    sign_up_token = mailbox.last("nobody@example.org").token
    for token in (sign_in_token, sign_up_token):
        assert stranger.post("/account/email/undo", json={"token": token}).status_code == 403
    assert address(ada) == NEW


# --- where Redis fails in between ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "key", "runs"),
    [
        ("GET", "magicauth:change-of:", True),
        ("DEL", "magicauth:challenge:", False),
        ("DEL", "magicauth:challenge:", True),
        ("EVALSHA", "magicauth:change-of:", True),
    ],
)
def test_pressing_again_ends_a_change_that_redis_failed_to_end(app, ada, mailbox, command, key, runs):
    intruder = other_browser(ada)
    sign_in(intruder)
    intruder.post("/account/email", data={"email": "thief@example.org"})
    link = mailbox.last("thief@example.org")
    shown = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    handle = {"session": next(session["session"] for session in shown if not session["current"])}
    with failing(app, command, key, runs=runs):
        assert ada.post("/account/sessions/end", json=handle).status_code == 503
    assert ada.post("/account/sessions/end", json=handle).status_code == 200
    answer = other_browser(ada).post("/auth/link", json={"token": link.token, "email": "thief@example.org"})
    assert answer.status_code == 403
    assert ada.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


@pytest.mark.parametrize(
    ("command", "key", "runs"),
    [
        ("EVALSHA", "magicauth:challenge:", True),
        ("SET", "magicauth:change-of:", False),
        ("SET", "magicauth:change-of:", True),
        ("EVALSHA", "{magicauth-mail}", True),
    ],
)
def test_a_change_whose_beginning_failed_ends_like_any_other(app, ada, mailbox, command, key, runs):
    intruder = other_browser(ada)
    sign_in(intruder)
    intruder.post("/account/email", data={"email": "first@example.org"})
    first = mailbox.last("first@example.org")
    with failing(app, command, key, runs=runs):
        assert intruder.post("/account/email", data={"email": "thief@example.org"}).status_code == 503
    letters = [first, *mailbox.all("thief@example.org")]
    shown = ada.get("/account/sessions", headers=JSON).get_json()["sessions"]
    handle = next(session["session"] for session in shown if not session["current"])
    assert ada.post("/account/sessions/end", json={"session": handle}).status_code == 200
    for letter in letters:
        answer = other_browser(ada).post("/auth/link", json={"token": letter.token, "email": letter.to})
        assert answer.status_code == 403


def test_a_taken_address_costs_the_same_sql_at_a_wrong_code(app, ada, mailbox, redis):
    counted = []
    for address in ("free@example.org", "eve@example.org"):
        if address.startswith("eve"):
            sign_up(other_browser(ada), address)
        ada.post("/account/email", data={"email": address})
        mailbox.all()  # The worker asks for the letter's owner.
        with later(redis, 61 * (1 + len(counted))), sql_statements(app) as sent:
            assert ada.post("/verify", json={"OTP": "x"}).status_code == 401
        counted.append(len(sent))
    assert counted[0] == counted[1]


def test_sent_again_after_the_other_account_is_gone_its_letter_can_be_answered(app, ada, mailbox, redis):
    eve = other_browser(ada)
    sign_up(eve, "eve@example.org", name="Eve")
    ada.post("/account/email", data={"email": "eve@example.org"})
    assert eve.post("/account/delete", data={"email": "eve@example.org"}).location == "/auth"
    with later(redis, 61):
        assert ada.post("/verify/resend").location == "/verify"
        (letter,) = [letter for letter in mailbox.all("eve@example.org") if "confirm" in letter.subject.lower()]
        assert ada.post("/verify", json={"OTP": letter.code}).status_code == 200
