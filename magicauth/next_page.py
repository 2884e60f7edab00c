"""`next`: the page of ours where a sign-in leads; anything else is ignored, whatever is bad about it."""

from urllib.parse import unquote, urlsplit

LENGTH = 2048


def own_path(value: str) -> str:
    """`value` if it is a path of ours, else "".

    Judged as browsers and Werkzeug will read it: after percent-decoding, `/%09/evil` and `/\\evil` become `//evil`.
    """
    if not value or len(value) > LENGTH:
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
    return value
