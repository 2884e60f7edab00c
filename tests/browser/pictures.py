"""`make pictures`: every page and letter in light, dark and on a phone, into `docs/pictures/`.

Pytest collects this file only when it is named: `python -m pytest -n 0 tests/browser/pictures.py`.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from conftest import wait_for
from pages import EMAIL
from PIL import Image

from browser import gallery
from browser.windows import Kind, OpenWindow, Site, Window

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
# Pixels of ours for one of the page's: large enough to read, small enough to keep.
_DESKTOP, _PHONE = Kind(scale=0.75), Kind(phone=True, scale=0.75)
_VIEW = {_DESKTOP: {"width": 960, "height": 640}, _PHONE: {"width": 375, "height": 640}}
# The README shows two, and sharp.
_COVER = Kind(scale=2)
_COVER_VIEW = {"width": 640, "height": 736}
# The colours that a picture has most of are kept as they are; these many stand for all the others.
_EXACT, _OTHERS = 32, 8
# States of pages that differ from another one by little.
_SKIPPED = {
    "account_moved",
    "account_password_refused",
    "account_saved",
    "error_405",
    "error_413",
    "link_wrong_address",
    "password_wrong",
    "sign_up_weak_password",
    "verify_change_email",
}


@pytest.mark.parametrize("wing", gallery.WINGS, ids=lambda wing: wing.__name__)
@pytest.mark.parametrize("kind", [_DESKTOP, _PHONE], ids=["desktop", "phone"])
def test_take_pictures(serve: Callable[..., Site], open_window: OpenWindow, wing: gallery.Wing, kind: Kind) -> None:
    for name, window in wing(serve, partial(open_window, kind)):
        if name in _SKIPPED:
            continue
        window.page.set_viewport_size(_VIEW[kind])
        if kind.phone:
            _take(window, f"{name}-phone")
        else:
            _take_in_both_schemes(window, name)


def test_take_the_pictures_of_the_readme(serve: Callable[..., Site], open_window: OpenWindow) -> None:
    window = open_window(_COVER, serve())
    window.page.set_viewport_size(_COVER_VIEW)
    _take_in_both_schemes(window.go("/auth"), "readme-sign_in")
    window.site.with_account()
    public = serve(PUBLIC_URL="https://id.example.org").app
    somebody = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile Safari/604.1"}
    address = {"REMOTE_ADDR": "203.0.113.7"}
    url = public.config["PUBLIC_URL"]
    public.test_client().post("/auth", data={"email": EMAIL}, base_url=url, headers=somebody, environ_overrides=address)
    mailbox = public.extensions["magicauth-mailbox"]
    wait_for(mailbox.all)
    letter = window.tab()
    letter.page.set_viewport_size(_COVER_VIEW)
    letter.page.set_content(mailbox.all()[0].html)
    _take_in_both_schemes(letter, "readme-letter")


def test_list_the_pictures() -> None:
    names = sorted({path.stem.rpartition("-")[0] for path in FOLDER.glob("*-phone.png")})
    lines = [
        "# Every page and letter",
        "",
        "`make pictures` takes them anew.",
        "",
        "| | light | dark | phone |",
        "|---|---|---|---|",
    ]
    for name in names:
        cells = (f'<img src="{name}-{form}.png" alt="" width="280">' for form in ("light", "dark", "phone"))
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n")


def _take_in_both_schemes(window: Window, name: str) -> None:
    for scheme in ("light", "dark"):
        window.page.emulate_media(color_scheme=scheme)
        _take(window, f"{name}-{scheme}")
    window.page.emulate_media(color_scheme="light")


def _take(window: Window, name: str) -> None:
    """Keeps what the window shows: the whole page, but of the mailbox, which is long, what is seen first."""
    # A development's own footer is no part of what people see.
    window.page.evaluate("document.querySelector('footer .mailbox')?.remove()")
    shot = window.page.screenshot(full_page=not name.startswith("mailbox"), animations="disabled", caret="hide")
    window.faults.clear()  # What moved into that place; the tests look for faults.
    FOLDER.mkdir(parents=True, exist_ok=True)
    _with_few_colours(Image.open(io.BytesIO(shot)).convert("RGB")).save(FOLDER / f"{name}.png", optimize=True)


def _with_few_colours(picture: Image.Image) -> Image.Image:
    colours = [colour for _, colour in sorted(picture.getcolors(picture.width * picture.height), reverse=True)]
    palette = colours[:_EXACT]
    if others := colours[_EXACT:]:
        line = Image.frombytes("RGB", (len(others), 1), bytes(value for colour in others for value in colour))
        palette += _in_threes(line.quantize(_OTHERS, Image.Quantize.MAXCOVERAGE).getpalette())[:_OTHERS]
    nearest = {
        colour: min(range(len(palette)), key=lambda index: math.dist(colour, palette[index])) for colour in colours
    }
    pixels = bytes(nearest[colour] for colour in _in_threes(picture.tobytes()))
    small = Image.frombytes("P", picture.size, pixels)
    small.putpalette([value for colour in palette for value in colour])
    return small


def _in_threes(values: Sequence[int]) -> list[tuple[int, ...]]:
    return list(zip(values[::3], values[1::3], values[2::3], strict=True))
