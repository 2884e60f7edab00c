"""Which hosts and origins are ours: PUBLIC_URL's, and in development any loopback name and port."""

import functools
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from magicauth.errors import N_, Refused
from magicauth.network import is_browsers_loopback, origin_of

# Asked by machines that know the process by its address.
_ANY_HOST = ("/healthz", "/readyz", "/metrics")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")


def init_app(app: Flask) -> None:
    """Refuses requests to foreign hosts, before anything else looks at them."""
    app.before_request(require_own_host)


def require_own_host() -> None:
    """A page of ours under another's name can be framed, cached and linked as theirs (400)."""
    if not is_own_host(request.environ, current_app.config) and request.path not in _ANY_HOST:
        raise Refused(N_("Host not allowed."), reason="foreign host")


def is_own_host(environ: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a WSGI request names the deployment of these settings as its host."""
    host = environ.get("HTTP_HOST", "")
    # What would begin a path, a query or a fragment is in no host, and would stand in our links after it.
    named = origin_of(f"{environ['wsgi.url_scheme']}://{host}") if _HOST.fullmatch(host) else None
    if named is None:
        return False
    # Without the scheme: a proxy may end TLS and not say so.
    public_url = config["PUBLIC_URL"]
    return _is_developments(named, config) or (public_url is not None and _host(named) == _host(public_url))


def is_ours(origin: str | None) -> bool:
    """Whether `origin` is this deployment's."""
    if origin is None or origin_of(origin) != origin:
        return False
    return _is_developments(origin, current_app.config) or bool(origin == current_app.config["PUBLIC_URL"])


def _is_developments(origin: str, config: Mapping[str, Any]) -> bool:
    return config["MAGICAUTH_MODE"] == "development" and is_browsers_loopback(urlsplit(origin).hostname or "")


@functools.lru_cache(maxsize=256)
def _host(origin: str) -> tuple[str, int | None]:
    parts = urlsplit(origin)
    port = parts.port if parts.port not in (80, 443) else None
    return (parts.hostname or "").lower(), port
