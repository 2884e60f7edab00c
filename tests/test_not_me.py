"""`/auth/not_me`: the link of every letter of warning."""

import pytest
from bs4 import BeautifulSoup
from instruments import at_once, change_user, later
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up

from magicauth.models import Action

NEW = "seven other horses graze"
THIEF = "mallory@example.org"


@pytest.fixture
def thief(ada):
    """The thief's browser, signed in as Ada, who has been told of it."""
    browser = other_browser(ada)
    sign_in(browser)
    return browser


def warning(mailbox, email=EMAIL):
    """The newest warning's way out: path and query."""
    return next(letter.link for letter in mailbox.all(email) if "/auth/not_me" in letter.links[0])


def end_reset(browser, mailbox, email=EMAIL):
    """Answers the reset that is under way, and chooses a new password."""
    assert browser.post("/verify", data={"OTP": mailbox.last(email).code}).location == "/auth/reset/password"
    assert browser.post("/auth/reset/password", data={"password": NEW}).location == "/home"


# --- the journey -----------------------------------------------------------------------------------------------------


def test_one_press_ends_all_sessions_and_begins_a_reset(ada, thief, mailbox):
    owner, link = other_browser(ada), warning(mailbox)
    page = BeautifulSoup(owner.get(link).text, "html.parser")
    form = page.find("form", {"action": "/auth/not_me"})
    done = owner.post("/auth/not_me", data={"token": form.find("input", {"name": "token"})["value"]})
    assert (done.status_code, done.location) == (303, "/verify")
    assert not is_signed_in(thief) and not is_signed_in(ada) and not is_signed_in(owner)
    end_reset(owner, mailbox)
    assert is_signed_in(owner)
    assert other_browser(ada).post("/auth", json={"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert owner.get("/account/activity", headers=JSON).text.count("user:not_me") == 1


def test_as_json(ada, thief, mailbox):
    answer = other_browser(ada).post(warning(mailbox), json={})
    assert (answer.status_code, answer.get_json()["next"]) == (200, "/verify")
    assert not is_signed_in(thief)


def test_it_works_from_the_owners_own_signed_in_browser(ada, thief, mailbox):
    assert ada.post(warning(mailbox)).location == "/verify"
    assert not is_signed_in(ada) and not is_signed_in(thief)
    end_reset(ada, mailbox)
    assert is_signed_in(ada)


def test_a_browser_signed_in_to_another_account_stays_so(ada, thief, mailbox):
    link, bob = warning(mailbox), other_browser(ada)
    sign_up(bob, "bob@example.org", name="Bob")
    assert "You stay signed in here as" in bob.get(link).text
    assert bob.post(link).location == "/verify"
    assert bob.get("/home", headers=JSON).get_json()["user"]["name"] == "Bob"
    assert not is_signed_in(ada) and not is_signed_in(thief)
    assert "That account is signed out everywhere. You stay signed in here." in bob.get("/verify").text
    end_reset(bob, mailbox)
    assert bob.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


def test_looking_changes_nothing_ever(ada, thief, mailbox):
    link, scanner = warning(mailbox), other_browser(ada)
    letters = len(mailbox.all())
    for _ in range(20):
        assert scanner.get(link).status_code == 200
    assert scanner.head(link, headers=JSON).status_code == 200
    assert is_signed_in(ada) and is_signed_in(thief)
    assert len(mailbox.all()) == letters
    assert other_browser(ada).post(link).location == "/verify"


def test_the_thiefs_open_questions_die_with_his_session(ada, thief, mailbox):
    thief.post("/account/email", data={"email": THIEF})
    change = mailbox.last(THIEF)
    again = other_browser(ada)
    again.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    code = mailbox.last(EMAIL).code
    other_browser(ada).post(warning(mailbox))
    assert again.post("/verify", json={"OTP": code}).status_code == 404
    assert other_browser(ada).post("/auth/link", json={"token": change.token, "email": THIEF}).status_code in (403, 404)
    assert sign_in(other_browser(ada)).location == "/home"


# --- whatever the thief has done -------------------------------------------------------------------------------------


def test_it_works_after_the_thief_has_changed_the_password(ada, thief, mailbox):
    link = warning(mailbox)
    thief.post("/account/password", data={"old_password": PASSWORD, "password": "all mine for ever now"})
    assert is_signed_in(thief)
    owner = other_browser(ada)
    assert owner.post(link).location == "/verify"
    assert not is_signed_in(thief)
    end_reset(owner, mailbox)
    assert (
        other_browser(ada).post("/auth", json={"email": EMAIL, "password": "all mine for ever now"}).status_code == 401
    )


def test_after_the_thief_has_moved_the_account_sessions_end_and_no_reset_goes_to_him(ada, thief, mailbox):
    link = warning(mailbox)
    thief.post("/account/email", data={"email": THIEF})
    thief.post("/verify", data={"OTP": mailbox.last(THIEF).code})
    letters = len(mailbox.all())
    answer = other_browser(ada).post(link)
    assert answer.location == "/auth"
    assert not is_signed_in(thief)
    assert len(mailbox.all()) == letters
    # The way back is the other letter's.
    undo = next(letter.link for letter in mailbox.all(EMAIL) if "/account/email/undo" in letter.links[0])
    assert other_browser(ada).post(undo).location == "/auth"


def test_it_works_after_the_thief_has_spent_every_budget_of_the_address(ada, thief, mailbox):
    """Five letters an hour for an address, whoever asks: the sixth is the owner's, and must not be the one refused."""
    link = warning(mailbox)
    for number in range(12):
        attacker = other_browser(ada)
        attacker.post("/auth", json={"email": EMAIL, "password": f"guess {number}"})
        attacker.post("/auth/reset", json={"email": EMAIL})
    assert other_browser(ada).post("/auth/reset", json={"email": EMAIL}).status_code == 429
    owner = other_browser(ada)
    assert owner.post(link).location == "/verify"
    assert not is_signed_in(thief)
    end_reset(owner, mailbox)
    assert is_signed_in(owner)


@pytest.mark.parametrize(("hours", "good"), [(71, True), (73, False)])
def test_it_is_good_for_three_days(ada, thief, mailbox, redis, hours, good):
    link = warning(mailbox)
    with later(redis, hours * 3600):
        assert other_browser(ada).post(link, json={}).status_code == (200 if good else 403)


def test_where_passwords_are_off_the_sessions_end_and_there_is_nothing_to_reset(make_app):
    app = make_app(MAGICAUTH_PASSWORDS="off")
    ada, mailbox = app.test_client(), Letters(app)
    sign_up(ada, password="")
    thief = app.test_client()
    thief.post("/auth", data={"email": EMAIL})
    thief.post("/verify", data={"OTP": mailbox.last(EMAIL).code})
    letters = len(mailbox.all())
    bob, link = app.test_client(), warning(mailbox)
    sign_up(bob, "bob@example.org", password="")
    assert bob.post(link).location == "/auth"
    assert not is_signed_in(thief) and not is_signed_in(ada) and is_signed_in(bob)
    assert "You stay signed in here." in bob.get("/home").text
    assert len(mailbox.all()) == letters


def test_a_disabled_account_is_not_opened_by_it(app, ada, thief, mailbox):
    link = warning(mailbox)
    change_user(app, disabled=True)
    owner = other_browser(ada)
    owner.post(link)
    assert mailbox.last(EMAIL).code is None
    assert owner.post("/verify", json={"OTP": "000000"}).status_code == 401
    assert not is_signed_in(owner) and not is_signed_in(thief)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_it_works_once(ada, thief, mailbox):
    link = warning(mailbox)
    other_browser(ada).post(link)
    letters = len(mailbox.all())
    sign_in(ada)
    # Her browser is a new one too: it might be the thief's.
    assert "New sign-in" in mailbox.all()[0].subject + mailbox.all()[1].subject
    for answer in (other_browser(ada).post(link, json={}), other_browser(ada).get(link, headers=JSON)):
        assert (answer.status_code, answer.get_json()["message"]) == (403, "Access denied.")
    assert other_browser(ada).get(link).status_code == 403
    assert is_signed_in(ada)
    assert len(mailbox.all()) == letters + 2


def test_of_twenty_at_once_one_begins_a_reset_that_the_others_leave_good(app, ada, thief, mailbox):
    link, letters = warning(mailbox), len(mailbox.all())
    browsers = [app.test_client() for _ in range(20)]
    answers = at_once(20, lambda number: browsers[number].post(link, json={}).status_code)
    assert sorted(answers) == [200] + [403] * 19
    assert len(mailbox.all()) == letters + 1
    assert not is_signed_in(thief)
    end_reset(browsers[answers.index(200)], mailbox)


def test_a_thief_who_is_quick_does_not_keep_the_owner_from_it(ada, thief, mailbox, overtaken):
    overtaken(Action.NOT_ME, lambda: thief.post("/account/sessions/end_others"))
    assert other_browser(ada).post(warning(mailbox)).location == "/verify"
    assert not is_signed_in(thief)


def test_once_the_account_is_gone_it_offers_nothing(ada, thief, mailbox):
    link = warning(mailbox)
    ada.post("/account/delete", data={"email": EMAIL})
    for answer in (other_browser(ada).get(link), other_browser(ada).post(link)):
        assert answer.status_code == 403 and "Secure my account" not in answer.text


def test_a_redis_that_stumbles_on_the_way_leaves_the_link_good(ada, thief, mailbox, redis):
    link, owner = warning(mailbox), other_browser(ada)
    redis.execute_command("ACL", "SETUSER", "default", "-zrange")
    try:
        assert owner.post(link).status_code == 503
    finally:
        redis.execute_command("ACL", "SETUSER", "default", "+@all")
    assert owner.post(link).location == "/verify"
    end_reset(owner, mailbox)
    assert not is_signed_in(thief)


@pytest.mark.parametrize(
    ("token", "status", "message"),
    [("", 400, "Token required."), ("x", 403, "Access denied."), ("a" * 26 + "." + "b" * 43, 403, "Access denied.")],
)
def test_a_bad_token_is_refused(client, token, status, message):
    for answer in (
        client.post("/auth/not_me", json={"token": token}),
        client.get(f"/auth/not_me?token={token}", headers=JSON),
    ):
        assert (answer.status_code, answer.get_json()["message"]) == (status, message)


def test_a_truncated_or_changed_token_is_refused(ada, thief, mailbox):
    token = warning(mailbox).partition("token=")[2]
    for bad in (token[:-1], token[1:], token + "A", token[:-1] + ("A" if token[-1] != "A" else "B"), token.upper()):
        assert other_browser(ada).post("/auth/not_me", json={"token": bad}).status_code == 403
    assert is_signed_in(thief)


def test_links_of_other_letters_do_nothing_here(ada, thief, mailbox):
    stranger = other_browser(ada)
    stranger.post("/auth", data={"email": EMAIL})
    tokens = [mailbox.last(EMAIL).token]
    stranger.post("/auth/reset", data={"email": EMAIL})
    tokens.append(mailbox.last(EMAIL).token)
    stranger.post("/users/magic_link", data={"email": "nobody@example.org"})
    tokens.append(mailbox.last("nobody@example.org").token)
    for token in tokens:
        assert stranger.post("/auth/not_me", json={"token": token}).status_code == 403
    assert is_signed_in(ada) and is_signed_in(thief)


def test_its_link_opens_no_other_door(ada, thief, mailbox):
    token, stranger = warning(mailbox).partition("token=")[2], other_browser(ada)
    for door in ("/auth/link", "/users/signup", "/account/email/undo"):
        form = {"token": token, "email": EMAIL, "name": "Mallory", "password": NEW}
        assert stranger.post(door, json=form).status_code == 403, door
    assert not is_signed_in(stranger)


def test_the_link_alone_lets_nobody_in(ada, thief, mailbox):
    """Whoever steals the letter ends the sessions, and has nothing else."""
    stranger = other_browser(ada)
    stranger.post(warning(mailbox))
    assert not is_signed_in(stranger)
    assert stranger.get("/auth/reset/password", headers=JSON).status_code == 404
    assert stranger.post("/auth/reset/password", json={"password": NEW}).status_code == 404
