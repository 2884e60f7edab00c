"""`make pictures`: every page and letter in light, dark and on a phone, into `docs/pictures/`.

Pytest collects this file only when it is named: `python -m pytest -n 0 tests/browser/pictures.py`.
"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pages import EMAIL, PASSWORD
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
_COVER_VIEW = {"width": 640, "height": 640}
# The colours that a picture has most of are kept as they are; these many stand for all the others.
_EXACT, _OTHERS = 24, 8
# States of pages that differ from another one by little.
_SKIPPED = {"account_saved", "account_moved", "sign_up_weak_password", "password_wrong", "verify_change_email"}


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


def test_take_the_pictures_of_the_readme(site: Site, open_window: OpenWindow) -> None:
    site.with_account()
    window = open_window(_COVER)
    window.page.set_viewport_size(_COVER_VIEW)
    _take_in_both_schemes(window.go("/auth"), "readme-sign_in")
    window.fill(Email=EMAIL, Password=PASSWORD).press("Continue").arrive("/verify")
    gallery.show_newest_letter(site, window)
    _take_in_both_schemes(window, "readme-letter")


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
    FOLDER.mkdir(parents=True, exist_ok=True)
    _with_few_colours(Image.open(io.BytesIO(shot)).convert("RGB")).save(FOLDER / f"{name}.png", optimize=True)


def _with_few_colours(picture: Image.Image) -> Image.Image:
    colours = [colour for _, colour in sorted(picture.getcolors(picture.width * picture.height), reverse=True)]
    exact, others = colours[:_EXACT], colours[_EXACT:]
    palette = [value for colour in exact for value in colour]
    if others:
        line = Image.new("RGB", (len(others), 1))
        line.putdata(others)
        palette += line.quantize(_OTHERS, Image.Quantize.MAXCOVERAGE).getpalette()[: 3 * _OTHERS]
    frame = Image.new("P", (1, 1))
    frame.putpalette(palette)
    return picture.quantize(palette=frame, dither=Image.Dither.NONE)
