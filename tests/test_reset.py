"""`/auth/reset`: a new password for one that is forgotten."""

import re

import pytest
from bs4 import BeautifulSoup
from instruments import at_once, change_user, later, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

from magicauth.models import Action

NEW = "seven other horses graze"
HOUR = 3600


@pytest.fixture
def browser(client):
    """A browser that nobody has used, at a site where Ada has an account."""
    sign_up(client)
    return other_browser(client)


def prove(browser, mailbox, email=EMAIL):
    """Asks for a reset and answers by the mailed code."""
    assert browser.post("/auth/reset", data={"email": email}).location == "/verify"
    assert browser.post("/verify", data={"OTP": mailbox.last(email).code}).location == "/auth/reset/password"


def choose(browser, password=NEW):
    return browser.post("/auth/reset/password", json={"password": password})


# --- the journey -----------------------------------------------------------------------------------------------------


def test_asking_twice_leads_where_was_asked_for_last(browser, mailbox):
    browser.post("/auth/reset", data={"email": EMAIL, "next": "/account"})
    browser.post("/auth/reset", data={"email": EMAIL, "next": "/account/activity"})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    assert choose(browser).get_json()["next"] == "/account/activity"


def test_back_to_the_code_or_the_code_in_another_tab_leads_on_to_the_new_password(browser, mailbox):
    prove(browser, mailbox)
    code = {"OTP": mailbox.last(EMAIL).code}
    assert browser.get("/verify").location == "/auth/reset/password"
    assert browser.post("/verify", data=code).location == "/auth/reset/password"
    assert browser.post("/verify", json=code).status_code == 404
    assert choose(browser).status_code == 200
    assert browser.get("/verify").location == "/auth"


def test_it_keeps_what_the_sign_in_was_asked_for_in_which_the_password_was_forgotten(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL, "next": "/account", "remember": "on"})
    browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    assert "/auth?next=%2Faccount&amp;remember=on" in browser.get("/auth/password").text
    prove(browser, mailbox)
    done = browser.post("/auth/reset/password", data={"password": NEW})
    assert done.location == "/account"
    assert any("Max-Age" in line for line in done.headers.getlist("Set-Cookie") if line.startswith("magicauth="))


def test_where_passwords_were_turned_off_meanwhile_the_letter_signs_in(app, browser, mailbox, monkeypatch):
    browser.post("/auth/reset", data={"email": EMAIL})
    monkeypatch.setitem(app.config, "MAGICAUTH_PASSWORDS", "off")
    assert browser.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/home"
    assert is_signed_in(browser)


def test_asking_twice_sends_one_letter_and_later_the_same_code_again(browser, mailbox, redis):
    browser.post("/auth/reset", data={"email": EMAIL})
    letter = mailbox.last(EMAIL)
    assert browser.post("/auth/reset", data={"email": EMAIL.upper()}).location == "/verify"
    assert mailbox.last(EMAIL) == letter
    with later(redis, 61):
        browser.post("/auth/reset", data={"email": EMAIL})
        assert mailbox.last(EMAIL).sent_at > letter.sent_at and mailbox.last(EMAIL).code == letter.code
        assert browser.post("/verify", data={"OTP": letter.code}).location == "/auth/reset/password"


def test_the_code_leads_to_a_new_password_and_in(client, browser, mailbox):
    asked = browser.post("/auth/reset", data={"email": EMAIL})
    assert (asked.status_code, asked.location) == (303, "/verify")
    letter = mailbox.last()
    assert "/auth/link?token=" in letter.link and letter.code
    assert browser.post("/verify", data={"OTP": letter.code}).location == "/auth/reset/password"
    assert not is_signed_in(browser)
    page = BeautifulSoup(browser.get("/auth/reset/password").text, "html.parser")
    assert page.find("input", {"name": "password"})["autocomplete"] == "new-password"
    assert page.find("input", {"autocomplete": "username"})["value"] == EMAIL
    done = browser.post("/auth/reset/password", data={"password": NEW})
    assert (done.status_code, done.location) == (303, "/home")
    assert is_signed_in(browser)
    assert other_browser(client).post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert sign_in(other_browser(client), password=NEW).location == "/home"


def test_as_json(browser, mailbox):
    asked = browser.post("/auth/reset", json={"email": EMAIL})
    assert (asked.status_code, asked.get_json()["next"]) == (200, "/verify")
    proven = browser.post("/verify", json={"OTP": mailbox.last().code})
    assert proven.get_json() == {"status": "SUCCESS", "message": "OTP is correct", "next": "/auth/reset/password"}
    assert choose(browser).get_json() == {"status": "SUCCESS", "message": "Password saved.", "next": "/home"}


def test_the_link_leads_there_too_and_looking_at_it_changes_nothing(browser, mailbox):
    browser.post("/auth/reset", data={"email": EMAIL})
    letter = mailbox.last()
    for _ in range(3):
        assert browser.get(letter.link).status_code == 200
    assert browser.post("/auth/link", data={"token": letter.token}).location == "/auth/reset/password"
    assert choose(browser).status_code == 200


def test_another_browser_names_the_address_and_goes_on_there(client, browser, mailbox):
    browser.post("/auth/reset", data={"email": EMAIL})
    letter, phone = mailbox.last(), other_browser(client)
    assert phone.post("/auth/link", json={"token": letter.token}).status_code == 403
    assert (
        phone.post("/auth/link", json={"token": letter.token, "email": EMAIL}).get_json()["next"]
        == "/auth/reset/password"
    )
    assert browser.get("/auth/reset/password", headers=JSON).status_code == 404
    assert choose(phone).status_code == 200
    assert is_signed_in(phone) and not is_signed_in(browser)


def test_every_other_session_ends_and_the_owner_is_told(client, browser, mailbox):
    assert is_signed_in(client)
    prove(browser, mailbox)
    choose(browser)
    assert not is_signed_in(client)
    subjects = [letter.subject for letter in mailbox.all(EMAIL)]
    assert any("password was changed" in subject for subject in subjects)


def test_the_session_id_changes_with_the_proof_and_with_the_password(app, browser, mailbox):
    browser.post("/auth/reset", data={"email": EMAIL})
    ids = [session_id(browser)]
    browser.post("/verify", data={"OTP": mailbox.last().code})
    ids.append(session_id(browser))
    choose(browser)
    ids.append(session_id(browser))
    assert len(set(ids)) == 3
    for old in ids[:2]:
        replayed = app.test_client()
        replayed.set_cookie("magicauth", old)
        assert choose(replayed).status_code == 404 and not is_signed_in(replayed)


@pytest.mark.parametrize(("minutes", "good"), [(59, True), (61, False)])
def test_the_letter_is_good_for_an_hour(browser, mailbox, redis, minutes, good):
    browser.post("/auth/reset", data={"email": EMAIL})
    code = mailbox.last().code
    with later(redis, 60 * minutes):
        assert browser.post("/verify", json={"OTP": code}).status_code == (200 if good else 404)


def test_the_letter_can_be_asked_for_again(browser, mailbox, redis):
    browser.post("/auth/reset", data={"email": EMAIL})
    first = mailbox.last()
    assert browser.post("/verify/resend", json={}).status_code == 429
    with later(redis, 61):
        assert browser.post("/verify/resend").location == "/verify"
        assert (mailbox.last().code, mailbox.last().links) == (first.code, first.links)
    with later(redis, HOUR + 61):
        assert browser.post("/verify/resend").location == "/verify"
        again = mailbox.last()
        assert again.links != first.links
        assert browser.post("/verify", data={"OTP": again.code}).location == "/auth/reset/password"


def test_an_account_without_a_password_gets_its_first_one(app):
    assert app.test_cli_runner().invoke(args=["users", "create", EMAIL, "--name", "Ada"]).exit_code == 0
    browser, mailbox = app.test_client(), Letters(app)
    prove(browser, mailbox)
    assert choose(browser).status_code == 200
    stranger = app.test_client()
    stranger.post("/auth", data={"email": EMAIL})
    assert stranger.post("/verify", data={"OTP": mailbox.last(EMAIL).code}).location == "/auth/password"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "message"),
    [({}, "Email required."), ({"email": "ada"}, "Email is invalid."), ({"email": [EMAIL]}, "Email required.")],
)
def test_a_bad_address_is_refused(client, mailbox, form, message):
    answer = client.post("/auth/reset", json=form)
    assert (answer.status_code, answer.get_json()["message"]) == (400, message)
    assert mailbox.all() == []


@pytest.mark.parametrize(
    "form", [{}, {"password": ""}, {"password": "short"}, {"password": "password1"}, {"password": 5}]
)
def test_a_weak_password_is_refused_and_the_proof_stays_good(browser, mailbox, form):
    prove(browser, mailbox)
    answer = browser.post("/auth/reset/password", json=form)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["password"])
    page = browser.post("/auth/reset/password", data=form)
    assert page.status_code == 400 and 'id="password-error"' in page.text
    assert choose(browser).status_code == 200


def test_letters_for_one_address_are_counted_whoever_asks(app, browser, mailbox):
    statuses = [app.test_client().post("/auth/reset", json={"email": EMAIL}) for _ in range(6)]
    assert [answer.status_code for answer in statuses] == [200] * 5 + [429]
    assert 0 < int(statuses[-1].headers["Retry-After"]) <= HOUR
    # The links that are there still work.
    letter = mailbox.last()
    assert browser.post("/auth/link", json={"token": letter.token, "email": EMAIL}).status_code == 200


def test_before_the_proof_there_is_no_such_page(browser, mailbox):
    assert browser.get("/auth/reset/password").status_code == 404
    assert choose(browser).status_code == 404
    browser.post("/auth/reset", data={"email": EMAIL})
    assert browser.get("/auth/reset/password").status_code == 404
    assert choose(browser).status_code == 404
    assert browser.post("/auth", json={"email": EMAIL, "password": NEW}).status_code == 401


@pytest.mark.parametrize("path", ["/auth/reset", "/auth/reset/password"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_where_passwords_are_off_there_is_none_to_forget(make_app, path, method):
    client = make_app(MAGICAUTH_PASSWORDS="off").test_client()
    assert client.open(path, method=method, data={"email": EMAIL}).status_code == 404
    assert client.open(path, method=method, headers=JSON).status_code == 404
    assert "/auth/reset" not in client.get("/auth").text


def test_wrong_codes_count_as_everywhere(browser, mailbox):
    browser.post("/auth/reset", data={"email": EMAIL})
    left = [browser.post("/verify", json={"OTP": "x"}).get_json()["attempts_left"] for _ in range(5)]
    assert left == [4, 3, 2, 1, 0]
    assert browser.post("/verify", json={"OTP": mailbox.last().code}).status_code == 404


# --- telling nothing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, JSON])
def test_known_unknown_disabled_and_password_less_addresses_are_answered_alike(app, browser, mailbox, headers):
    sign_up(app.test_client(), "dis@example.org", name="Dis")
    change_user(app, "dis@example.org", disabled=True)
    assert app.test_cli_runner().invoke(args=["users", "create", "non@example.org"]).exit_code == 0
    stories = []
    for email in (EMAIL, "who@example.org", "dis@example.org", "non@example.org"):
        visitor = app.test_client()
        answers = [visitor.post("/auth/reset", data={"email": email}, headers=headers)]
        mailbox.all()  # The page says whether the letter has gone: here it has.
        answers.append(visitor.get("/verify", headers=headers))
        answers += [visitor.post("/verify", data={"OTP": "x"}, headers=headers) for _ in range(6)]
        answers.append(visitor.get("/auth/reset/password", headers=headers))
        stories.append([seen(answer, email) for answer in answers])
    assert stories[0] == stories[1] == stories[2] == stories[3]


def seen(response, email):
    """What a visitor sees of an answer, but for the address and the time."""
    body = re.sub(r"<time.*?</time>", "", response.text.replace(email, "…").replace(email.replace("@", "%40"), "…"))
    return response.status_code, response.location, sorted(response.headers.keys()), body


def test_only_an_account_in_use_gets_a_way_in(app, browser, mailbox):
    sign_up(app.test_client(), "dis@example.org", name="Dis")
    change_user(app, "dis@example.org", disabled=True)
    for email in ("dis@example.org", "who@example.org"):
        app.test_client().post("/auth/reset", data={"email": email})
        letter = mailbox.last(email)
        assert letter.code is None
        assert not any("/auth/link" in link for link in letter.links)


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_a_reset_of_ones_own_leaves_the_account_that_is_signed_in_here_alone(client, browser, mailbox):
    """Mallory, in a browser where Ada is signed in, resets his own password: hers is not what changes."""
    sign_up(other_browser(client), "mallory@example.org", name="Mallory")
    prove(client, mailbox, "mallory@example.org")
    assert choose(client).status_code == 200
    assert client.get("/home", headers=JSON).get_json()["user"]["email"] == "mallory@example.org"
    assert sign_in(browser, password=PASSWORD).location == "/home"


def test_a_proven_reset_names_no_other_account(client, browser, mailbox):
    sign_up(other_browser(client), "mallory@example.org", name="Mallory")
    prove(browser, mailbox, "mallory@example.org")
    answer = browser.post(
        "/auth/reset/password", json={"password": NEW, "email": EMAIL, "user_id": "1", "purpose": "reset"}
    )
    assert answer.status_code == 200
    assert browser.get("/home", headers=JSON).get_json()["user"]["email"] == "mallory@example.org"
    assert sign_in(other_browser(client), password=PASSWORD).location == "/home"


def test_starting_a_reset_for_somebody_else_after_ones_own_proof_needs_their_proof(client, browser, mailbox):
    sign_up(other_browser(client), "mallory@example.org", name="Mallory")
    prove(browser, mailbox, "mallory@example.org")
    browser.post("/auth/reset", data={"email": EMAIL})
    assert choose(browser).status_code == 404


def test_the_code_of_a_sign_in_is_no_proof_for_a_new_password(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/verify", data={"OTP": mailbox.last().code}).location == "/auth/password"
    assert browser.get("/auth/reset/password").status_code == 404
    assert choose(browser).status_code == 404


def test_a_sign_in_letter_does_not_answer_a_reset(browser, mailbox):
    browser.post("/auth", data={"email": EMAIL})
    sign_in_letter = mailbox.last()
    browser.post("/auth/reset", data={"email": EMAIL})
    if mailbox.last().code != sign_in_letter.code:
        assert browser.post("/verify", json={"OTP": sign_in_letter.code}).status_code == 401
    answer = browser.post("/auth/link", json={"token": sign_in_letter.token, "email": EMAIL})
    assert answer.get_json()["next"] == "/auth/password"
    assert choose(browser).status_code == 404


def test_a_proven_address_is_not_signed_in_until_the_password_is_chosen(browser, mailbox):
    prove(browser, mailbox)
    assert browser.get("/home").location.startswith("/auth")
    assert browser.post("/auth/password", json={"password": "not the one"}).status_code == 401
    assert not is_signed_in(browser)


def test_who_remembers_the_password_after_all_need_not_choose_another(browser, mailbox):
    prove(browser, mailbox)
    assert browser.post("/auth/password", data={"password": PASSWORD}).location == "/home"
    assert is_signed_in(browser)


def test_a_chosen_password_is_chosen_once(browser, mailbox):
    prove(browser, mailbox)
    tab = same_browser(browser)
    choose(browser)
    for again in (browser, tab):
        assert choose(again, "the second one is a thief's").status_code == 404
    assert sign_in(other_browser(browser), password=NEW).location == "/home"


def test_of_two_resets_the_first_voids_the_other(client, browser, mailbox):
    thief = other_browser(client)
    prove(thief, mailbox)
    prove(browser, mailbox)
    assert choose(browser).status_code == 200
    assert choose(thief, "the thief's own words").status_code == 404
    assert is_signed_in(browser) and not is_signed_in(thief)


def test_a_form_that_another_change_overtakes_says_that_its_reset_is_over(browser, mailbox, overtaken):
    prove(browser, mailbox)
    tab = same_browser(browser)
    overtaken(Action.PASSWORD_RESET, lambda: choose(tab, "seven more horses graze"))
    answer = browser.post("/auth/reset/password", data={"password": NEW})
    assert answer.status_code == 404 and "This step is over" in answer.text
    assert sign_in(other_browser(browser), password="seven more horses graze").location == "/home"


def test_of_twenty_at_once_one_chooses_the_password(client, browser, mailbox):
    prove(browser, mailbox)
    tabs = [same_browser(browser) for _ in range(20)]
    answers = at_once(20, lambda number: choose(tabs[number], f"number {number} of the horses grazes").status_code)
    assert answers.count(200) == 1 and set(answers) <= {200, 404}
    assert [is_signed_in(tab) for tab in tabs] == [status == 200 for status in answers]
    password = f"number {answers.index(200)} of the horses grazes"
    assert sign_in(other_browser(client), password=password).location == "/home"


def test_a_spent_password_budget_leaves_the_reset_open(browser, mailbox):
    for _ in range(10):
        browser.post("/auth", json={"email": EMAIL, "password": "x"})
    assert browser.post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 429
    prove(browser, mailbox)
    assert choose(browser).status_code == 200
    assert is_signed_in(browser)


def test_a_database_that_takes_no_writes_gives_nobody_more_guesses(browser, mailbox, unwritable):
    browser.post("/auth/reset", data={"email": EMAIL})
    code = mailbox.last(EMAIL).code
    unwritable()
    assert [browser.post("/verify", json={"OTP": "x"}).status_code for _ in range(6)] == [503] * 5 + [404]
    assert browser.post("/verify", json={"OTP": code}).status_code == 404
