"""Headers on every answer: what the browser may load, frame, keep and tell."""

from flask import Flask, Response

from magicauth.sessions import this_session

_CSP = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
# Of this host alone: others below it may be somebody else's, and no https yet.
_HSTS = "max-age=31536000"


def init_app(app: Flask) -> None:
    """Adds them after each request; a view that set one itself keeps its own, but that
    what was made of a session is kept by its reader alone."""
    ours = [*for_static(app), ("X-Frame-Options", "DENY"), ("Cache-Control", "no-store")]

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in ours:
            response.headers.setdefault(name, value)
        # What `send_file` says of every file, and views of pages that greet their reader.
        if this_session().is_known and not response.cache_control.private:
            response.headers["Cache-Control"] = "no-store"
        return response


def for_static(app: Flask) -> list[tuple[str, str]]:
    """Those of files, which no view answers."""
    return [
        ("Content-Security-Policy", _CSP),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        # `no-referrer` would make browsers send `Origin: null` with our own forms.
        ("Referrer-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
        *([("Strict-Transport-Security", _HSTS)] if app.config["SESSION_COOKIE_SECURE"] else []),
    ]
