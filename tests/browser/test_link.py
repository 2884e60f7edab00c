"""The mailed link: in the browser that asked, in another, in two tabs, and when it is no longer good."""

import re

import pytest
from pages import EMAIL, PASSWORD

from browser.windows import Site, Window, for_both, on_a_phone

pytestmark = pytest.mark.browser


def ask_for_the_link(site: Site, window: Window) -> str:
    """As far as the waiting page; the link that arrived."""
    site.with_account()
    window.ask_to_sign_in().go("/verify")
    return site.letter(EMAIL).links[0]


@for_both
def test_in_the_browser_that_asked_it_goes_on_by_itself_or_by_one_press(site, window):
    window.go(ask_for_the_link(site, window))
    if not window.kind.javascript:
        window.press("Continue")
    window.arrive("/home")
    assert window.signed_in_as() == EMAIL


@on_a_phone
def test_in_another_browser_it_asks_for_the_address_and_signs_in_there(site, window, open_window):
    link = ask_for_the_link(site, window)
    other = open_window(window.kind).go(link)
    assert "To continue here, type the address that the email came to." in other.text
    assert re.search(r"Chrome on \w+", other.text)
    assert other.focus_is_on("email")
    other.fill(Email="eve@example.org").press("Continue").see("#error-summary")
    assert "This is not the address the email went to." in other.text
    other.fill(Email=EMAIL).press("Continue").arrive("/auth/password")
    other.fill(Password=PASSWORD).press("Sign in").arrive("/home")
    assert other.signed_in_as() == EMAIL
    assert window.signed_in_as() is None


def test_a_scanner_that_opens_it_and_runs_its_script_spends_nothing(site, window, open_window):
    link = ask_for_the_link(site, window)
    for _ in range(3):
        open_window().go(link).see("#email")
    window.go(link).arrive("/home")


def test_the_tab_that_waits_goes_on_when_another_has_signed_in(site, window):
    site.with_account()
    window.go("/account/activity").arrive("/auth")
    window.fill(Email=EMAIL, Password=PASSWORD).press("Continue").arrive("/verify")
    tab = window.tab().go(site.letter(EMAIL).links[0])
    tab.arrive("/account/activity")
    window.arrive("/account/activity")


def test_the_tab_that_waits_for_a_sign_up_goes_on_too(site, window):
    window.go("/users/magic_link").fill(Email=EMAIL).press("Email me a link").arrive("/users/magic_link/sent")
    tab = window.tab().go(site.letter(EMAIL).links[0])
    tab.fill(Name="Ada", Password=PASSWORD).press("Create account").arrive("/home")
    window.arrive("/home")


def test_another_browser_that_waits_does_not(site, window, open_window):
    link = ask_for_the_link(site, window)
    other = open_window()
    other.go("/auth").fill(Email=EMAIL, Password=PASSWORD).press("Continue").arrive("/verify")
    window.go(link).arrive("/home")
    assert other.path == "/verify"
    assert other.signed_in_as() is None


@on_a_phone
def test_for_another_account_than_the_one_signed_in_it_offers_the_choice(site, window, open_window):
    link = ask_for_the_link(site, window)
    member = open_window(window.kind).become(site.with_account("grace@example.org", name="Grace Hopper")).go(link)
    assert "This browser is signed in as grace@example.org." in member.text
    member.follow("Stay signed in as grace@example.org").arrive("/home")
    assert member.signed_in_as() == "grace@example.org"
    member.go(link).fill(Email=EMAIL).press("Continue").arrive("/auth/password")
    member.fill(Password=PASSWORD).press("Sign in").arrive("/home")
    assert member.signed_in_as() == EMAIL


@on_a_phone
def test_a_used_one_tells_its_owner_who_is_signed_in_and_others_get_a_new_letter(site, window, open_window):
    link = ask_for_the_link(site, window)
    window.go("/verify").type_code(site.letter(EMAIL).code).arrive("/home")
    window.go(link)
    assert f"has expired, or was cut off on its way. You are signed in as {EMAIL}." in window.text
    window.follow("Continue").arrive("/home")
    other = open_window(window.kind).go(link)
    assert other.heading == "This link is no longer good"
    other.fill(Email=EMAIL).press("Send a new link").arrive("/verify")
    assert site.letter(EMAIL).links[0] != link


def test_one_that_has_expired_or_was_cut_off_offers_a_new_letter(serve, open_window):
    site = serve(MAGICAUTH_SIGN_IN_TTL=1)
    window = open_window(site=site)
    link = ask_for_the_link(site, window)
    other = open_window(site=site).go(link[:-5])
    assert other.heading == "This link is no longer good"
    window.page.wait_for_timeout(1100)
    assert window.go(link).heading == "This link is no longer good"
    assert open_window(site=site).go("/auth/link").heading == "Part of the link is missing"


def test_its_token_leaves_the_address_bar_and_reload_still_finds_it(site, window, open_window):
    link = ask_for_the_link(site, window)
    other = open_window().go(link)
    assert other.path == "/auth/link"
    other.page.reload()
    other.fill(Email="eve@example.org").press("Continue").see("#error-summary")
    other.page.reload()
    other.see("#email")
    assert other.path == "/auth/link"
    assert other.page.locator("#error-summary").count() == 0
