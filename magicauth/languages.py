"""The languages of pages and letters: which there are, which one somebody reads, and their messages.

Messages are written in English where they are used, `_()` in templates and `N_()` in Python, and translated where they
are shown. JSON answers are not, for programs rely on their words; but for the one on the strength of a password, whose
words are only shown.
"""

import functools
import gettext
import re
from pathlib import Path
from typing import Any

from flask import Flask, current_app
from flask_babel import get_babel, get_locale
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

# Code and the language's own name. The first is the one that messages are written in.
LANGUAGES = [
    ("en", "English"),
    ("de", "Deutsch"),
    ("es", "Español"),
    ("fr", "Français"),
    ("ja", "日本語"),
    ("ar", "العربية"),
]
CODES = tuple(code for code, _ in LANGUAGES)
SOURCE = CODES[0]
RIGHT_TO_LEFT = ("ar",)

FOLDER = Path(__file__).parent / "translations"

# What people's browsers send is shorter; what is longer is not looked at further.
_ACCEPT_LENGTH = 200


@functools.lru_cache(maxsize=512)
def accepted(accept_language: str) -> str:
    """The language that an `Accept-Language` header likes best among ours: `de-AT` is content with German."""
    wanted = parse_accept_header(accept_language[:_ACCEPT_LENGTH], LanguageAccept)
    for tag, quality in sorted(wanted, key=lambda one: one[1], reverse=True):
        code = re.split("[-_]", tag.lower())[0]
        if quality > 0 and code in CODES:
            return code
        if quality > 0 and code == "*":
            break
    return SOURCE


@pass_context
def translate(context: Context, message: str, /, **values: Any) -> str:
    """A template's `_()`: the message in the language of its reader, with `%(name)s` filled in.

    In Flask-Babel's place, which asks for the reader's language anew at each message: a third of a page's time.
    """
    return _filled(context, _messages_of(context).gettext(message) if message else "", values)


@pass_context
def translate_plural(context: Context, singular: str, plural: str, number: int, /, **values: Any) -> str:
    """A template's `ngettext()`: with the plural form that the language has for `%(num)s`."""
    text = _messages_of(context).ngettext(singular, plural, number)
    return _filled(context, text, {"num": number, **values})


def in_words(message: str) -> str:
    """The message in the reader's language."""
    # To the empty message a catalogue's answer is its header.
    return _messages(current_app, None).gettext(message) if message else ""


def _filled(context: Context, text: str, values: dict[str, Any]) -> str:
    # Messages are ours; what is filled in is not.
    text = Markup(text) if context.eval_ctx.autoescape else text  # noqa: S704
    return text % values if values or "%" in text else text


def _messages_of(context: Context) -> gettext.NullTranslations:
    environment: Any = context.environment
    return _messages(environment.app, context["magicauth"].lang)


def _messages(app: Flask, language: str | None) -> gettext.NullTranslations:
    if language is None:
        locale = get_locale()
        language = locale.language if locale else SOURCE
    return _catalogue(language, *get_babel(app).translation_directories)


@functools.cache
def _catalogue(language: str, *folders: str) -> gettext.NullTranslations:
    """What a site's own catalogues say of a message, then what ours do."""
    # The source language has none, nor need it: its messages are their own translations.
    first, *others = (
        gettext.translation("messages", folder, [language], fallback=True)
        for folder in dict.fromkeys((*folders, str(FOLDER)))
    )
    for other in others:
        first.add_fallback(other)
    return first
