"""magicauth: sign-up by magic link, sign-in by password and mailed code or without a password, for Flask.

`create_app()` is the finished application; `login_required` and `current_user` guard the pages you add to it.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask, has_app_context
from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader
from werkzeug.middleware.proxy_fix import ProxyFix

from magicauth import (
    account,
    auth,
    cli,
    config,
    cors,
    csrf,
    extensions,
    headers,
    hosts,
    logs,
    mail,
    migrating,
    ops,
    outbox,
    reader,
    respond,
    sessions,
    smtp,
    static_files,
    theme,
)
from magicauth.guards import admin_required, current_user, fresh_sign_in_required, login_required
from magicauth.mailbox import Mailbox
from magicauth.reader import own_body

log = logging.getLogger("magicauth")

__all__ = ["admin_required", "create_app", "current_user", "fresh_sign_in_required", "login_required", "own_body"]


def create_app(
    settings: Mapping[str, Any] | None = None,
    *,
    instance_path: str | None = None,
    template_folder: str | None = None,
    static_folder: str | None = None,
) -> Flask:
    """The application. Settings come from the environment; `settings` go before it, and what is none of ours is Flask's
    or the site's own. Raises config.ConfigError.

    Templates in `template_folder` go before those of the same name here, which they extend as `magicauth/…`; files in
    `static_folder` are served at `/static/…`, beside ours: docs/customising.md.
    """
    templates, files = config.folder("template_folder", template_folder), config.folder("static_folder", static_folder)
    app = Flask("magicauth", instance_path=instance_path, static_folder=files, static_url_path="/static")
    ours: Any = app.jinja_loader
    theirs = [FileSystemLoader(templates)] if templates else []
    app.jinja_loader = ChoiceLoader([*theirs, ours, PrefixLoader({"magicauth": ours})])
    app.config.from_mapping(config.for_flask(settings or {}))
    app.config.from_mapping(config.load({**os.environ, **(settings or {})}, Path(app.instance_path)))
    development = app.config["MAGICAUTH_MODE"] == "development"
    _set_cookies(app)
    app.json.sort_keys = False  # type: ignore[attr-defined]

    extensions.init_app(app)
    migrating.init_app(app)
    app.session_interface = sessions.SessionInterface(app, app.extensions["magicauth-redis"])
    post: outbox.Post = smtp.PostOffice()
    if development:
        post = mailbox = Mailbox(Path(app.instance_path) / "mailbox", post if app.config["MAIL_SERVER"] else None)
        app.extensions["magicauth-mailbox"] = mailbox
        migrating.upgrade(app)
    app.extensions["magicauth-outbox"] = outbox.Outbox(app, mail.write, post)

    # In this order: a request to a foreign host or from a foreign site is refused before its body is read.
    for part in (logs, ops.metrics, hosts, csrf, reader, cors, headers, respond, theme, cli):
        part.init_app(app)
    for name, setting in config.nearly(ours for ours in os.environ if ours.startswith("MAGICAUTH_")).items():
        log.warning("%s is no setting, and changes nothing: is %s meant?", name, setting)
    app.register_blueprint(auth.bp)
    app.register_blueprint(account.bp)
    app.register_blueprint(ops.bp)
    if development:
        app.register_blueprint(ops.development_bp)
    _wrap(app)
    return app


def _set_cookies(app: Flask) -> None:
    # `__Host-` where that can be: with it no sibling domain can plant a session.
    secure = (app.config["PUBLIC_URL"] or "").startswith("https:")
    app.config["SESSION_COOKIE_SECURE"] = secure
    app.config["SESSION_COOKIE_NAME"] = "__Host-magicauth" if secure else "magicauth"


def _wrap(app: Flask) -> None:
    app.wsgi_app = _alone(app)  # type: ignore[method-assign]

    def is_own_host(environ: dict[str, Any]) -> bool:
        return hosts.is_own_host(environ, app.config)

    serve = outbox.start_with_first_request(app)
    static = static_files.serve(serve, Path(app.instance_path), headers.for_static(app), is_own_host)
    proxies = app.config["MAGICAUTH_TRUSTED_PROXIES"]
    app.wsgi_app = ProxyFix(static, x_for=proxies, x_proto=proxies, x_host=proxies) if proxies else static  # type: ignore[method-assign]


def _alone(app: Flask) -> Any:
    """The app's WSGI callable. Inside an app context that is open already, as in tests, Flask lets all requests
    share its `g`: who was signed in for one would be for the next."""
    serve = app.wsgi_app

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        if not has_app_context():
            return serve(environ, start_response)
        with app.app_context():
            return serve(environ, start_response)

    return wsgi_app
