"""The mailed link: in the browser that asked, and in any other."""

import pytest
from bs4 import BeautifulSoup
from instruments import at_once, change_user, later, raise_epoch, same_browser, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_up

DENIED = (403, "Access denied.")


@pytest.fixture
def browser(client):
    """A browser that has shown Ada's password and waits for the letter."""
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD, "next": "/users?limit=3", "remember": "on"})
    return browser


def follow(client, token, email=None):
    """Status and message, or where it leads, of the link's form."""
    answer = client.post("/auth/link", json={"token": token} | ({} if email is None else {"email": email}))
    return answer.status_code, answer.get_json().get("next") or answer.get_json()["message"]


# --- in the browser that asked ---------------------------------------------------------------------------------------


def test_the_link_continues_by_itself_in_the_browser_that_asked(browser, mailbox):
    letter = mailbox.last()
    page = BeautifulSoup(browser.get(letter.link).text, "html.parser")
    form = page.find("form", {"action": "/auth/link"})
    assert form["method"] == "post" and form.has_attr("data-continue") and form.find("button", {"type": "submit"})
    assert not form.find("input", {"name": "email"})
    assert page.find(attrs={"data-strip-token": True})
    token = form.find("input", {"name": "token"})["value"]
    assert token == letter.token
    done = browser.post("/auth/link", data={"token": token})
    assert (done.status_code, done.location) == (303, "/users?limit=3")
    assert "Max-Age" in next(line for line in done.headers.getlist("Set-Cookie") if line.startswith("magicauth="))
    assert is_signed_in(browser)


def test_the_link_as_json(browser, mailbox):
    letter = mailbox.last()
    assert browser.get(letter.link, headers=JSON).get_json()["here"] is True
    answer = browser.post("/auth/link", json={"token": letter.token})
    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["next"]) == (
        200,
        "SUCCESS",
        "/users?limit=3",
    )


def test_the_browser_that_asked_for_two_addresses_asked_for_both(client, mailbox):
    for email in (EMAIL, "eve@example.org"):
        sign_up(client, email)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    mine = mailbox.last(EMAIL)
    for number in range(4):
        browser.post("/auth", data={"email": f"eve{number or ''}@example.org"})
    assert browser.get(mine.link, headers=JSON).get_json()["here"] is True
    assert follow(browser, mine.token) == (200, "/auth/password")
    browser.post("/auth/password", data={"password": PASSWORD})
    assert browser.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL
    # Another browser still names the address.
    browser.post("/logout")
    browser.post("/auth", data={"email": EMAIL})
    assert follow(other_browser(client), mailbox.last(EMAIL).token) == DENIED


def test_the_wish_to_stay_signed_in_is_that_of_the_question_it_was_asked_with(client, mailbox):
    for email in (EMAIL, "eve@example.org"):
        sign_up(client, email)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    browser.post("/auth", data={"email": "eve@example.org", "remember": "on"})
    assert follow(browser, mailbox.last(EMAIL).token) == (200, "/auth/password")
    done = browser.post("/auth/password", data={"password": PASSWORD})
    assert "Max-Age" not in next(line for line in done.headers.getlist("Set-Cookie") if line.startswith("magicauth="))


def test_it_remembers_five(client, mailbox):
    browser, asked = other_browser(client), [f"user{number}@example.org" for number in range(6)]
    for email in asked:
        sign_up(other_browser(client), email)
        browser.post("/auth", data={"email": email})
    here = [browser.get(mailbox.last(email).link, headers=JSON).get_json()["here"] for email in asked]
    assert here == [False, True, True, True, True, True]


def test_the_token_may_stand_in_the_query(browser, mailbox):
    assert browser.post(mailbox.last().link).location == "/users?limit=3"


def test_link_first_then_password(client, mailbox):
    sign_up(client)
    browser = other_browser(client)
    browser.post("/auth", data={"email": EMAIL})
    assert browser.post("/auth/link", data={"token": mailbox.last().token}).location == "/auth/password"
    assert not is_signed_in(browser)
    assert browser.post("/auth/password", data={"password": PASSWORD}).location == "/home"
    assert is_signed_in(browser)


# --- in any other browser --------------------------------------------------------------------------------------------


def test_elsewhere_the_address_is_typed_once_and_the_sign_in_goes_on_there(browser, mailbox):
    letter, phone = mailbox.last(), other_browser(browser)
    assert phone.get(letter.link, headers=JSON).get_json()["here"] is False
    page = BeautifulSoup(phone.get(letter.link).text, "html.parser")
    form = page.find("form", {"action": "/auth/link"})
    assert form.find("input", {"name": "email"}) and not form.has_attr("data-continue")
    # Who holds the link alone does not learn from the page what to type.
    assert EMAIL not in page.get_text() and EMAIL not in str(form)
    # What the asking browser has shown stays there: here the password is asked for.
    assert phone.post("/auth/link", data={"token": letter.token, "email": EMAIL}).location == "/auth/password"
    assert not is_signed_in(phone) and not is_signed_in(browser)
    done = phone.post("/auth/password", data={"password": PASSWORD})
    assert done.location == "/users?limit=3"
    # So does its wish to be remembered.
    assert "Max-Age" not in next(line for line in done.headers.getlist("Set-Cookie") if line.startswith("magicauth="))
    assert is_signed_in(phone) and not is_signed_in(browser)


def test_elsewhere_without_a_password_the_link_signs_in(make_app):
    app = make_app(MAGICAUTH_PASSWORDS="optional")
    sign_up(app.test_client(), password="")
    asking, phone = app.test_client(), app.test_client()
    asking.post("/auth", data={"email": EMAIL})
    letter = Letters(app).last()
    assert follow(phone, letter.token, EMAIL) == (200, "/home")
    assert is_signed_in(phone) and not is_signed_in(asking)
    assert asking.post("/verify", json={"OTP": letter.code}).status_code == 404


@pytest.mark.parametrize("typed", ["ADA@EXAMPLE.ORG", "  ada@example.org ", "Ada@Example.Org"])
def test_elsewhere_the_address_is_read_as_a_person_writes_it(browser, mailbox, typed):
    assert follow(other_browser(browser), mailbox.last().token, typed) == (200, "/auth/password")


@pytest.mark.parametrize("typed", ["eve@example.org", "ada@example.com", "ada+x@example.org", "ada", "a@b@c"])
def test_a_mistyped_address_leaves_the_link_good(browser, mailbox, typed):
    token, phone = mailbox.last().token, other_browser(browser)
    for _ in range(4):
        assert follow(phone, token, typed) == DENIED
        assert not is_signed_in(phone) and session_id(phone) == ""
    assert follow(phone, token, EMAIL) == (200, "/auth/password")


@pytest.mark.parametrize("typed", [None, "", 5, ["ada@example.org"]])
def test_a_mail_scanner_that_presses_the_button_types_no_address_and_spends_nothing(browser, mailbox, typed):
    token, scanner = mailbox.last().token, other_browser(browser)
    for _ in range(10):
        assert follow(scanner, token, typed) == DENIED
        assert session_id(scanner) == ""
    assert follow(other_browser(browser), token, EMAIL) == (200, "/auth/password")


def test_a_mistyped_address_shows_the_form_again_with_what_was_typed(browser, mailbox):
    answer = other_browser(browser).post("/auth/link", data={"token": mailbox.last().token, "email": "eve@example.org"})
    assert answer.status_code == 403
    page = BeautifulSoup(answer.text, "html.parser")
    assert page.find("input", {"name": "email"})["value"] == "eve@example.org"
    assert page.find(id="email-error")
    assert page.find("input", {"name": "token"})["value"] == mailbox.last().token


def test_the_fifth_mistyped_address_spends_the_link_but_not_the_code(browser, mailbox):
    letter, phone = mailbox.last(), other_browser(browser)
    for _ in range(5):
        assert follow(phone, letter.token, "eve@example.org") == DENIED
    assert follow(phone, letter.token, EMAIL) == DENIED
    assert phone.get(letter.link).status_code == 403
    assert browser.post("/verify", data={"OTP": letter.code}).location == "/users?limit=3"


def test_a_hundred_addresses_typed_at_once_are_five(browser, mailbox):
    token, phones = mailbox.last().token, [other_browser(browser) for _ in range(100)]
    told = at_once(100, lambda n: follow(phones[n], token, "eve@example.org" if n % 20 else EMAIL))
    assert [status for status, _ in told].count(200) <= 1
    assert set(told) <= {DENIED, (200, "/auth/password")}
    assert follow(other_browser(browser), token, EMAIL) == DENIED


def test_a_browser_signed_in_as_somebody_else_is_told_so_first(app, browser, mailbox):
    eve = app.test_client()
    sign_up(eve, "eve@example.org", name="Eve")
    letter = mailbox.last(EMAIL)
    page = eve.get(letter.link)
    assert "eve@example.org" in page.text and "data-continue" not in page.text
    assert follow(eve, letter.token, EMAIL) == (200, "/auth/password")
    assert eve.get("/home", headers=JSON).get_json()["user"]["email"] == "eve@example.org"
    assert eve.post("/auth/password", data={"password": PASSWORD}).location == "/users?limit=3"
    assert eve.get("/home", headers=JSON).get_json()["user"]["email"] == EMAIL


def test_login_csrf_an_attackers_link_does_not_continue_in_a_browser_that_did_not_ask(app, browser, mailbox):
    sign_up(app.test_client(), "mallory@example.org", name="Mallory")
    app.test_client().post("/auth", data={"email": "mallory@example.org"})
    attackers = mailbox.last("mallory@example.org")
    assert "data-continue" not in browser.get(attackers.link).text
    assert follow(browser, attackers.token) == DENIED


# --- looking changes nothing -----------------------------------------------------------------------------------------


def test_a_mail_scanner_that_looks_a_hundred_times_spends_nothing(app, browser, mailbox, redis):
    letter = mailbox.last()

    def stored():
        return {key: redis.dump(key) for key in redis.keys("magicauth:*")}

    before = stored()
    scanner = app.test_client()
    for _ in range(100):
        assert scanner.get(letter.link).status_code == 200
    assert scanner.head(letter.link, headers=JSON).status_code == 200
    assert browser.get(letter.link).status_code == 200
    assert stored() == before
    assert session_id(scanner) == "" and not is_signed_in(scanner)
    assert browser.post("/auth/link", data={"token": letter.token}).location == "/users?limit=3"


# --- once, in time, and no other -------------------------------------------------------------------------------------


def test_a_link_works_once_and_takes_the_code_with_it(browser, mailbox):
    letter, tab = mailbox.last(), same_browser(browser)
    assert follow(browser, letter.token) == (200, "/users?limit=3")
    assert follow(browser, letter.token) == DENIED
    assert follow(other_browser(browser), letter.token, EMAIL) == DENIED
    assert tab.post("/verify", json={"OTP": letter.code}).status_code == 404
    assert browser.get(letter.link).status_code == 403


def test_a_code_takes_the_link_with_it(browser, mailbox):
    letter = mailbox.last()
    browser.post("/verify", data={"OTP": letter.code})
    gone = other_browser(browser).get(letter.link)
    assert gone.status_code == 403 and "Access denied." in gone.text
    assert follow(other_browser(browser), letter.token, EMAIL) == DENIED


def test_a_hundred_presses_of_the_button_at_once_sign_in_once(browser, mailbox):
    letter, tabs = mailbox.last(), [same_browser(browser) for _ in range(100)]
    told = at_once(100, lambda n: follow(tabs[n], letter.token))
    assert sorted(set(told)) == [(200, "/users?limit=3"), DENIED]
    assert [status for status, _ in told].count(200) == 1
    assert sum(is_signed_in(tab) for tab in tabs) == 1


def test_the_link_still_works_when_the_codes_are_spent(browser, mailbox):
    letter = mailbox.last()
    for _ in range(5):
        browser.post("/verify", json={"OTP": "x"})
    assert follow(browser, letter.token) == (200, "/users?limit=3")


def test_a_link_expires(browser, mailbox, redis):
    letter = mailbox.last()
    with later(redis, 550):
        assert browser.get(letter.link).status_code == 200
    with later(redis, 51):
        assert browser.get(letter.link).status_code == 403
        assert follow(browser, letter.token) == DENIED


def test_a_changed_password_or_address_voids_the_link(app, browser, mailbox):
    letter = mailbox.last()
    raise_epoch(app)
    assert follow(browser, letter.token) == DENIED
    assert follow(other_browser(browser), letter.token, EMAIL) == DENIED
    assert not is_signed_in(browser)


def test_a_disabled_account_is_let_in_by_no_link(app, browser, mailbox):
    letter = mailbox.last()
    change_user(app, disabled=True)
    assert follow(browser, letter.token) == DENIED
    page = browser.post("/auth/link", data={"token": letter.token})
    assert page.status_code == 403 and "Access denied." in page.text


def test_without_a_token_one_is_asked_for(client):
    for path in ("/auth/link", "/auth/link?token="):
        answer = client.get(path, headers=JSON)
        assert (answer.status_code, answer.get_json()["message"]) == (400, "Token required.")
        assert client.get(path).status_code == 400
    for body in ({}, {"token": ""}, {"token": None}, {"token": 5}):
        answer = client.post("/auth/link", json=body)
        assert (answer.status_code, answer.get_json()["message"]) == (400, "Token required.")


def _spoilt(token):
    challenge, mac = token.split(".")
    flip = "A" if mac[0] != "A" else "B"
    return [
        token[:-1],
        f"{token}A",
        f"{challenge}.{flip}{mac[1:]}",
        f"{challenge[:-1]}{'A' if challenge[-1] != 'A' else 'B'}.{mac}",
        f"{challenge}.",
        f".{mac}",
        challenge,
        f"{challenge}.{mac}.{mac}",
        f"{token}\n",
        f"{token} ",
        token.swapcase(),
        f"\uff41{token[1:]}",
        "x" * 5000,
        "../../etc/passwd",
        "*",
    ]


def test_a_link_that_was_cut_off_or_changed_opens_nothing(browser, mailbox):
    token = mailbox.last().token
    for spoilt in _spoilt(token):
        assert follow(browser, spoilt) == DENIED, spoilt
        assert browser.get("/auth/link", query_string={"token": spoilt}, headers=JSON).status_code == 403, spoilt
        assert browser.get("/auth/link", query_string={"token": spoilt}).status_code == 403, spoilt
    assert follow(browser, token) == (200, "/users?limit=3")


def test_a_link_of_one_purpose_answers_no_other(app, browser, mailbox):
    stranger = app.test_client()
    stranger.post("/users/magic_link", data={"email": "new@example.org"})
    sign_up_token, sign_in_token = mailbox.last("new@example.org").token, mailbox.last(EMAIL).token
    assert stranger.get("/auth/link", query_string={"token": sign_up_token}).status_code == 403
    assert follow(stranger, sign_up_token, "new@example.org") == DENIED
    form = {"name": "Ada", "password": PASSWORD}
    assert browser.get("/users/signup", query_string={"token": sign_in_token}).status_code == 403
    assert browser.post("/users/signup", json={"token": sign_in_token} | form).status_code == 403
    # Neither was spent by being carried to the wrong door.
    assert follow(browser, sign_in_token) == (200, "/users?limit=3")
    assert stranger.post("/users/signup", json={"token": sign_up_token} | form).status_code == 201


def test_an_owner_who_signs_up_again_is_signed_in_by_the_letters_link(app, client, mailbox):
    sign_up(client)
    browser = app.test_client()
    browser.post("/users/magic_link", data={"email": EMAIL})
    token = mailbox.last().token
    assert follow(browser, token, EMAIL) == (200, "/auth/password")
    assert browser.post("/auth/password", data={"password": PASSWORD}).location == "/home"


def test_a_link_that_a_full_redis_cannot_follow_stays_good(app, client, full, mailbox, redis):
    sign_up(client)
    asking = other_browser(client)
    asking.post("/auth", data={"email": EMAIL})
    token = mailbox.last(EMAIL).token
    challenge = f"magicauth:challenge:{token.partition('.')[0]}"
    with full():
        assert asking.post("/auth/link", data={"token": token}).status_code == 503
        # Not only opened again when there is room: by then its process may be gone.
        assert redis.exists(challenge)
    assert asking.post("/auth/link", data={"token": token}).location == "/auth/password"
