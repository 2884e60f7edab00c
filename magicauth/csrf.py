"""Cross-site requests are refused by what browsers say of themselves: Fetch Metadata, then Origin.

The rule of Go's `http.CrossOriginProtection` and of OWASP's sheet. No token means no session for an anonymous form.
"""

from flask import Flask, current_app, request

from magicauth.errors import N_, Denied
from magicauth.hosts import is_ours


def init_app(app: Flask) -> None:
    """Checks every unsafe request, before a session is looked at. There are no exemptions."""
    app.before_request(refuse_cross_site)


def refuse_cross_site() -> None:
    """Raises Denied (403) for an unsafe request that another site's page makes."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if origin in current_app.config["MAGICAUTH_ALLOWED_ORIGINS"] and site in (None, "same-site", "same-origin"):
        return
    if site in ("same-origin", "none"):
        return
    if site is not None:
        raise Denied(N_("Cross-site request refused."), reason=f"Sec-Fetch-Site: {site[:20]}")
    # Browsers that predate Fetch Metadata send Origin with a POST; what sends neither is no browser, and has no cookies
    # of somebody else to abuse.
    if origin is not None and not is_ours(origin):
        raise Denied(N_("Cross-site request refused."), reason="foreign Origin")
