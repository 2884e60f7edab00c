"""The waiting page and its one field."""

from contextlib import closing

import pytest
from conftest import wait_for
from pages import EMAIL, PASSWORD
from playwright.sync_api import expect
from servers import MailServer

from browser.windows import NO_SCRIPT, Site, Window, on_a_phone, wrong

pytestmark = pytest.mark.browser


def ask_for_the_code(site: Site, window: Window, password: str = PASSWORD) -> str:
    """As far as the waiting page; the code that arrived."""
    site.with_account()
    window.ask_to_sign_in(password).go("/verify")
    assert window.focus_is_on("OTP")
    return site.letter(EMAIL).code


def paste(window: Window, text: str, selector: str) -> None:
    """As the browser does when somebody pastes there."""
    window.page.evaluate(
        """([text, selector]) => {
          const target = document.querySelector(selector), data = new DataTransfer();
          data.setData("text/plain", text);
          const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
          if (target.dispatchEvent(paste) && target.matches("input")) document.execCommand("insertText", false, text);
        }""",
        [text, selector],
    )


@pytest.mark.parametrize(
    "as_pasted",
    ["{0} {1}", " {0}-{1} ", "{0}\u00a0{1}", "2026-11-23 10:15 {0} {1} is your Shop24 code"],
    ids=["space", "dash", "unbreakable space", "whole subject"],
)
def test_a_pasted_code_goes_on_by_itself(site, window, as_pasted):
    code = ask_for_the_code(site, window)
    paste(window, as_pasted.format(code[:3], code[3:]), "#OTP")
    window.arrive("/home")


def test_pasting_works_wherever_the_focus_is(site, window):
    code = ask_for_the_code(site, window)
    expect(window.page.locator("#OTP")).to_have_accessible_description("6 digits; you go on as soon as all are in.")
    window.page.locator("h1").click()
    paste(window, code, "body")
    window.arrive("/home")


def test_a_code_that_the_keyboard_fills_in_goes_on_by_itself(site, window):
    code = ask_for_the_code(site, window)
    window.page.locator("#OTP").evaluate(
        """(field, code) => {
          field.value = code;
          field.dispatchEvent(new InputEvent("input", { inputType: "insertReplacementText", bubbles: true }));
        }""",
        code,
    )
    window.arrive("/home")


def test_without_a_script_spaces_and_dashes_are_forgiven_too(site, open_window):
    window = open_window(NO_SCRIPT)
    code = ask_for_the_code(site, window)
    window.type_code(f" {code[:2]}-{code[2:4]} {code[4:]}").arrive("/home")


@on_a_phone
def test_a_wrong_code_says_how_many_tries_are_left_and_the_next_may_be_typed_at_once(site, window):
    code = ask_for_the_code(site, window)
    window.type_code(wrong(code)).see("#error-summary")
    assert "That code is not right. 4 tries are left." in window.text
    assert window.focus_is_on("error-summary")
    # Typing goes on to the field.
    window.page.keyboard.type(code)
    window.arrive("/home")


def test_reload_after_a_wrong_code_spends_no_guess(site, window):
    code = ask_for_the_code(site, window)
    window.type_code(wrong(code)).see("#error-summary")
    window.page.reload()
    window.type_code(wrong(code)).see("#error-summary")
    assert "3 tries are left" in window.text


@on_a_phone
def test_after_the_last_try_one_press_sends_a_new_code(serve, open_window, window):
    site = serve(MAGICAUTH_CODE_ATTEMPTS=1)
    window = open_window(window.kind, site)
    first = ask_for_the_code(site, window)
    window.type_code(wrong(first)).see("#error-summary")
    assert window.heading == "That code is no longer good"
    window.press("Send a new code").see("#OTP")
    wait_for(lambda: site.letter(EMAIL).code != first)
    window.type_code(site.letter(EMAIL).code).arrive("/home")


def test_sending_again_counts_down_and_sends_the_same_code(serve, open_window):
    site = serve(MAGICAUTH_RESEND_AFTER=2)
    window = open_window(site=site)
    code = ask_for_the_code(site, window)
    again = window.page.locator("[data-timed]")
    assert again.is_disabled()
    assert "Send it again in 0:0" in again.inner_text()
    window.press("Send it again").see("#OTP")
    wait_for(lambda: len([letter for letter in site.mailbox.all(EMAIL) if letter.code == code]) == 2)
    window.type_code(code).arrive("/home")


def test_when_no_more_codes_may_be_typed_the_link_still_works_and_the_page_says_so(serve, open_window):
    window = open_window(site=serve(MAGICAUTH_LIMIT_CODES_PER_ACCOUNT="1 per hour"))
    code = ask_for_the_code(window.site, window)
    window.type_code(wrong(code)).see("#error-summary").type_code(wrong(code)).see("#error-summary time")
    assert "The link in the email still works." in window.text
    window.go(window.site.letter(EMAIL).links[0]).arrive("/home")


def test_the_page_says_what_has_become_of_the_letter(serve, open_window):
    with closing(MailServer()) as mail_server:
        window = open_window(site=serve(MAIL_SERVER="127.0.0.1", MAIL_PORT=mail_server.port))
        window.go("/auth").fill(Email=EMAIL).press("Continue").arrive("/verify")
        assert "The email is on its way." in window.text
        mail_server.open()
        window.page.get_by_text("Good for 10 minutes.").wait_for(timeout=20_000)
