"""What people do with their account."""

import json

import pytest
from instruments import change_user
from pages import EMAIL, PASSWORD

from browser.windows import DESKTOP, NO_SCRIPT, PHONE, Window, for_both, on_a_phone
from magicauth.testing import sign_in as sign_in_for_test

pytestmark = pytest.mark.browser
NEW = "ada@lovelace.example"


def fresh_again(window: Window) -> Window:
    """Says by the password who one is, if asked."""
    if window.path == "/auth/fresh":
        window.fill(Password=PASSWORD).press("Continue")
    return window


@for_both
def test_name_phone_and_what_is_wrong_with_them(site, window):
    window.become(site.with_account()).go("/account")
    window.page.locator("#phone").fill("call me")
    window.press("Save").see("#error-summary")
    assert "Use digits, spaces and a leading +" in window.text
    assert window.page.locator("#phone").input_value() == "call me"
    window.fill(Name="Ada King").page.locator("#phone").fill("+44 20 7946 0958")
    window.press("Save").see("[role=status]")
    assert "Saved." in window.text
    assert window.go("/home").heading == "Hello, Ada King"


@on_a_phone
def test_a_new_password_ends_the_sessions_of_other_browsers(site, window, open_window):
    other = open_window().become(site.with_account())
    window.sign_in().go("/account").page.locator("a[href='/account/password']").click()
    window.fill(Current_password=PASSWORD, New_password="another horse, another battery").press("Save new password")
    window.arrive("/account")
    assert "Your password is changed." in window.text
    assert (window.signed_in_as(), other.signed_in_as()) == (EMAIL, None)


@for_both
def test_saying_again_who_one_is_leads_back_to_what_was_typed(serve, open_window, window):
    site = serve(MAGICAUTH_FRESH_FOR=2)
    window = open_window(window.kind, site).become(site.with_account())
    window.go("/account/email")
    fresh_again(window).arrive("/account/email").fill(New_email_address=NEW)
    window.page.wait_for_timeout(2100)
    window.press("Send the email").arrive("/auth/fresh")
    assert "Please confirm that it is you; then you go on where you were." in window.text
    window.press("Email me a code instead").see("#OTP")
    window.type_code(site.letter(EMAIL).code).arrive("/account/email")
    assert window.field("New email address").input_value() == NEW
    window.press("Send the email").arrive("/verify")
    window.type_code(site.letter(NEW).code).arrive("/account")
    assert "Your email address is changed." in window.text
    assert window.signed_in_as() == NEW


def test_a_button_that_wants_it_is_pressed_once_more(site, open_window):
    other, stale = open_window().become(site.with_account()), site.app.test_client()
    sign_in_for_test(stale, EMAIL, fresh=False)
    window = open_window(PHONE).become(stale).go("/account/sessions")
    window.press("Sign out everywhere else").arrive("/auth/fresh")
    fresh_again(window).arrive("/account/sessions")
    assert "Press the button once more to finish." in window.text
    assert other.signed_in_as() == EMAIL
    window.press("Sign out everywhere else").see("text=All other sessions are ended.")
    assert (other.signed_in_as(), window.signed_in_as()) == (None, EMAIL)


def test_the_old_address_can_take_the_account_back(site, window, open_window):
    window.become(site.with_account()).go("/account/email").fill(New_email_address=NEW).press("Send the email").arrive(
        "/verify"
    )
    window.type_code(site.letter(NEW).code).arrive("/account")
    (letter,) = [letter for letter in site.mailbox.all(EMAIL) if "was changed" in letter.subject]
    owner = open_window(NO_SCRIPT).go(letter.links[0])
    assert EMAIL in owner.text
    owner.press("Undo the change").arrive("/auth")
    assert "Your old address is back" in owner.text
    assert window.signed_in_as() is None
    assert owner.go(letter.links[0]).heading == "This link is no longer good"


def test_a_link_of_warning_signs_out_everywhere_and_leads_to_a_new_password(site, window, open_window):
    site.with_account()
    thief = open_window().sign_in()
    (letter,) = [letter for letter in site.mailbox.all(EMAIL) if letter.subject.startswith("New sign-in")]
    window.go(letter.links[0])
    assert thief.signed_in_as() == EMAIL
    window.press("Secure my account").arrive("/verify")
    assert "Your account is signed out everywhere." in window.text
    assert thief.signed_in_as() is None
    window.type_code(site.letter(EMAIL).code).arrive("/auth/reset/password")


@on_a_phone
def test_sessions_of_other_browsers_are_seen_and_ended(site, window, open_window):
    others = [open_window().become(site.with_account()), open_window().sign_in()]
    window.sign_in().go("/account/sessions")
    assert window.page.locator("main li").count() == 3
    assert "Firefox on Linux" in window.text
    window.page.locator("li", has_text="Firefox on Linux").get_by_role("button").click()
    window.see("[role=status]")
    assert "That session is ended." in window.text
    assert [other.signed_in_as() for other in others] == [None, EMAIL]
    window.press("Sign out everywhere else").see("[role=status]")
    assert [other.signed_in_as() for other in (*others, window)] == [None, None, EMAIL]


def test_activity_tells_what_happened(site, window):
    window.become(site.with_account()).go("/account/activity")
    assert "Account made" in window.text


def test_the_export_is_a_file(site, window):
    window.become(site.with_account()).go("/account/export")
    with window.page.expect_download() as download:
        window.follow("Download")
    assert download.value.suggested_filename == "magicauth-export.json"
    assert json.loads(download.value.path().read_text())["user"]["email"] == EMAIL


@for_both
def test_an_account_is_deleted_when_its_address_is_typed(site, window):
    window.become(site.with_account()).go("/account/delete")
    window.fill(Type_your_email_address_to_confirm="no").page.locator("main form").evaluate(
        "form => form.noValidate = true"
    )
    window.press("Delete my account").see("#error-summary")
    other = window.tab().go("/account")
    window.fill(Type_your_email_address_to_confirm=EMAIL).press("Delete my account").arrive("/auth")
    if window.kind.javascript:
        # What its page showed of the account does not stay.
        other.arrive("/auth")
    assert "Your account is deleted." in window.text
    assert window.signed_in_as() is None
    window.page.reload()
    assert "Your account is deleted." not in window.text


def test_the_users_can_be_read_side_by_side_however_long_their_names(site, window):
    window.become(site.with_account())
    change_user(site.app, is_admin=True)
    run = site.app.test_cli_runner().invoke
    run(args=["users", "create", f"{'x' * 64}@{'y' * 30}.example.org", "--name", "Z" * 96])
    region = window.go("/users").page.locator("[role=region]")
    assert region.evaluate("region => region.scrollWidth <= region.clientWidth")


@pytest.mark.parametrize("window", [DESKTOP, NO_SCRIPT], indirect=True, ids=str)
def test_a_language_that_is_picked_stays(site, window):
    window.go("/users/magic_link").page.locator("details.languages summary").click()
    window.press("العربية").arrive("/users/magic_link")
    html = window.page.locator("html")
    assert (html.get_attribute("lang"), html.get_attribute("dir")) == ("ar", "rtl")
    window.go("/auth")
    assert html.get_attribute("lang") == "ar"
