"""`next`: the page of ours where a sign-in leads; anything else is ignored, whatever is bad about it."""

from urllib.parse import quote, unquote, urlsplit

from flask import current_app, request

# Of characters; and as the query of another page writes them, of which servers take 8,000.
_LENGTH = 2048
_QUOTED_LENGTH = 3 * _LENGTH
# What stands for itself in a path, as Werkzeug has it.
_SAFE = "!$&'()*+,/:;=@"
# Files by the page that offers them: a browser that is led to one keeps showing the page that led there.
_OFFERED_BY = {"/account/export.json": "/account/export"}


def here() -> str:
    """The page that is asked for, with its query, or that of the form that was sent; "" where there is none."""
    if request.path in _OFFERED_BY:
        return _OFFERED_BY[request.path]
    return asked_for() if _is_page(request.path) else _page_before()


def asked_for() -> str:
    """The address of this request, of a form without its query: `/reports/C%23`, which is not `/reports/C`."""
    query = request.query_string if request.method in ("GET", "HEAD") else b""
    path = quote(request.path, safe=_SAFE)
    return f"{path}?{quote(query, safe=_SAFE + '?%')}" if query else path


def path_of(address: str) -> str:
    """The path of one of our addresses, as routes and `request.path` have it."""
    return unquote(address.partition("?")[0])


def _page_before() -> str:
    """The page of ours whose form or button was sent, as the browser says."""
    try:
        parts = urlsplit(request.referrer or "")
    except ValueError:
        return ""
    address = f"{parts.path}?{parts.query}" if parts.query else parts.path
    path = own_path(address) if parts.netloc == request.host else ""
    return path if _is_page(path_of(address)) else ""


def _is_page(path: str) -> bool:
    # A form's address that is no page answers 405.
    return current_app.url_map.bind("").test(path, "GET")


def own_path(value: str) -> str:
    """`value` if it is a path of ours, else "".

    Judged as browsers and Werkzeug will read it: after percent-decoding, `/%09/evil` and `/\\evil` become `//evil`.
    """
    if not value or len(value) > _LENGTH or len(quote(value)) > _QUOTED_LENGTH:
        return ""
    for form in (value, unquote(value), unquote(unquote(value))):
        if (
            not form.startswith("/")
            or form.startswith("//")
            or "\\" in form
            or not form.isprintable()
            or "//" in form.partition("?")[0]
        ):
            return ""
        try:
            parts = urlsplit(form)
        except ValueError:
            return ""
        if parts.scheme or parts.netloc:
            return ""
    # A form's address would answer 405. What is no page of ours may be another application's behind the same proxy.
    methods = current_app.url_map.bind("").allowed_methods(path_of(value))
    return value if not methods or "GET" in methods else ""
