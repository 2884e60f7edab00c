"""The site's accent colour, and what goes with it so that all can read it, by contrast as WCAG 2.2 measures it."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

ACCENT = "#0f6b5c"
# The backgrounds of app.css that text and links stand on.
LIGHT = ("#f5f7f6", "#ffffff", "#f0f3f1")
DARK = ("#0e1312", "#161c1a", "#1e2623")
# WCAG 2.2, criterion 1.4.3: of text to what is behind it.
READABLE = 4.5

_BLACK, _WHITE = "#000000", "#ffffff"
_TINT_LIGHT, _TINT_DARK = 0.08, 0.26


class Colours(NamedTuple):
    """An accent, the text upon it, what is mixed into it under the pointer, and for light pages and dark ones links and
    the surfaces tinted with it."""

    accent: str
    on_accent: str
    hover: str
    light_link: str
    light_tint: str
    dark_link: str
    dark_tint: str


@functools.cache
def colours(accent: str) -> Colours:
    """What goes with `accent`, such as "#3b5bdb": links are the accent itself where that can be read, else it is made
    darker or lighter until it can."""
    hover, on_accent = sorted((_BLACK, _WHITE), key=lambda text: contrast(text, accent))
    light_tint, dark_tint = mixed(LIGHT[1], accent, _TINT_LIGHT), mixed(DARK[1], accent, _TINT_DARK)
    return Colours(
        accent=accent,
        on_accent=on_accent,
        hover=hover,
        light_link=_readable(accent, _BLACK, (*LIGHT, light_tint)),
        light_tint=light_tint,
        dark_link=_readable(accent, _WHITE, (*DARK, dark_tint)),
        dark_tint=dark_tint,
    )


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours, from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def mixed(colour: str, other: str, share: float) -> str:
    """`colour` with a share of `other`, from 0 to 1, in it."""
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(one + (two - one) * share):02x}" for one, two in pairs)


def _readable(colour: str, towards: str, backgrounds: Iterable[str]) -> str:
    steps = (mixed(colour, towards, step / 50) for step in range(51))
    return next(step for step in steps if all(contrast(step, behind) >= READABLE for behind in backgrounds))


def _luminance(colour: str) -> float:
    red, green, blue = (
        level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4
        for level in (channel / 255 for channel in _channels(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))
