"""Log lines: JSON in production, each with the request it belongs to. Inventory: docs/operating.md.

Never a query string, address, code, token, password or session id: addresses stand as keyed hashes.
"""

import json
import logging
import re
import secrets
import sys
from datetime import UTC, datetime

from flask import Flask, current_app, g, has_request_context, request

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Of a link whose `?` came percent-encoded, however often, the query is part of the path.
_QUERY = re.compile(r"(\?|%(25)*3f).*", re.IGNORECASE | re.DOTALL)
_FIELDS = ("status", "letter", "result", "subject")


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if has_request_context():
            line |= {"request_id": request_id(), "method": request.method, "path": _QUERY.sub("", request.path)}
            if user := g.get("_magicauth_current_user"):
                line["user"] = user.id.hex
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        # In ASCII: what a path holds may be obeyed by the terminal that shows it, or turn the line around.
        return json.dumps(line, default=str)


def init_app(app: Flask) -> None:
    """Sends what the app logs to standard error, as JSON in production."""
    if app.config["MAGICAUTH_MODE"] == "production":
        _log_json()


def request_id() -> str:
    """The id of the current request: the proxy's, if one is trusted, or our own. A client's own would let it write into
    the story of another's request."""
    if "_magicauth_request_id" not in g:
        given = request.headers.get("X-Request-ID", "") if current_app.config["MAGICAUTH_TRUSTED_PROXIES"] else ""
        g._magicauth_request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        # For the access log, whose line has the address that the request came from.
        request.environ["magicauth.request_id"] = g._magicauth_request_id
    found: str = g._magicauth_request_id
    return found


def _log_json() -> None:
    for name in ("magicauth", "dramatiq"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers):
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(JsonFormatter())
            logger.addHandler(handler)
        # What dramatiq warns of, it quotes: a job, with the address of its letter.
        logger.setLevel(logging.INFO if name == "magicauth" else logging.ERROR)
        logger.propagate = False
