"""Our cookies: out of reach for scripts, sent by no other site's forms, on https never in the clear."""

from typing import Any

from flask import Response, current_app


def give(response: Response, name: str, value: str, life: int | None) -> None:
    """Sets the cookie `name` for `life` seconds; None is as long as the browser's window."""
    response.set_cookie(name, value, max_age=life, **_attributes())
    # Whatever a site's view said: a cache would hand it to others.
    response.headers["Cache-Control"] = "no-store"


def take_back(response: Response, name: str) -> None:
    """Ends the cookie `name`."""
    response.delete_cookie(name, **_attributes())
    response.headers["Cache-Control"] = "no-store"


def _attributes() -> dict[str, Any]:
    return {"path": "/", "secure": current_app.config["SESSION_COOKIE_SECURE"], "httponly": True, "samesite": "Lax"}
