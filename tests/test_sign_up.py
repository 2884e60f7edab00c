"""Signing up by magic link."""

import threading

import pytest
from bs4 import BeautifulSoup
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_up, sign_up_by_mail


def test_a_stranger_signs_up_by_the_mailed_link_and_is_in(client, mailbox):
    answer = client.post("/users/magic_link", data={"email": "Ada@Example.org"})
    assert (answer.status_code, answer.location) == (303, "/users/magic_link/sent")
    letter = mailbox.last()
    assert letter.to == "Ada@example.org"
    page = client.get(letter.link)
    assert page.status_code == 200
    assert 'value="Ada@example.org" autocomplete="username"' in " ".join(page.text.split())
    done = client.post(
        "/users/signup", data={"token": letter.token, "name": "Ada", "password": PASSWORD, "phone": "+44 20 7946"}
    )
    assert (done.status_code, done.location) == (303, "/home")
    user = client.get("/home", headers=JSON).get_json()["user"]
    assert (user["name"], user["email"], user["phone"]) == ("Ada", "Ada@example.org", "+44 20 7946")
    assert user["created_at"] == user["updated_at"] and user["created_at"].endswith("Z")


def test_signing_up_as_json_answers_201_with_the_user(client, mailbox):
    asked = client.post("/users/magic_link", json={"email": EMAIL})
    assert asked.get_json()["message"] == "Link sent to your email!"
    answer = client.post(mailbox.last().link, json={"name": "Ada", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.get_json()["message"] == "User saved!"
    assert set(answer.get_json()["user"]) == {"id", "name", "email", "phone", "created_at", "updated_at"}
    assert is_signed_in(client)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "", "password": PASSWORD}, "name"),
        ({"name": "A\x00da", "password": PASSWORD}, "name"),
        ({"name": "x" * 101, "password": PASSWORD}, "name"),
        ({"name": "Ada", "password": ""}, "password"),
        ({"name": "Ada", "password": "short"}, "password"),
        ({"name": "Ada", "password": "x" * 129}, "password"),
        ({"name": "Ada", "password": "password1"}, "password"),
        ({"name": "Ada", "password": "ada@example.org"}, "password"),
        ({"name": "Ada", "password": PASSWORD, "phone": "call me"}, "phone"),
    ],
)
def test_a_bad_form_keeps_what_was_typed_and_the_link_good(client, mailbox, form, field):
    client.post("/users/magic_link", data={"email": EMAIL})
    token = mailbox.last().token
    answer = client.post("/users/signup", data={"token": token, "phone": "+1 555", **form})
    assert answer.status_code == 400
    assert f'id="{field}-error"' in answer.text
    assert 'value="+1 555"' in answer.text or field == "phone"
    assert PASSWORD not in answer.text
    json = client.post("/users/signup", json={"token": token, **form})
    assert (json.status_code, json.get_json()["message"]) == (400, "Invalid request.")
    assert list(json.get_json()["errors"]) == [field]
    assert client.post("/users/signup", data={"token": token, "name": "Ada", "password": PASSWORD}).location == "/home"


def test_the_link_works_once_and_for_one_account(client, mailbox):
    sign_up_by_mail(client)
    token = mailbox.last().token
    again = other_browser(client).post("/users/signup", data={"token": token, "name": "Eve", "password": PASSWORD})
    assert again.status_code == 403


def test_a_hundred_posts_of_one_link_make_one_account(app, client, mailbox):
    client.post("/users/magic_link", data={"email": EMAIL})
    token = mailbox.last().token
    statuses = []

    def post() -> None:
        answer = app.test_client().post("/users/signup", json={"token": token, "name": "Ada", "password": PASSWORD})
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=post) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 400, 403}


def test_a_link_to_an_address_that_has_an_account_by_now_takes_its_token_along_and_out_of_the_address_bar(
    client, mailbox
):
    client.post("/users/magic_link", data={"email": EMAIL})
    link = mailbox.last().link
    sign_up(client)
    for browser, offered in ((client, False), (other_browser(client), True)):
        answer = browser.get(link)
        assert answer.status_code == 400
        assert "data-strip-token" in answer.text and ("Sign in to it" in answer.text) == offered


def test_a_browser_of_another_account_is_told_that_it_will_be_signed_in_to_the_new_one(client, mailbox):
    sign_up(client, "grace@example.org")
    client.post("/users/magic_link", data={"email": EMAIL})
    assert "This browser is signed in as" in client.get(mailbox.last(EMAIL).link).text


def test_the_owner_of_an_account_gets_a_sign_in_letter_and_the_visitor_the_same_answer(client, mailbox):
    sign_up(client)
    stranger = other_browser(client)
    for_owner = stranger.post("/users/magic_link", data={"email": EMAIL})
    for_nobody = stranger.post("/users/magic_link", data={"email": "nobody@example.org"})
    assert (for_owner.status_code, for_owner.location, for_owner.data) == (
        for_nobody.status_code,
        for_nobody.location,
        for_nobody.data,
    )
    assert "/auth/link?token=" in mailbox.last(EMAIL).links[0]
    assert "/users/signup?token=" in mailbox.last("nobody@example.org").links[0]


@pytest.mark.parametrize(
    ("policy", "message"), [("closed", "Sign-up is closed."), ("invite", "Sign-up is by invitation.")]
)
def test_sign_up_that_is_not_open_is_refused(make_app, policy, message):
    client = make_app(MAGICAUTH_SIGN_UP=policy).test_client()
    page = client.get("/users/magic_link")
    assert (page.status_code, BeautifulSoup(page.text, "html.parser").h1.get_text()) == (403, message)
    answer = client.post("/users/magic_link", json={"email": EMAIL})
    assert (answer.status_code, answer.get_json()["message"]) == (403, message)


# --- where it leads ---------------------------------------------------------------------------------------------------


def test_a_newcomer_comes_back_to_the_page_that_was_wanted(client, mailbox):
    page = BeautifulSoup(client.get("/account/activity?x=1", follow_redirects=True).text, "html.parser")
    form = client.get(page.find("a", string="Create an account")["href"])
    wanted = BeautifulSoup(form.text, "html.parser").find("input", {"name": "next"})["value"]
    assert wanted == "/account/activity?x=1"
    client.post("/users/magic_link", data={"email": EMAIL, "next": wanted})
    answer = client.post(mailbox.last().link, data={"name": "Ada", "password": PASSWORD})
    assert answer.location == wanted


def test_one_who_has_an_account_after_all_comes_back_to_it_too(client, mailbox):
    sign_up(client)
    newcomer = other_browser(client)
    newcomer.post("/users/magic_link", data={"email": EMAIL, "next": "/account/activity"})
    token = mailbox.last().token
    assert newcomer.post("/auth/link", data={"token": token, "email": EMAIL}).location == "/auth/password"
    assert newcomer.post("/auth/password", data={"password": PASSWORD}).location == "/account/activity"


@pytest.mark.parametrize("bad", ["https://evil.example", "//evil.example", "/%09/evil.example"])
def test_a_newcomer_is_led_nowhere_else(client, mailbox, bad):
    client.post("/users/magic_link", data={"email": EMAIL, "next": bad})
    answer = client.post(mailbox.last().link, data={"name": "Ada", "password": PASSWORD})
    assert answer.location == "/home"
