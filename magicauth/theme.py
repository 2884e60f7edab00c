"""What every template knows: the site's name and colour, languages, assets, what was typed and what was refused."""

import functools
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, request
from flask_babel import Babel, format_datetime, format_timedelta, get_locale

from magicauth.guards import chosen_language, notice, typed_before
from magicauth.languages import LANGUAGES, RIGHT_TO_LEFT
from magicauth.next_page import own_path
from magicauth.reader import read, typed
from magicauth.respond import go

LANGUAGE_COOKIE = "magicauth-language"
_LANGUAGE_LIFE = 365 * 86_400

bp = Blueprint("theme", __name__)


def init_app(app: Flask) -> None:
    """Gives the templates their globals and filters, and the app its languages."""
    Babel(app, locale_selector=select_language)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = False
    app.jinja_env.globals.update(
        asset=_asset,
        site_name=app.config["MAGICAUTH_SITE_NAME"],
        accent_url="/accent.css" if app.config["MAGICAUTH_ACCENT"] else None,
        passwords=app.config["MAGICAUTH_PASSWORDS"],
        sign_up=app.config["MAGICAUTH_SIGN_UP"],
        languages=LANGUAGES,
    )
    app.jinja_env.filters.update(datetime=_shown, ago=_ago)
    app.context_processor(_context)
    app.register_blueprint(bp)


@bp.get("/accent.css")
def accent() -> Response:
    """The accent colour, as the only rule of a stylesheet: the policy allows no styles in the page."""
    colour = current_app.config["MAGICAUTH_ACCENT"]
    return Response(f":root {{ --accent: {colour}; }}\n" if colour else "", mimetype="text/css")


@bp.post("/language")
def pick() -> Response:
    """Keeps the language for this browser, and goes back to the page where it was picked."""
    back = own_path(read("back"))
    path = back.partition("?")[0]
    response = go(back if back and current_app.url_map.bind("").test(path, "GET") else "/")
    if read("language") in dict(LANGUAGES):
        response.set_cookie(
            LANGUAGE_COOKIE,
            read("language"),
            max_age=_LANGUAGE_LIFE,
            httponly=True,
            secure=current_app.config["SESSION_COOKIE_SECURE"],
            samesite="Lax",
        )
    return response


def select_language() -> str:
    """The account's language, the one picked in this browser, or the best that `Accept-Language` asks for."""
    codes = [code for code, _ in LANGUAGES]
    if not request:
        return codes[0]
    picked = chosen_language() or request.cookies.get(LANGUAGE_COOKIE)
    return picked if picked in codes else request.accept_languages.best_match(codes, codes[0])


def _context() -> dict[str, Any]:
    language = str(get_locale() or "en")
    return {
        "lang": language,
        "dir": "rtl" if language in RIGHT_TO_LEFT else "ltr",
        "refusal": g.get("refusal"),
        "typed": typed() | typed_before() if request else {},
        "notice": notice() if request else None,
    }


@functools.cache
def _asset(name: str) -> str:
    content = (Path(__file__).parent / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


def _shown(moment: datetime) -> str:
    return f"{format_datetime(moment.astimezone(UTC), 'medium', rebase=False)} UTC"


def _ago(moment: datetime) -> str:
    return str(format_timedelta(moment - datetime.now(UTC), add_direction=True))
