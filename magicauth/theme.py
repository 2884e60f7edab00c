"""What every template knows: the site's name and colour, languages, assets, what was typed and what was refused."""

import copy
import functools
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from babel import Locale
from babel.dates import format_date, format_time, get_datetime_format
from flask import Blueprint, Flask, Response, after_this_request, current_app, g, request
from flask_babel import Babel, format_timedelta, get_locale

from magicauth import audit, cookies, guards
from magicauth.colours import colours
from magicauth.errors import N_, Refused
from magicauth.extensions import db
from magicauth.guards import chosen_language, current_user
from magicauth.languages import (
    CODES,
    LANGUAGES,
    RIGHT_TO_LEFT,
    SOURCE,
    accepted,
    in_words,
    translate,
    translate_plural,
)
from magicauth.models import Action
from magicauth.next_page import asked_for, own_path, path_of
from magicauth.notices import flashes, notice
from magicauth.reader import is_shown_for, read, typed
from magicauth.respond import go
from magicauth.static_files import ASSET_LIFE
from magicauth.visitor import visitor
from magicauth.wanted import typed_before

_LANGUAGE_COOKIE = "magicauth-language"
_LANGUAGE_LIFE = 365 * 86_400
_ACCENT_CSS = """\
:root {{
  --accent: {0.accent};
  --on-accent: {0.on_accent};
  --hover: {0.hover};
  --link: {0.light_link};
  --good-surface: {0.light_tint};
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --link: {0.dark_link};
    --good-surface: {0.dark_tint};
  }}
}}
"""

bp = Blueprint("theme", __name__)


def init_app(app: Flask) -> None:
    """Gives the templates what they know, and the app its languages."""
    Babel(app, locale_selector=_select_language)
    app.jinja_env.globals.update(_=translate, gettext=translate, ngettext=translate_plural, magicauth=Ours(app))
    app.context_processor(_context)
    app.register_blueprint(bp)


@bp.get("/accent.css")
def accent() -> Response:
    """The accent colour and what goes with it, as a stylesheet: the policy allows no styles in the page."""
    response = Response(_accent_css(current_app.config["MAGICAUTH_ACCENT"]), mimetype="text/css")
    ours: Any = current_app.jinja_env.globals["magicauth"]
    # While a new accent is rolled out, an address of the new one must not be kept with what an old process says.
    if request.full_path == ours.accent_url:
        response.cache_control.public, response.cache_control.max_age = True, ASSET_LIFE
    return response


@bp.post("/language")
def pick() -> Response:
    """Keeps the language for this browser, and for an account that has chosen one, and goes back."""
    back = own_path(read("back"))
    response = go(back if back and current_app.url_map.bind("").test(path_of(back), "GET") else "/")
    language = read("language")
    if language in CODES:
        _choose_for_account(language)
        cookies.give(response, _LANGUAGE_COOKIE, language, _LANGUAGE_LIFE)
    return response


def _accent_css(colour: str | None) -> str:
    return _ACCENT_CSS.format(colours(colour)) if colour else ""


def _vary(response: Response) -> Response:
    response.vary.add("Accept-Language")
    return response


def _select_language() -> str:
    """The account's language, the one picked in this browser, or the best that `Accept-Language` asks for."""
    if not request:
        return SOURCE
    for picked in (chosen_language(), request.cookies.get(_LANGUAGE_COOKIE)):
        if picked in CODES:
            return picked
    after_this_request(_vary)
    return accepted(request.headers.get("Accept-Language", ""))


def _choose_for_account(language: str) -> None:
    # The account's own choice goes before the browser's: left as it is, it would undo what was picked.
    if current_user and current_user.language and is_shown_for(current_user.id.hex):
        row = current_user.row
        row.language = language
        if db.session.is_modified(row):
            audit.commit(Action.PROFILE_CHANGED, visitor(), row)
        guards.refresh_facts(row)


def _context() -> dict[str, Any]:
    templates: Any = current_app.jinja_env
    ours: Ours = templates.globals["magicauth"].speaking(str(get_locale() or SOURCE))
    if not request:
        return {"current_user": None, "magicauth": ours}
    ours.refusal, ours.typed = g.get("_magicauth_refusal"), typed() | typed_before()
    return {"current_user": guards.known_user(), "magicauth": ours}


@functools.cache
def _asset(name: str) -> str:
    content = (Path(__file__).parent / "static" / name).read_bytes()
    return _versioned(f"/static/{name}", content)


def _versioned(path: str, content: bytes) -> str:
    return f"{path}?v={hashlib.sha256(content).hexdigest()[:12]}"


def _query(**values: str | None) -> str:
    """`?name=value…` of those that have one, or nothing."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""


def _shown(moment: datetime) -> str:
    return _day_and_time(_minute(moment), get_locale())


def _clock(moment: datetime) -> str:
    return _time(_minute(moment), get_locale())


def _minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


# Moments recur, on a page and from page to page, and take longer to write than the rest of a line.
@functools.lru_cache(maxsize=1024)
def _day_and_time(moment: datetime, locale: Locale | None) -> str:
    """As the language writes them, without the seconds that its own pattern has."""
    pattern = str(get_datetime_format("medium", locale=locale)).replace("'", "")
    return pattern.format(_time(moment, locale), format_date(moment, "medium", locale=locale))


@functools.lru_cache(maxsize=1024)
def _time(moment: datetime, locale: Locale | None) -> str:
    return f"{format_time(moment, 'short', locale=locale)} UTC"


def _ago(moment: datetime) -> str:
    return str(format_timedelta(moment - datetime.now(UTC), add_direction=True))


def _browser(summary: str) -> str:
    """ "Firefox on Linux", as `visitor.summary` wrote it, in the reader's language; "" if it is not known."""
    name, on, system = summary.partition(" on ")
    return in_words(N_("%(browser)s on %(system)s")) % {"browser": name, "system": system} if on else in_words(summary)


class Ours:
    """What our templates know beside `current_user`, all of it under the name `magicauth`: no filter, function or
    variable of a site's own stands in its place. `lang` is None where the template does not say who reads it."""

    languages = LANGUAGES
    lang: str | None = None
    refusal: Refused | None = None
    typed: Mapping[str, str] = MappingProxyType({})

    def __init__(self, app: Flask) -> None:
        self.site_name = app.config["MAGICAUTH_SITE_NAME"]
        css = _accent_css(app.config["MAGICAUTH_ACCENT"])
        self.accent_url = _versioned("/accent.css", css.encode()) if css else None
        self.passwords = app.config["MAGICAUTH_PASSWORDS"]
        self.sign_up = app.config["MAGICAUTH_SIGN_UP"]

    asset = staticmethod(_asset)
    query = staticmethod(_query)
    notice = staticmethod(notice)
    flashes = staticmethod(flashes)
    here = staticmethod(asked_for)
    datetime = staticmethod(_shown)
    clock = staticmethod(_clock)
    ago = staticmethod(_ago)
    browser = staticmethod(_browser)

    @property
    def dir(self) -> str:
        """The direction of reading, as HTML names it."""
        return "rtl" if self.lang in RIGHT_TO_LEFT else "ltr"

    def speaking(self, language: str) -> "Ours":
        """The same, for a reader of that language."""
        ours = copy.copy(self)
        ours.lang = language
        return ours
