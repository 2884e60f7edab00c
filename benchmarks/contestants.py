"""The Flask apps that are compared. gunicorn loads each as `benchmarks.contestants:<name>()`.

`bare` is the limit: Flask, one Redis GET, the same template, and nothing that protects anybody.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import redis
from flask import Flask, render_template, request, session
from flask_babel import Babel
from flask_session import Session

import magicauth as magicauth_package
from benchmarks.counting import counted
from magicauth import create_app, session_data
from magicauth.crypto import digest
from magicauth.guards import CurrentUser

_TEMPLATES = str(Path(magicauth_package.__file__).parent / "templates")


def magicauth() -> Flask:
    """The application, as production runs it."""
    return counted(create_app())


def bare() -> Flask:
    """Flask that looks up the same session by one GET and renders the same pages."""
    app, client = flask_with_our_templates(), redis_client()

    @app.get("/home")
    def home() -> str:
        stored = client.get("magicauth:session:" + digest(request.cookies["magicauth"]))
        return render_template("account/home.html", user=CurrentUser(session_data.decode(stored) or {}))

    @app.get("/auth")
    def auth() -> str:
        return render_template("auth/sign_in.html", next="", email="")

    return counted(app)


def flask_session() -> Flask:
    """The same pages over stock Flask-Session."""
    app = flask_with_our_templates()
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis_client())
    Session(app)

    @app.get("/sign-in/<facts>")
    def sign_in(facts: str) -> str:
        session.update(msgspec.json.decode(bytes.fromhex(facts)))
        return "in"

    @app.get("/home")
    def home() -> str:
        return render_template("account/home.html", user=CurrentUser(dict(session)))

    return counted(app)


def redis_client() -> redis.Redis:
    """A client as ours is."""
    return redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)


def flask_with_our_templates() -> Flask:
    """Flask that renders our pages, and answers /healthz."""
    app, ours = Flask("bare", template_folder=_TEMPLATES, static_folder=None), create_app()
    Babel(app)
    # What gunicorn.conf.py asks an app for.
    app.config["MAGICAUTH_MAIL_WORKER"] = "external"
    app.extensions["magicauth-outbox"] = ours.extensions["magicauth-outbox"]
    ours_only = {name: value for name, value in ours.jinja_env.globals.items() if name not in app.jinja_env.globals}
    app.jinja_env.globals.update(ours_only)
    app.jinja_env.filters.update(ours.jinja_env.filters)
    known: dict[str, Any] = {"lang": "en", "dir": "ltr", "refusal": None, "typed": {}, "notice": None}
    app.context_processor(lambda: known)
    app.add_url_rule("/healthz", view_func=lambda: "well")
    return app
