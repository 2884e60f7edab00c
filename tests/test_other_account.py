"""A page that is older than who is in use in its browser: two people, or two accounts of one, in two tabs."""

import pytest
from lxml import html
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from world import look

BOB = "bob@example.org"
NEW = "seven other horses graze"
PAGES = ["/account", "/account/email", "/account/password", "/account/sessions", "/account/delete", "/auth/fresh"]
# What somebody types into the fields that are empty, or changes in the others.
TYPED = {
    "name": "Ada the Second",
    "phone": "+44 20 7946 0958",
    "email": EMAIL,
    "old_password": PASSWORD,
    "password": NEW,
}


def forms(page):
    """Where each form of the page's own goes, and what it sends when somebody has filled it in."""
    for form in html.document_fromstring(page.data).xpath("//main//form[@method='post']"):
        fields = {field.get("name"): field.get("value") or "" for field in form.xpath(".//input | .//select")}
        typed = {
            name: TYPED[name]
            for name in fields
            if name in TYPED and not form.xpath(f".//input[@name='{name}'][@readonly]")
        }
        yield form.get("action"), fields | typed


@pytest.fixture
def bobs(ada):
    """A browser that Bob signed in to while Ada's pages were open in it: (browser, pages by path)."""
    sign_in(other_browser(ada))
    shown = {path: ada.get(path) for path in PAGES}
    assert all(page.status_code == 200 for page in shown.values())
    sign_up(ada, BOB)
    Letters(ada.application).all()
    return ada, shown


@pytest.mark.parametrize("path", PAGES)
def test_a_form_that_was_shown_for_another_account_changes_nothing(bobs, path):
    browser, shown = bobs
    before, sent = look(browser.application), list(forms(shown[path]))
    assert sent
    for action, fields in sent:
        answer = browser.post(action, data=fields)
        assert answer.status_code == 403, action
        assert "This page was for another account." in answer.text
        assert "another account has been used in this browser" in answer.text
        as_json = browser.post(action, data=fields, headers=JSON)
        assert (as_json.status_code, as_json.get_json()["message"]) == (403, "This page was for another account.")
    assert look(browser.application) == before
    assert is_signed_in(browser)


def test_a_form_outlives_a_change_of_its_own_accounts_address(ada, mailbox):
    shown = list(forms(ada.get("/account/password")))
    ada.post("/account/email", data={"email": "ada@new.example.org"})
    assert ada.post("/verify", data={"OTP": mailbox.last("ada@new.example.org").code}).location == "/account"
    ((action, fields),) = shown
    assert fields["email"] == EMAIL
    assert ada.post(action, data=fields).location == "/account"


def test_a_site_may_write_the_id_as_it_is(ada):
    user_id = ada.get("/home", headers=JSON).get_json()["user"]["id"]
    assert "-" in user_id
    assert ada.post("/account", data={"name": "Ada", "shown_for": user_id}).location == "/account"
    assert ada.post("/account", data={"name": "Ada", "shown_for": user_id[:-1]}).status_code == 403


def test_the_language_that_an_old_tab_picks_is_the_browsers_and_not_the_other_accounts(bobs):
    browser, shown = bobs
    browser.post("/account", data={"name": "Bob", "language": "en"})
    (fields,) = (
        {field.get("name"): field.get("value") for field in form.xpath(".//input")}
        for form in html.document_fromstring(shown["/account"].data).xpath("//form[@action='/language']")
    )
    assert browser.post("/language", data=fields | {"language": "de"}).status_code == 303
    assert browser.get("/account/export.json").get_json()["user"]["language"] == "en"
    assert browser.get_cookie("magicauth-language").value == "de"


@pytest.mark.parametrize("typed", ["Ada@Bücher.example", "ada@BÜCHER.example", "ada@xn--bcher-kva.example"])
def test_the_same_address_may_be_spelt_otherwise(app, mailbox, typed):
    stored = "ada@xn--bcher-kva.example"
    sign_up(app.test_client(), "ada@bücher.example")
    browser = app.test_client()
    ((action, fields),) = forms(show_the_password_step(browser, mailbox, stored))
    assert browser.post(action, data=fields | {"email": typed, "password": PASSWORD}).location == "/home"


def test_of_the_same_account_it_is_good_in_another_session(ada, mailbox):
    (_, profile), *_ = forms(ada.get("/account"))
    sign_in(ada)
    assert ada.post("/account", data=profile).location == "/account"
    assert ada.get("/home", headers=JSON).get_json()["user"]["name"] == TYPED["name"]


def show_the_reset(browser, mailbox, email):
    browser.post("/auth/reset", data={"email": email})
    browser.post("/verify", data={"OTP": mailbox.last(email).code})
    return browser.get("/auth/reset/password")


def show_the_password_step(browser, mailbox, email):
    browser.post("/auth", data={"email": email})
    browser.post("/verify", data={"OTP": mailbox.last(email).code})
    return browser.get("/auth/password")


@pytest.mark.parametrize("show", [show_the_reset, show_the_password_step])
def test_a_step_that_was_shown_for_another_account_is_not_taken(app, mailbox, show):
    for email in (EMAIL, BOB):
        sign_up(app.test_client(), email)
    browser = app.test_client()
    adas = show(browser, mailbox, EMAIL)
    bobs = show(browser, mailbox, BOB)
    mailbox.all()
    before = look(app)
    ((action, fields),) = forms(adas)
    assert fields["email"] == EMAIL
    answer = browser.post(action, data=fields | {"password": PASSWORD})
    # Not Bob's form again, which the second press would send for him.
    assert answer.status_code == 403 and not list(forms(answer))
    assert look(app) == before and not is_signed_in(browser)
    ((action, fields),) = forms(bobs)
    assert browser.post(action, data=fields | {"password": PASSWORD}).status_code == 303
    assert browser.get("/home", headers=JSON).get_json()["user"]["email"] == BOB
