"""Every page and letter, looked at by machine: accessible, nothing cut off, nothing that moves; the first one light."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import wait_for
from pages import EMAIL, PASSWORD
from playwright.sync_api import Page

from browser import gallery
from browser.windows import DESKTOP, PHONE, Kind, Window

pytestmark = pytest.mark.browser

# A letter is no page: it has no landmarks.
_LETTERS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_PAGES = [*_LETTERS, "best-practice"]
_COLOURS = ["color-contrast"]
_AXE = Axe().axe_script
_RUN_AXE = """rules => axe.run({ runOnly: rules, resultTypes: ['violations'], iframes: false })
  .then(results => results.violations)"""

SIGN_IN_PAGE_BYTES = 20_000
LARGEST_PAINT_MS = 200


@pytest.mark.parametrize("wing", gallery.WINGS, ids=lambda wing: wing.__name__)
def test_every_page_is_accessible_in_both_schemes_and_fits_a_narrow_screen(serve, open_window, wing):
    problems = []
    for name, window in wing(serve, open_window):
        problems += found(window, name) if not name.startswith("letter") else found_in_letter(window, name)
        window.page.set_viewport_size({"width": 320, "height": 640})
        problems += [f"{name} is wider than 320 px"] if is_cut_off(window) else []
        window.page.set_viewport_size(DESKTOP.options["viewport"])
    assert problems == []


@pytest.mark.parametrize("accent", ["#ffd43b", "#ffffff", "#14213d"])
def test_whatever_the_sites_accent_everything_can_be_read(serve, open_window, accent):
    site = serve(MAGICAUTH_ACCENT=accent)
    window = open_window(site=site)
    problems = found(window.go("/auth/reset"), "stranger", _COLOURS)
    window.become(site.with_account())
    for path in ("/home", "/account/sessions"):
        problems += found(window.go(path), path, _COLOURS)
    site.app.test_client().post("/users/magic_link", data={"email": "grace@example.org"})
    problems += found_in_letter(gallery.show_newest_letter(site, window), "letter")
    assert problems == []


@pytest.mark.parametrize(("language", "direction"), [("de-AT", "ltr"), ("ar-EG", "rtl")])
def test_a_journey_in_another_language_reads_its_way_and_fits_a_narrow_screen(site, open_window, language, direction):
    window = open_window(Kind(phone=True, language=language))
    window.page.set_viewport_size({"width": 320, "height": 640})
    submit = "main form .button"

    def look(path: str) -> None:
        window.arrive(path)
        html = window.page.locator("html")
        assert (html.get_attribute("lang"), html.get_attribute("dir")) == (language[:2], direction)
        assert not is_cut_off(window)

    window.go("/users/magic_link")
    look("/users/magic_link")
    window.page.fill("#email", EMAIL)
    window.page.click(submit)
    look("/users/magic_link/sent")
    window.go(site.letter(EMAIL).links[0])
    look("/users/signup")
    window.page.fill("#name", "Ada Lovelace")
    window.page.fill("#password", PASSWORD)
    # Shown, it is read as it was typed.
    assert window.page.locator("#password").evaluate("field => getComputedStyle(field).direction") == "ltr"
    window.page.click(submit)
    look("/home")
    for path in ("/account", "/account/sessions", "/account/activity", "/account/email", "/account/delete"):
        window.go(path)
        look(path)
    window.page.click("form[action='/logout'] button")
    look("/auth")
    window.page.fill("#email", EMAIL)
    window.page.click(submit)
    look("/verify")
    wait_for(lambda: site.letter(EMAIL).code)
    window.page.fill("#OTP", site.letter(EMAIL).code)
    look("/auth/password")
    window.page.fill("#password", PASSWORD)
    window.page.click(submit)
    look("/home")


def test_the_sign_in_page_is_light_and_painted_at_once(site, open_window):
    window = open_window()
    network = window.context.new_cdp_session(window.page)
    network.send("Network.enable")
    transferred: list[float] = []
    network.on("Network.loadingFinished", lambda event: transferred.append(event["encodedDataLength"]))
    window.go("/auth").page.wait_for_load_state("networkidle")
    assert len(transferred) >= 4
    assert sum(transferred) < SIGN_IN_PAGE_BYTES
    # The best of some, since other tests run beside this one.
    assert min(largest_paint(window.go("/auth")) for _ in range(5)) < LARGEST_PAINT_MS


@pytest.mark.parametrize("window", [PHONE], indirect=True, ids=str)
def test_what_a_finger_presses_is_large_enough(site, window):
    window.become(site.with_account())
    for path in ("/home", "/account", "/account/sessions", "/account/password"):
        small = window.go(path).page.locator(
            "button:visible, a.button:visible, input:visible, select:visible, nav a:visible"
        )
        assert [
            box for box in small.evaluate_all("all => all.map(one => one.getBoundingClientRect().height)") if box < 44
        ] == []


def found(window: Window, name: str, rules: list[str] = _PAGES, page: Page | None = None) -> list[str]:
    """What axe finds wrong, in both colour schemes."""
    page = page or window.page
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    problems = []
    for scheme, options in (("light", rules), ("dark", _COLOURS)):
        page.emulate_media(color_scheme=scheme)
        violations = page.evaluate(_RUN_AXE, options)
        problems += [
            f"{name}, {scheme}: {violation['id']} at {[node['target'] for node in violation['nodes']]}"
            for violation in violations
        ]
    return problems


def found_in_letter(window: Window, name: str) -> list[str]:
    """What axe finds wrong in a letter: in its sandbox nothing runs, so not axe either, and another page shows it."""
    other = next((page for page in window.context.pages if page is not window.page), None)
    page = other or window.context.new_page()
    page.set_content(window.page.content())
    return found(window, name, _LETTERS, page)


def is_cut_off(window: Window) -> bool:
    """Whether the page must be scrolled sideways."""
    return bool(window.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def largest_paint(window: Window) -> float:
    """Milliseconds from the start of the navigation."""
    return float(
        window.page.evaluate(
            """() => new Promise((resolve) => {
              const note = (list) => resolve(list.getEntries().at(-1).startTime);
              new PerformanceObserver(note).observe({ type: "largest-contentful-paint", buffered: true });
            })"""
        )
    )
