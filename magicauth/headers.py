"""Headers on every answer: what the browser may load, frame, keep and tell."""

from flask import Flask, Response

_CSP = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_HSTS = "max-age=31536000; includeSubDomains"


def init_app(app: Flask) -> None:
    """Adds them after each request; a view that set one of the first two itself keeps its own."""
    always = _always(app)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", _CSP)
        response.headers.setdefault("X-Frame-Options", "DENY")
        for name, value in always:
            response.headers[name] = value
        response.headers["Cache-Control"] = "no-store"
        return response


def for_static(app: Flask) -> list[tuple[str, str]]:
    """Those of files, which no view answers."""
    return [("Content-Security-Policy", _CSP), *_always(app)]


def _always(app: Flask) -> list[tuple[str, str]]:
    return [
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        # `no-referrer` would make browsers send `Origin: null` with our own forms.
        ("Referrer-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
        *([("Strict-Transport-Security", _HSTS)] if app.config["SESSION_COOKIE_SECURE"] else []),
    ]
