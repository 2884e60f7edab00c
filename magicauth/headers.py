"""Headers on every answer: what the browser may load, frame, keep and tell."""

from flask import Flask, Response

_CSP = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_HSTS = "max-age=31536000; includeSubDomains"


def init_app(app: Flask) -> None:
    """Adds them after each request; a view that set one itself keeps its own."""
    ours = [*for_static(app), ("X-Frame-Options", "DENY"), ("Cache-Control", "no-store")]

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in ours:
            response.headers.setdefault(name, value)
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
