"""Signing in: whole journeys, from the form to the guarded page."""

import unicodedata
from urllib.parse import parse_qs, urlsplit

import pytest
from argon2 import PasswordHasher
from bs4 import BeautifulSoup
from instruments import at_once, change_user, later, raise_epoch, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

from magicauth.models import User

THIRTY_DAYS = 30 * 86_400


@pytest.fixture
def browser(client):
    """A browser that nobody has used, at a site where Ada has an account."""
    sign_up(client)
    return other_browser(client)


# --- journeys --------------------------------------------------------------------------------------------------------


def test_password_and_code_sign_in(browser, mailbox):
    asked = browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert (asked.status_code, asked.location) == (303, "/verify")
    assert not is_signed_in(browser)
    page = BeautifulSoup(browser.get("/verify").text, "html.parser")
    assert EMAIL in page.get_text()
    assert page.find("input", {"name": "OTP"})["autocomplete"] == "one-time-code"
    done = browser.post("/verify", data={"OTP": mailbox.last().code})
    assert (done.status_code, done.location) == (303, "/home")
    assert browser.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


def test_password_and_code_sign_in_as_json(browser, mailbox):
    asked = browser.post("/auth", json={"email": EMAIL, "password": PASSWORD})
    assert asked.status_code == 200
    assert (asked.get_json()["status"], asked.get_json()["next"]) == ("SUCCESS", "/verify")
    assert browser.get("/verify", headers=JSON).get_json()["email"] == EMAIL
    done = browser.post("/verify", json={"OTP": mailbox.last().code})
    assert done.status_code == 200
    assert done.get_json() == {"status": "SUCCESS", "message": "OTP is correct", "next": "/home"}
    assert is_signed_in(browser)


def test_code_first_then_password(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL})
    proven = browser.post("/verify", json={"OTP": mailbox.last().code})
    assert proven.get_json() == {"status": "SUCCESS", "message": "OTP is correct", "next": "/auth/password"}
    assert not is_signed_in(browser)
    done = browser.post("/auth/password", data={"password": PASSWORD})
    assert (done.status_code, done.location) == (303, "/home")
    assert is_signed_in(browser)


def test_an_account_without_a_password_signs_in_by_the_code_alone(make_app):
    app = make_app(MAGICAUTH_PASSWORDS="optional")
    sign_up(app.test_client(), password="")
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL})
    done = browser.post("/verify", data={"OTP": Letters(app).last().code})
    assert (done.status_code, done.location) == (303, "/home")
    assert is_signed_in(browser)


def test_where_passwords_are_optional_an_account_with_one_still_shows_it(make_app):
    app = make_app(MAGICAUTH_PASSWORDS="optional")
    sign_up(app.test_client())
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/verify", data={"OTP": Letters(app).last().code}).location == "/auth/password"
    assert not is_signed_in(browser)


def test_where_passwords_are_off_none_is_asked_for_or_looked_at(make_app):
    sign_up(make_app().test_client())
    app = make_app(MAGICAUTH_PASSWORDS="off")
    browser = app.test_client()
    assert "password" not in browser.get("/auth").text.lower()
    assert browser.post("/auth", data={"email": EMAIL, "password": "not the one"}).location == "/verify"
    assert browser.post("/verify", data={"OTP": Letters(app).last().code}).location == "/home"
    assert is_signed_in(browser)
    assert browser.get("/auth/password").status_code == 404
    assert browser.get("/auth/reset").status_code == 404


def test_the_front_page_leads_in_or_to_the_sign_in_page(client):
    assert (client.get("/").status_code, client.get("/").location) == (303, "/auth")
    sign_up(client)
    assert client.get("/").location == "/home"


def test_who_is_signed_in_is_led_on_from_the_sign_in_page(client):
    sign_up(client)
    assert client.get("/auth").location == "/home"
    assert client.get("/auth?next=/users?limit=3").location == "/users?limit=3"
    assert client.get("/auth?next=//evil.example").location == "/home"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "Email required."),
        ({"email": ""}, "Email required."),
        ({"email": "   "}, "Email required."),
        ({"email": "ada"}, "Email is invalid."),
        ({"email": "ada@example.org, eve@example.org"}, "Email is invalid."),
        ({"email": "ada@example.org\r\nBcc: eve@example.org"}, "Email is invalid."),
    ],
)
def test_a_bad_address_is_refused_and_nothing_is_sent(client, mailbox, form, message):
    answer = client.post("/auth", json=form)
    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["message"]) == (400, "FAIL", message)
    assert list(answer.get_json()["errors"]) == ["email"]
    page = client.post("/auth", data=form)
    assert page.status_code == 400
    assert 'id="email-error"' in page.text
    assert session_id(client) == ""
    assert mailbox.all() == []


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.org"])
def test_a_wrong_password_is_refused_without_saying_why_and_no_letter_goes_out(browser, mailbox, email):
    letters = len(mailbox.all())
    answer = browser.post("/auth", json={"email": email, "password": "not the one"})
    assert (answer.status_code, answer.get_json()["message"]) == (401, "Email or password is incorrect.")
    page = browser.post("/auth", data={"email": email, "password": "not the one"})
    assert page.status_code == 401
    assert "Email or password is incorrect." in page.text
    assert f'value="{email}"' in page.text and "not the one" not in page.text
    assert BeautifulSoup(page.text, "html.parser").find("input", {"name": "password"}).has_attr("autofocus")
    assert len(mailbox.all()) == letters
    assert browser.get("/verify", headers=JSON).status_code == 404


def test_the_password_counts_exactly_as_it_was_typed(client):
    sign_up(client, password=f" {PASSWORD} ")
    browser = other_browser(client)
    assert browser.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert browser.post("/auth", json={"email": EMAIL, "password": f" {PASSWORD} "}).status_code == 200


# --- where it leads, and how long it stays ---------------------------------------------------------------------------


def test_a_guarded_page_is_where_the_sign_in_ends(browser, mailbox):
    sent_away = browser.get("/users?limit=3")
    assert sent_away.status_code == 303
    assert urlsplit(sent_away.location).path == "/auth"
    page = BeautifulSoup(browser.get(sent_away.location).text, "html.parser")
    next_page = page.find("input", {"name": "next"})["value"]
    assert next_page == "/users?limit=3"
    sign_in_answer = browser.post("/auth", data={"email": EMAIL, "password": PASSWORD, "next": next_page})
    assert sign_in_answer.location == "/verify"
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/users?limit=3"


def test_next_is_kept_on_the_server_over_every_step(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "next": "/users?limit=3"})
    assert browser.post("/verify?next=/elsewhere", data={"OTP": mailbox.last().code}).location == "/auth/password"
    assert browser.post("/auth/password", json={"password": PASSWORD}).get_json()["next"] == "/users?limit=3"


@pytest.mark.parametrize("evil", ["https://evil.example/", "//evil.example", "/\\evil.example", "/%09/evil.example"])
def test_a_next_that_is_not_ours_is_ignored(browser, mailbox, evil):
    assert browser.post("/auth", data={"email": EMAIL, "password": PASSWORD, "next": evil}).location == "/verify"
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/home"


def _session_cookie(response):
    return next(line for line in response.headers.getlist("Set-Cookie") if line.startswith("magicauth="))


def test_a_password_is_as_long_as_it_is_when_composed(client):
    refused = sign_up(client, password=unicodedata.normalize("NFD", "üöäéñ"))
    assert refused.status_code == 400 and "Use at least 8 characters." in refused.text


def test_a_password_is_the_same_however_a_keyboard_composes_its_letters(client):
    composed, decomposed = (unicodedata.normalize(form, "Grüße vom Café, mañana ガ") for form in ("NFC", "NFD"))
    assert composed != decomposed
    sign_up(client, password=decomposed)
    client.post("/logout")
    for typed, status in ((composed, 200), (decomposed, 200), ("Grusse vom Cafe, manana カ", 401)):
        other = other_browser(client)
        assert other.post("/auth", json={"email": EMAIL, "password": typed}).status_code == status, typed


@pytest.mark.parametrize(("asked", "ticked"), [("on", True), ("true", True), ("0", False), ("off", False), ("", False)])
def test_the_box_is_ticked_for_what_is_a_tick(client, asked, ticked):
    box = BeautifulSoup(client.get(f"/auth?remember={asked}").text, "html.parser").find(id="remember")
    assert box.has_attr("checked") is ticked
    typed = client.post("/auth", data={"email": "", "remember": asked})
    assert BeautifulSoup(typed.text, "html.parser").find(id="remember").has_attr("checked") is ticked


@pytest.mark.parametrize("form", [{}, {"remember": "off"}, {"remember": ""}, {"remember": "yes"}])
def test_without_keep_me_signed_in_the_session_ends_with_the_browser(browser, form):
    cookie = _session_cookie(sign_in(browser, **form))
    assert "Max-Age" not in cookie and "Expires" not in cookie


@pytest.mark.parametrize("tick", ["on", "1", "true"])
def test_keep_me_signed_in_outlives_the_browser(browser, tick):
    cookie = _session_cookie(sign_in(browser, remember=tick))
    attributes = dict(part.strip().partition("=")[::2] for part in cookie.split(";"))
    assert THIRTY_DAYS - 100 <= int(attributes["Max-Age"]) <= THIRTY_DAYS


@pytest.mark.parametrize(("tick", "kept"), [(True, True), (False, False), ("true", False), (1, False), (None, False)])
def test_as_json_only_true_keeps_me_signed_in(browser, mailbox, tick, kept):
    browser.post("/auth", json={"email": EMAIL, "password": PASSWORD, "remember": tick})
    done = browser.post("/verify", json={"OTP": mailbox.last().code})
    assert ("Max-Age" in _session_cookie(done)) is kept


def test_keep_me_signed_in_is_kept_over_every_step(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "remember": "on"})
    browser.post("/verify", data={"OTP": mailbox.last().code})
    assert "Max-Age" in _session_cookie(browser.post("/auth/password", data={"password": PASSWORD}))


def test_the_cookie_is_shut_to_scripts_and_other_sites(browser):
    cookie = _session_cookie(sign_in(browser))
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie and "Domain" not in cookie


# --- asking twice ----------------------------------------------------------------------------------------------------


def test_asking_twice_sends_one_letter(browser, mailbox):
    before = len(mailbox.all())
    for _ in range(3):
        assert browser.post("/auth", data={"email": EMAIL, "password": PASSWORD}).location == "/verify"
    assert len(mailbox.all()) == before + 1
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/home"


def test_asking_again_after_the_account_changed_sends_a_new_code(app, browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    first = mailbox.last(EMAIL)
    raise_epoch(app)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    second = mailbox.last(EMAIL)
    assert second.code != first.code
    assert browser.post("/verify", data={"OTP": second.code}).location == "/home"


def test_asking_again_later_sends_the_same_code_again(browser, mailbox, redis):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    first = mailbox.last()
    with later(redis, 61):
        browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        second = mailbox.last()
        assert (second.code, second.links) == (first.code, first.links)
        assert second.sent_at != first.sent_at
        assert browser.post("/verify", data={"OTP": first.code}).location == "/home"


def test_the_right_password_brought_later_counts_for_the_open_sign_in(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL})
    before = len(mailbox.all())
    assert browser.post("/auth", data={"email": EMAIL, "password": PASSWORD}).location == "/verify"
    assert len(mailbox.all()) == before
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/home"


def test_a_wrong_password_brought_later_leaves_the_open_sign_in_as_it_was(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/auth", json={"email": EMAIL, "password": "not the one"}).status_code == 401
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/auth/password"


def test_asking_twice_keeps_what_the_first_had_shown(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD, "next": "/users?limit=3"})
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/users?limit=3"


def test_guesses_are_not_renewed_by_asking_again(browser, mailbox, redis):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    wrong = "0" if mailbox.last().code != "000000" else "1"
    assert browser.post("/verify", json={"OTP": wrong}).get_json()["attempts_left"] == 4
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert browser.post("/verify", json={"OTP": wrong}).get_json()["attempts_left"] == 3
    with later(redis, 61):
        browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        assert browser.post("/verify", json={"OTP": wrong}).get_json()["attempts_left"] == 2


def test_asking_again_after_the_guesses_are_spent_opens_a_new_question(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    first = mailbox.last()
    for _ in range(5):
        browser.post("/verify", json={"OTP": "x"})
    assert browser.post("/auth", data={"email": EMAIL, "password": PASSWORD}).location == "/verify"
    second = mailbox.last()
    assert second.links != first.links
    assert browser.post("/verify", data={"OTP": second.code}).location == "/home"


def test_another_browser_asks_a_question_of_its_own(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    first = mailbox.last()
    other = other_browser(browser)
    other.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    second = mailbox.last()
    assert first.links != second.links
    assert browser.post("/verify", data={"OTP": first.code}).location == "/home"
    assert other.post("/verify", data={"OTP": second.code}).location == "/home"


def test_asking_for_another_address_leaves_the_first_question(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    first = mailbox.last()
    browser.post("/auth", data={"email": "eve@example.org"})
    answer = browser.post("/verify", json={"OTP": first.code})
    assert (answer.status_code, answer.get_json()["attempts_left"]) == (401, 4)
    assert not is_signed_in(browser)


# --- beside a session that is open -----------------------------------------------------------------------------------


def test_signing_in_while_signed_in_starts_beside_the_session_and_replaces_it_when_done(app, client, mailbox, redis):
    sign_up(client, "eve@example.org", name="Eve")
    sign_up(client, EMAIL)
    before = session_id(client)
    client.post("/auth", data={"email": "eve@example.org", "password": PASSWORD})
    beside = session_id(client)
    assert client.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL
    assert client.post("/verify", data={"OTP": mailbox.last("eve@example.org").code}).location == "/home"
    assert client.get("/home", headers=JSON).get_json()["user"]["email"] == "eve@example.org"
    for old in {before, beside}:
        replayed = app.test_client()
        replayed.set_cookie("magicauth", old)
        assert not is_signed_in(replayed)
    # Eve's one session, and the one of her sign-up, which Ada's replaced, is gone as well.
    assert len(redis.keys("magicauth:session:*")) == 1


def test_a_hash_of_other_days_is_made_anew_by_the_next_sign_in(app, client):
    sign_up(client)
    old = PasswordHasher(memory_cost=16, time_cost=2, parallelism=1).hash(PASSWORD)
    change_user(app, password_hash=old)
    assert sign_in(other_browser(client)).location == "/home"
    with app.app_context():
        assert User.by_email(EMAIL).password_hash != old
    assert sign_in(other_browser(client)).location == "/home"


def test_a_sign_in_that_is_given_up_leaves_the_session_as_it_was(client):
    sign_up(client)
    client.post("/auth", data={"email": "eve@example.org"})
    for _ in range(5):
        client.post("/verify", json={"OTP": "x"})
    assert client.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


# --- what lives on the server ----------------------------------------------------------------------------------------


def test_a_restart_of_the_server_loses_nothing(make_new_app):
    first = make_new_app()
    signed_in, asking, proven = first.test_client(), first.test_client(), first.test_client()
    sign_up(signed_in)
    proven.post("/auth", data={"email": EMAIL})
    proven.post("/verify", data={"OTP": Letters(first).last().code})
    asking.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = Letters(first).last().code

    second = make_new_app()

    def after_restart(client):
        same = second.test_client()
        same.set_cookie("magicauth", session_id(client))
        return same

    assert is_signed_in(after_restart(signed_in))
    assert after_restart(asking).post("/verify", data={"OTP": code}).location == "/home"
    assert after_restart(proven).post("/auth/password", data={"password": PASSWORD}).location == "/home"


@pytest.mark.parametrize("kept", [True, False])
def test_codes_and_links_in_flight_live_over_a_new_secret_key_while_the_old_one_is_a_fallback(make_app, kept):
    old = {"SECRET_KEY": "an-old-key-" * 4}
    new = {"SECRET_KEY": "a-new-key-" * 4} | ({"SECRET_KEY_FALLBACKS": old["SECRET_KEY"]} if kept else {})
    before = make_app(**old)
    sign_up(before.test_client())
    asking = before.test_client()
    asking.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    letter = Letters(before).last()

    after = make_app(**new)
    here, elsewhere = after.test_client(), after.test_client()
    here.set_cookie("magicauth", session_id(asking))
    assert elsewhere.get(letter.link).status_code == (200 if kept else 403)
    assert here.post("/verify", json={"OTP": letter.code}).status_code == (200 if kept else 404)


def test_the_session_id_changes_at_each_rise_and_the_old_one_opens_nothing(app, client, mailbox, redis):
    sign_up(client)
    browser, ids = app.test_client(), []
    browser.post("/auth", data={"email": EMAIL})
    ids.append(session_id(browser))
    browser.post("/verify", data={"OTP": mailbox.last().code})
    ids.append(session_id(browser))
    browser.post("/auth/password", data={"password": PASSWORD})
    ids.append(session_id(browser))
    assert len(set(ids)) == 3
    for old in ids[:2]:
        replayed = app.test_client()
        replayed.set_cookie("magicauth", old)
        assert not is_signed_in(replayed)
        assert replayed.post("/auth/password", json={"password": PASSWORD}).status_code == 404
        assert replayed.get("/verify", headers=JSON).status_code == 404
    assert len(redis.keys("magicauth:session:*")) == 2


def test_the_password_alone_changes_the_session_id_too(app, client):
    sign_up(client)
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL})
    before = session_id(browser)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    assert session_id(browser) != before
    replayed = app.test_client()
    replayed.set_cookie("magicauth", before)
    assert replayed.get("/verify", headers=JSON).status_code == 404


def test_session_fixation_a_planted_session_is_not_the_one_that_is_signed_in(app, client, mailbox):
    sign_up(client)
    attacker, victim = app.test_client(), app.test_client()
    attacker.post("/auth", data={"email": EMAIL})
    victim.set_cookie("magicauth", session_id(attacker))
    assert sign_in(victim).location == "/home"
    assert is_signed_in(victim)
    assert not is_signed_in(attacker)
    assert attacker.post("/auth/password", json={"password": PASSWORD}).status_code == 404


# --- letters ---------------------------------------------------------------------------------------------------------


def test_the_letter_holds_code_and_link_and_goes_to_the_stored_address(client, mailbox):
    sign_up(client, "Ada@example.org")
    browser = other_browser(client)
    browser.post(
        "/auth", data={"email": "ADA@EXAMPLE.ORG"}, headers={"User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/140"}
    )
    letter = mailbox.last()
    assert letter.to == "Ada@example.org"
    assert letter.subject == f"{letter.code[:3]} {letter.code[3:]} is your magicauth code"
    assert letter.links[0].startswith("http://localhost/auth/link?token=")
    assert letter.links[0] in letter.html or letter.links[0].replace("&", "&amp;") in letter.html
    for told in (letter.text, letter.html):
        assert "Firefox on Linux" in told and "127.0.0.1" in told and "10 minutes" in told


def test_a_stranger_gets_a_sign_up_link_and_no_code(client, mailbox):
    client.post("/auth", data={"email": "Nobody@example.org"})
    letter = mailbox.last()
    assert letter.to == "Nobody@example.org"
    assert letter.code is None
    assert [urlsplit(link).path for link in letter.links if "token" in link] == ["/users/signup"]
    assert client.get(letter.link).status_code == 200


@pytest.mark.parametrize("policy", ["closed", "invite"])
def test_where_sign_up_is_not_open_a_stranger_is_told_so_once_a_day(make_app, redis, policy):
    app = make_app(MAGICAUTH_SIGN_UP=policy)
    mailbox = Letters(app)
    for _ in range(3):
        assert app.test_client().post("/auth", json={"email": "nobody@example.org"}).status_code == 200
    (letter,) = mailbox.all()
    assert letter.code is None and not any("token" in parse_qs(urlsplit(link).query) for link in letter.links)
    with later(redis, 86_401):
        app.test_client().post("/auth", json={"email": "nobody@example.org"})
        assert len(mailbox.all()) == 2


def test_a_disabled_account_gets_neither_code_nor_link(app, browser, mailbox):
    change_user(app, disabled=True)
    assert browser.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert browser.post("/auth", json={"email": EMAIL}).status_code == 200
    letter = mailbox.last()
    assert letter.code is None and not any("token" in link for link in letter.links)
    assert browser.post("/verify", json={"OTP": "000000"}).get_json()["attempts_left"] == 4


def test_an_account_disabled_meanwhile_is_not_let_in(app, browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last().code
    change_user(app, disabled=True)
    assert browser.post("/verify", json={"OTP": code}).status_code in (401, 404)
    assert not is_signed_in(browser)


def test_pressing_twice_after_a_minute_sends_one_letter_and_both_go_on(browser, mailbox, redis):
    browser.post("/auth", data={"email": EMAIL})
    before = len(mailbox.all())
    with later(redis, 61):
        # No more than the budget of the address has places.
        tabs = [same_browser(browser) for _ in range(4)]
        answers = at_once(4, lambda number: tabs[number].post("/auth", data={"email": EMAIL}))
        assert {(answer.status_code, answer.location) for answer in answers} == {(303, "/verify")}
        assert len(mailbox.all()) == before + 1


def test_where_there_are_no_passwords_whatever_is_sent_as_one_is_not_looked_at(make_app):
    client = make_app(MAGICAUTH_PASSWORDS="off").test_client()
    assert {client.open("/auth/password", method=method).status_code for method in ("GET", "POST", "OPTIONS")} == {404}
    for value in (5, None, [], {}, "x" * 60_000):
        assert client.post("/auth", json={"email": EMAIL, "password": value}).status_code == 200
    client.post("/users/magic_link", data={"email": "new@example.org"})
    token = Letters(client.application).last("new@example.org").token
    assert client.post("/users/signup", json={"token": token, "name": "New", "password": 5}).status_code == 201
