"""Signing in and out, as people do it."""

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pages import EMAIL, PASSWORD

from browser.windows import Kind, for_both, on_a_phone

pytestmark = pytest.mark.browser
# What other tabs tell this one.
HEAR = "() => { new BroadcastChannel('magicauth').onmessage = ({ data }) => { window.heard = data; }; }"
REFUSED = "<title>503</title><main {}>Back in a moment</main><script src='/static/app.js' defer></script>"


@for_both
def test_password_then_code(site, window):
    site.with_account()
    window.go("/auth").fill(Email=EMAIL, Password=PASSWORD).press("Continue").arrive("/verify")
    assert window.heading == "Check your inbox"
    assert EMAIL in window.text
    assert window.focus_is_on("OTP")
    window.type_code(site.letter(EMAIL).code).arrive("/home")
    assert window.signed_in_as() == EMAIL


@on_a_phone
def test_code_then_password(site, window):
    site.with_account()
    window.go("/auth").fill(Email=EMAIL).press("Continue").arrive("/verify")
    window.type_code(site.letter(EMAIL).code).arrive("/auth/password")
    assert window.focus_is_on("password")
    window.fill(Password="not this one").press("Sign in").see("#error-summary")
    assert "Password is incorrect." in window.text
    window.fill(Password=PASSWORD).press("Sign in").arrive("/home")


def test_by_keyboard_alone(site, window):
    site.with_account()
    keyboard = window.go("/auth").page.keyboard
    assert window.focus_is_on("email")
    keyboard.type(EMAIL)
    keyboard.press("Tab")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    window.arrive("/verify")
    assert window.focus_is_on("OTP")
    keyboard.type(site.letter(EMAIL).code)
    window.arrive("/home")


@on_a_phone
def test_people_land_where_they_were_going(site, window):
    site.with_account()
    window.go("/account/sessions").arrive("/auth")
    window.fill(Email=EMAIL, Password=PASSWORD).press("Continue").arrive("/verify")
    window.type_code(site.letter(EMAIL).code).arrive("/account/sessions")


@on_a_phone
def test_a_wrong_password_says_so_and_keeps_the_address(site, window):
    site.with_account()
    window.go("/auth").fill(Email=EMAIL, Password="not this one").press("Continue").see("#error-summary")
    assert "Email or password is incorrect." in window.text
    assert window.field("Email").input_value() == EMAIL
    assert window.focus_is_on("error-summary")


@on_a_phone
def test_wrong_address_goes_back_with_what_was_typed(site, window):
    window.go("/auth").fill(Email="ada@exmaple.org").press("Continue").arrive("/verify")
    window.follow("Wrong address?").arrive("/auth")
    assert window.field("Email").input_value() == "ada@exmaple.org"


def test_the_typed_address_goes_along_to_signing_up_and_back(site, window):
    window.go("/auth").fill(Email=EMAIL).follow("Create an account").arrive("/users/magic_link")
    assert window.field("Email").input_value() == EMAIL
    window.fill(Email="grace@example.org").follow("Sign in").arrive("/auth")
    assert window.field("Email").input_value() == "grace@example.org"


def test_a_form_that_was_stopped_on_its_way_may_be_sent_with_something_else(site, window):
    window.go("/auth").fill(Email="ada@exmaple.org").page.route("**/auth", lambda route: None)
    window.page.locator("main form").evaluate("form => { form.requestSubmit(); setTimeout(stop, 50); }")
    window.see("form[data-sent]")
    window.page.unroute("**/auth")
    window.fill(Email=EMAIL).press("Continue").arrive("/verify")
    assert EMAIL in window.text


def test_who_signs_in_in_one_tab_is_not_asked_for_the_password_in_another(site, window):
    site.with_account()
    window.go("/auth").fill(Email=EMAIL).press("Continue").arrive("/verify")
    window.type_code(site.letter(EMAIL).code).arrive("/auth/password")
    window.tab().go("/auth/password").fill(Password=PASSWORD).press("Sign in").arrive("/home")
    window.arrive("/home")


def test_well_known_mail_domains_have_a_button_to_their_webmail(site, window):
    window.go("/auth").fill(Email="ada@gmail.com").press("Continue").arrive("/verify")
    button = window.link("Open Gmail")
    assert (button.get_attribute("href"), button.get_attribute("target")) == ("https://mail.google.com/", "_blank")


def test_who_is_signed_in_is_led_home_from_the_sign_in_page(site, window):
    window.become(site.with_account()).go("/auth").arrive("/home")


def test_keep_me_signed_in_outlives_the_browser(site, window):
    site.with_account()
    window.go("/auth").fill(Email=EMAIL, Password=PASSWORD)
    window.page.get_by_label("Keep me signed in").check()
    window.press("Continue").arrive("/verify").type_code(site.letter(EMAIL).code).arrive("/home")
    (session,) = [cookie for cookie in window.context.cookies() if cookie["name"] == "magicauth"]
    assert session["expires"] > time.time() + 86_400


@for_both
def test_after_signing_out_the_back_button_shows_nothing(site, window):
    window.become(site.with_account()).go("/home").go("/account")
    window.press("Sign out").arrive("/auth")
    assert "You are signed out." in window.text
    window.page.go_back()
    window.arrive("/auth")
    assert EMAIL not in window.page.content()


def test_signing_out_in_one_tab_empties_the_others(site, window):
    other = window.become(site.with_account()).go("/home").tab().go("/account/activity")
    window.press("Sign out").arrive("/auth")
    other.arrive("/auth")
    assert EMAIL not in other.page.content()


def test_a_tab_keeps_what_is_typed_while_another_says_who_one_is(serve, open_window):
    site = serve(MAGICAUTH_FRESH_FOR=1)
    window = open_window(site=site).become(site.with_account())
    window.go("/account/delete").page.wait_for_timeout(1100)
    other = window.tab().go("/account").fill(Name="Ada King")
    other.page.evaluate(HEAR)
    window.fill(Type_your_email_address_to_confirm=EMAIL).press("Delete my account").arrive("/auth/fresh")
    other.page.wait_for_function("window.heard === 'signed in'")
    assert other.field("Name").input_value() == "Ada King"


def test_a_browser_that_keeps_no_cookies_is_told_so_and_nothing_breaks(site, window):
    window.page.add_init_script("""
      Object.defineProperty(Navigator.prototype, "cookieEnabled", { get: () => false });
      Object.defineProperty(window, "sessionStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
    """)
    window.go("/auth").see("[role=status]:has-text('keeps no cookies')")
    window.go("/users/magic_link").fill(Email=EMAIL).press("Email me a link").arrive("/users/magic_link/sent")
    assert "If the address is right" in window.text


@pytest.mark.parametrize("mark", ["data-refused", "data-gone"])
def test_a_sign_out_that_is_refused_leaves_other_tabs_alone(site, window, mark):
    other, body = window.become(site.with_account()).tab().go("/account").fill(Name="Ada King"), REFUSED.format(mark)
    window.go("/home")
    window.page.route("**/logout", lambda route: route.fulfill(status=503, body=body, content_type="text/html"))
    other.page.evaluate(HEAR)
    window.press("Sign out").see(f"[{mark}]")
    window.page.unroute("**/logout")
    window.go("/home")
    other.page.wait_for_function("window.heard === 'signed in'")
    assert other.field("Name").input_value() == "Ada King"


def test_the_time_that_comes_with_the_news_of_a_letter_is_the_readers_own(open_window):
    window = open_window(Kind(zone="Asia/Tokyo"))
    looks = []

    def queued_at_first(route):
        answer = route.fetch()
        looks.append(answer)
        words = ('data-letter="sent"', 'data-letter="queued"') if len(looks) == 1 else ("Sent", "It went out")
        route.fulfill(response=answer, body=answer.text().replace(*words))

    window.go("/auth").fill(Email="nobody@example.org").press("Continue").arrive("/verify")
    window.site.mailbox.all()
    window.page.route("**/verify", queued_at_first)
    window.go("/verify")
    letter = window.page.locator("[data-letter]", has_text="It went out")
    at = datetime.fromisoformat(letter.locator("time").get_attribute("datetime")).astimezone(ZoneInfo("Asia/Tokyo"))
    assert letter.locator("time").inner_text().replace("\u202f", " ") == f"{at:%I:%M %p}".lstrip("0")


def test_show_and_hide_the_password(site, window):
    window.go("/auth").fill(Password="a secret")
    window.press("Show Password")
    assert window.page.locator("#password").get_attribute("type") == "text"
    window.press("Hide Password")
    assert window.page.locator("#password").get_attribute("type") == "password"


def test_caps_lock_is_told_of(site, window):
    window.go("/auth")
    window.page.locator("#password").evaluate(
        "field => field.dispatchEvent(new KeyboardEvent('keydown', { key: 'A', modifierCapsLock: true }))"
    )
    assert "Caps Lock is on" in window.text


def test_a_forgotten_password_is_replaced(site, window):
    site.with_account()
    window.go("/auth").fill(Email=EMAIL).follow("Forgot your password?").arrive("/auth/reset")
    assert window.field("Email").input_value() == EMAIL
    window.press("Email me a code").arrive("/verify")
    window.type_code(site.letter(EMAIL).code).arrive("/auth/reset/password")
    window.fill(New_password=PASSWORD + "!").press("Save new password").arrive("/home")
    assert "Your password is changed." in window.text


def test_too_many_letters_count_down_to_the_next(serve, open_window):
    window = open_window(site=serve(MAGICAUTH_LIMIT_MAILS_PER_IP="1 per 7 second"))
    window.go("/auth").fill(Email=EMAIL).press("Continue").arrive("/verify")
    window.go("/auth").fill(Email="grace@example.org").press("Continue").see("#error-summary time")
    assert "You can try again in 0:0" in window.text
    # Else it would be read out each second.
    assert window.page.locator("[role=alert]").count() == 1
    assert window.page.locator("[role=alert] time").count() == 0
    window.page.get_by_text("You can try again now.").wait_for()
    window.press("Continue").arrive("/verify")
