"""`/dev/mailbox`: the letters that development sent. Not registered in production; answers this machine only."""

from flask import Blueprint, Response, abort, current_app, request

from magicauth.mailbox import Kept, Mailbox
from magicauth.models import iso
from magicauth.network import is_loopback
from magicauth.respond import page

# A letter styles itself; it may do nothing else, in whatever frame it is shown.
_LETTER_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    "sandbox allow-popups allow-top-navigation-by-user-activation"
)

bp = Blueprint("dev_mailbox", __name__)


@bp.before_request
def loopback_only() -> None:
    """Whoever reads the mailbox can sign in as anybody."""
    # Both as the server saw it and as proxies tell it: neither may be another machine.
    seen = request.environ.get("werkzeug.proxy_fix.orig", {}).get("REMOTE_ADDR") or request.remote_addr or ""
    if not is_loopback(request.remote_addr or "") or not is_loopback(seen):
        abort(404)


@bp.get("/dev/mailbox")
def mailbox() -> Response:
    letters = _mailbox().all()
    return page("dev/mailbox.html", json={"messages": [_as_json(letter) for letter in letters]}, messages=letters)


@bp.get("/dev/mailbox/<name>")
def letter(name: str) -> Response:
    kept = _mailbox().get(name)
    if kept is None:
        abort(404)
    # Its links open in the window that shows it: no page of ours lets itself be framed.
    html = kept.html.replace("<head>", '<head><base target="_top">', 1)
    response = Response(html, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _LETTER_CSP
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


def _as_json(letter: Kept) -> dict[str, object]:
    return {
        "to": letter.to,
        "subject": letter.subject,
        "text": letter.text,
        "html": letter.html,
        "links": letter.links,
        "code": letter.code or None,
        "sent_at": iso(letter.sent_at),
    }


def _mailbox() -> Mailbox:
    found: Mailbox = current_app.extensions["magicauth-mailbox"]
    return found
