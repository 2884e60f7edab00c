"""The one reader of what people and programs send: forms and JSON, each field a string, given once."""

import contextlib
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote_to_bytes

from flask import Flask, current_app, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import FormDataParser

from magicauth.errors import N_, Invalid, TooLarge, UnsupportedMediaType

_BODY_BYTES = 64 * 1024
_DISCARDED_MOST = 1024 * 1024
_PARTS_MOST = 100
# Flask's default, for views that read their body themselves.
_PARTS_OF_VIEW = 1000
# What a form sends for a box that is ticked.
TICKS = ("on", "1", "true")
_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"

View = TypeVar("View", bound=Callable[..., Any])


def init_app(app: Flask) -> None:
    """Reads every body once, before any view: what cannot be read is refused the same way everywhere."""
    # One more than may come: Werkzeug cuts what comes without a length to this size, and says nothing.
    app.config["MAX_CONTENT_LENGTH"] = _BODY_BYTES + 1
    app.config["MAX_FORM_MEMORY_SIZE"] = _BODY_BYTES
    app.config["MAX_FORM_PARTS"] = _PARTS_MOST
    app.before_request(read_body)


def own_body(max_content_length: int) -> Callable[[View], View]:
    """For a view of a site's own that reads its body itself, from Flask's `request`: uploads, lists, whatever a webhook
    sends; of so many bytes at most (413)."""

    def decorate(view: View) -> View:
        view.max_content_length = max_content_length  # type: ignore[attr-defined]
        return view

    return decorate


def read_body() -> None:
    """Keeps the body's fields for `read`. Raises TooLarge (413), UnsupportedMediaType (415) or Invalid (400)."""
    g._magicauth_fields = {}
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    own = _bound_of_view()
    most = _BODY_BYTES if own is None else own
    if (request.content_length or 0) > most:
        _discard_body()
        raise TooLarge
    if own is not None:
        _leave_to_view(own)
    elif is_json():
        g._magicauth_fields = _json_fields(_body(most))
    elif request.mimetype in (_URLENCODED, _MULTIPART):
        g._magicauth_fields = _form_fields(_body(most))
    elif _body(most):
        raise UnsupportedMediaType


def read(name: str) -> str:
    """The field `name` of the body; "" if it is missing, null or not a string: what is not a string was not given."""
    value = g._magicauth_fields.get(name)
    return value if isinstance(value, str) else ""


def read_text(name: str) -> str:
    """The field `name` where it may be left out: "" if missing or null. Raises Invalid for what is not a string."""
    value = g._magicauth_fields.get(name)
    if value is not None and not isinstance(value, str):
        raise Invalid(errors={name: [N_("Must be text.")]})
    return value or ""


def read_password() -> str:
    """The `password` as it was typed; "" where there are none, whatever was sent. Raises Invalid."""
    return read_text("password") if current_app.config["MAGICAUTH_PASSWORDS"] != "off" else ""


def is_given(name: str) -> bool:
    """Whether the body has a field `name`, be it empty."""
    return name in g._magicauth_fields


def is_shown_for(user_id: str) -> bool:
    """Whether the page of the form that was sent was shown to that user, by its field `shown_for`, if it has one: since
    then another tab may have signed in to another account."""
    return typed().get("shown_for", "").replace("-", "") in ("", user_id)


def read_token() -> str:
    """The token of a mailed link: from the form of its page, or as it stands in the link."""
    return read("token") or read_query("token")


def read_flag(name: str) -> bool:
    """A tick: JSON `true`, or `on`, `1`, `true` in a form."""
    value = g._magicauth_fields.get(name)
    return value is True if is_json() else value in TICKS


def read_query(name: str) -> str:
    """The query's `name`, or "". Raises Invalid if it is given twice."""
    values = request.args.getlist(name)
    if len(values) > 1:
        _twice()
    return values[0] if values else ""


def read_query_leniently(name: str) -> str:
    """The query's `name`, or "" if it is missing or given twice: for what is ignored when it is bad."""
    values = request.args.getlist(name)
    return values[0] if len(values) == 1 else ""


def typed() -> dict[str, str]:
    """What was typed, to fill a form again: never a password or code."""
    fields = getattr(g, "_magicauth_fields", {})
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and "password" not in name and name not in ("OTP", "token")
    }


def is_json() -> bool:
    """Whether the body says it is JSON: exactly `application/json`, whatever its parameters."""
    return request.mimetype == "application/json"


def wants_json() -> bool:
    """Whether the answer is JSON: the body was, or `Accept` prefers it to HTML (`*/*` alone does not)."""
    if is_json():
        return True
    if request.headers.get("Accept", "text/html,").startswith("text/html,"):
        # Browsers, without a look at what else they take: nothing is preferred to that.
        return False
    # Without parameters, such as a charset, which JSON has none of.
    named = {kind.lower().partition(";")[0].strip(): quality for kind, quality in request.accept_mimetypes}
    json, html = _quality(named, "application/json"), _quality(named, "text/html")
    # `application/json, */*`, as many programs send it, takes HTML too, but has not asked for it.
    return json > html or (json == html > 0 and "application/json" in named and "text/html" not in named)


def _quality(named: dict[str, float], mimetype: str) -> float:
    """How well that type is taken: as the narrowest range that covers it says."""
    ranges = (mimetype, mimetype.partition("/")[0] + "/*", "*/*")
    return next((named[one] for one in ranges if one in named), 0.0)


def is_read_by_view() -> bool:
    """Whether the view reads its body itself."""
    return _bound_of_view() is not None


def _bound_of_view() -> int | None:
    view = current_app.view_functions.get(request.endpoint or "")
    # Of a class, its method may say so for itself.
    method = getattr(getattr(view, "view_class", None), request.method.lower(), None)
    bound: int | None = getattr(method, "max_content_length", getattr(view, "max_content_length", None))
    return bound


def _leave_to_view(most: int) -> None:
    request.max_content_length = most + 1
    request.max_form_memory_size, request.max_form_parts = most, _PARTS_OF_VIEW
    if request.content_length:
        # Then Werkzeug counts: a server that ends the stream does so where the connection broke, too.
        request.environ.pop("wsgi.input_terminated", None)
    else:
        # What announces no length it cuts without a word.
        request.stream = BytesIO(_body(most))


def _body(most: int) -> bytes:
    """The whole body, which stays readable for views that a site builder adds."""
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception:
        # Each server has exceptions of its own for chunks that it cannot read.
        raise Invalid(reason="unreadable body") from None
    if len(body) > most:
        raise TooLarge
    if len(body) < (request.content_length or 0):
        # The connection broke; what a form lost with its end may be what it meant.
        raise Invalid(reason="the body is shorter than announced")
    return body


def _discard_body() -> None:
    # A server that closes a connection with something unread on it may take its answer back, or lose the next request.
    # Not more than was announced: not every server ends the body for us.
    with contextlib.suppress(Exception):
        request.environ["wsgi.input"].read(min(request.content_length or 0, _DISCARDED_MOST))


def _form_fields(body: bytes) -> dict[str, str]:
    try:
        # Werkzeug would pass on what is not UTF-8 in another spelling, and take a form cut short for an empty one.
        (unquote_to_bytes(body) if request.mimetype == _URLENCODED else body).decode()
        parser = FormDataParser(
            stream_factory=lambda *_, **__: BytesIO(),
            max_form_memory_size=_BODY_BYTES,
            max_form_parts=_PARTS_MOST,
            silent=False,
        )
        _, form, files = parser.parse(BytesIO(body), request.mimetype, len(body), request.mimetype_params)
    except ValueError:
        raise Invalid(reason="unreadable form") from None
    # A file in a field's place is not a string, and so not given.
    if None in form or None in files:
        raise Invalid(reason="a part without a name")
    if any(len(values) > 1 for _, values in form.lists()) or any(name in form for name in files):
        _twice()
    return form.to_dict()


def _json_fields(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        text = body.decode("utf-8")
        fields = json.loads(text, object_pairs_hook=_pairs_once, parse_constant=_no_constant)
        # Lone surrogates are text to Python and to nothing else: no database, hash or page can take them.
        json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Invalid(reason="malformed JSON") from None
    if not isinstance(fields, dict):
        raise Invalid(reason="JSON is not an object")
    return fields


def _pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        _twice()
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _twice() -> NoReturn:
    raise Invalid(reason="a field is given twice")
