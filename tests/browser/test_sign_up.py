"""Signing up, as a newcomer sees it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import wait_for
from pages import EMAIL, PASSWORD, Letter
from playwright.sync_api import Locator, expect

from browser.windows import DESKTOP, NO_SCRIPT, PHONE, Site, Window, for_both
from magicauth.languages import CODES

pytestmark = pytest.mark.browser


def ask_for_the_link(site: Site, window: Window) -> Letter:
    """From the first page to the letter."""
    window.go("/").arrive("/auth").follow("Create an account").fill(Email=EMAIL).press("Email me a link")
    window.arrive("/users/magic_link/sent")
    return site.letter(EMAIL)


def open_the_form(site: Site, window: Window) -> Locator:
    """The form for the rest, its clock in the test's hand; returns what stands below the password."""
    site.app.test_client().post("/users/magic_link", data={"email": EMAIL})
    window.page.clock.install()
    window.go(site.letter(EMAIL).link)
    # Or a busy machine would rest between two keys for so long that the page asks.
    window.page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    return window.page.locator("#password-hint")


@for_both
def test_a_newcomer_signs_up_by_the_mailed_link_and_is_in(site, window):
    letter = ask_for_the_link(site, window)
    assert window.heading == "Check your inbox"
    window.go(letter.links[0])
    assert window.field("Email").get_attribute("readonly") is not None
    assert window.field("Email").input_value() == EMAIL
    assert window.focus_is_on("name")
    window.fill(Name="Ada Lovelace", Password=PASSWORD).press("Create account").arrive("/home")
    assert window.heading == "Hello, Ada Lovelace"
    assert window.signed_in_as() == EMAIL


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (DESKTOP, f"We emailed a link to {EMAIL}."),
        (NO_SCRIPT, "If the address is right, an email with a link is on its way."),
    ],
    indirect=["window"],
    ids=["script", "no script"],
)
def test_the_waiting_page_says_where_the_letter_went_to_the_browser_that_knows(site, window, words):
    ask_for_the_link(site, window)
    assert words in window.text
    if window.kind.javascript:
        window.press("Send it again").see("[role=status]:has-text('Sent once more.')")
        wait_for(lambda: len(site.mailbox.all(EMAIL)) == 2)
        window.follow("Try another address").arrive("/users/magic_link")
        assert window.field("Email").input_value() == EMAIL


@for_both
def test_a_weak_password_keeps_the_rest_and_the_summary_leads_to_its_field(site, window):
    window.go(ask_for_the_link(site, window).links[0])
    window.fill(Name="Ada", Password="lovelace").press("Create account").see("#error-summary")
    assert window.field("Name").input_value() == "Ada"
    assert window.field("Password").get_attribute("aria-invalid") == "true"
    assert window.focus_is_on("error-summary" if window.kind.javascript else "password")
    window.page.locator("#error-summary a").click()
    window.page.wait_for_function("document.activeElement.id === 'password'")
    window.fill(Password=PASSWORD).press("Create account").arrive("/home")


def test_what_was_refused_is_red_no_longer_once_it_is_typed_anew_and_nothing_moves(site, window):
    window.go(ask_for_the_link(site, window).links[0])
    phone = window.page.locator("#phone")
    phone.fill("x")
    window.fill(Name="Ada", Password="lovelace").press("Create account").see("#error-summary")
    button = window.page.locator("main .button")
    place, summary = button.bounding_box(), window.page.locator(".summary")

    def told() -> list[str]:
        return [words for words in summary.locator("a").all_inner_texts() if words]

    assert len(told()) == 2
    window.field("Password").press_sequentially("c")
    assert len(told()) == 1 and summary.is_visible()
    assert window.field("Password").get_attribute("aria-invalid") is None
    expect(window.field("Password")).to_have_accessible_description(window.page.locator("#password-hint").inner_text())
    assert window.page.locator(".error:visible").count() == 1
    phone.press_sequentially("0")
    expect(summary).to_be_hidden()
    assert window.page.locator(".error:visible, [aria-invalid]").count() == 0
    assert button.bounding_box() == place


def test_a_password_is_told_how_strong_it_is_while_it_is_typed(site, window):
    hint, asked = open_the_form(site, window), []
    advice = hint.inner_text()
    window.page.on("request", lambda request: asked.append(request.post_data_json["password"]))

    def colour() -> str:
        return str(hint.evaluate("hint => getComputedStyle(hint).color"))

    def typing(text: str, words: str) -> None:
        window.fill(Password=text)
        window.page.clock.run_for(300)
        expect(hint).to_have_text(words)

    assert hint.get_attribute("role") == "status"
    calm = colour()
    typing("short", "A little longer: at least 8 characters.")
    assert colour() == calm
    typing("password1", "This password is too easy to guess. Longer, or with an unusual word, is better.")
    assert colour() != calm
    typing("", advice)
    assert colour() == calm
    window.field("Password").press_sequentially(PASSWORD)
    typing(PASSWORD, "Very strong.")
    # Nothing has changed when it comes to rest.
    window.fill(Password=f"{PASSWORD}!")
    typing(PASSWORD, "Very strong.")
    assert asked == ["password1", PASSWORD]


def test_what_cannot_be_asked_leaves_the_advice(site, window):
    hint = open_the_form(site, window)
    advice = hint.inner_text()
    window.fill(Password="short")
    window.context.set_offline(True)
    window.fill(Password=PASSWORD)
    window.page.clock.run_for(300)
    expect(hint).to_have_text(advice)
    window.context.set_offline(False)
    window.faults.clear()  # What the network said.


def test_however_much_there_is_to_say_of_a_password_nothing_moves(site, open_window):
    window = open_window(PHONE)

    def places() -> list[Any]:
        found = []
        for width in (320, 375):
            window.page.set_viewport_size({"width": width, "height": 780})
            found.append(window.page.locator("main .button").bounding_box())
        return found

    for language in CODES:
        window.context.add_cookies([{"name": "magicauth-language", "value": language, "url": site.url}])
        hint = open_the_form(site, window)
        before = places()
        for typed in ("short", "password1", "dragon lake", "12.03.1987 xi", PASSWORD):
            said = hint.inner_text()
            window.page.locator("#password").fill(typed)
            window.page.clock.run_for(300)
            expect(hint).not_to_have_text(said)
            assert places() == before, hint.inner_text()


def test_without_a_script_the_advice_stands_as_it_is(site, open_window):
    window = open_window(NO_SCRIPT)
    hint = open_the_form(site, window)
    window.fill(Password="password1")
    assert hint.inner_text().startswith("At least 8 characters.")


def test_the_token_leaves_the_address_bar_and_reload_still_finds_the_page(site, window):
    window.go(ask_for_the_link(site, window).links[0])
    assert window.path == "/users/signup"
    window.page.reload()
    window.page.wait_for_selector("#name")
    window.fill(Name="Ada", Password="lovelace").press("Create account").see("#error-summary")
    window.page.reload()
    window.see("#name")
    assert window.path == "/users/signup"
    window.fill(Name="Ada", Password=PASSWORD).press("Create account").arrive("/home")


@for_both
def test_a_used_link_offers_a_new_letter_in_one_press(site, window, open_window):
    letter = ask_for_the_link(site, window)
    window.go(letter.links[0]).fill(Name="Ada", Password=PASSWORD).press("Create account").arrive("/home")
    window.go(letter.links[0])
    assert f"You are signed in as {EMAIL}" in window.text
    window.follow("Continue").arrive("/home")
    stranger = open_window(window.kind).go("/users/magic_link").fill(Email="old@example.org").press("Email me a link")
    stranger.arrive("/users/magic_link/sent").go(letter.links[0])
    assert stranger.heading == "This link is no longer good"
    stranger.fill(Email=EMAIL).press("Send a new link").arrive("/users/magic_link/sent")
    assert "old@example.org" not in stranger.text
    assert "already have an account" in site.letter(EMAIL).subject
