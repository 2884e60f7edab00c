"""Flask-Security with stock settings: "unified sign-in" by a mailed code, sessions in Redis by Flask-Session."""

import os
from typing import Any

from flask import Flask, render_template
from flask_mail import Mail
from flask_security import Security, SQLAlchemyUserDatastore, auth_required, current_user
from flask_security.models import fsqla_v3
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy

from benchmarks.contestants import flask_with_our_templates, redis_client
from benchmarks.counting import counted
from benchmarks.people import PEOPLE


def app() -> Flask:
    """The app, with people."""
    app = flask_with_our_templates()
    app.config.update(
        SECRET_KEY="a benchmark's key, which protects nothing at all",
        SECURITY_PASSWORD_SALT="of no use",
        SECURITY_UNIFIED_SIGNIN=True,
        SECURITY_US_ENABLED_METHODS=["password", "email"],
        SECURITY_TOTP_ISSUER="a benchmark",
        SECURITY_TOTP_SECRETS={"1": "a key of the benchmark"},
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},
        # In its favour: with it each sign-in would begin with one more request, for the token.
        WTF_CSRF_ENABLED=False,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{os.environ['BENCHMARK_FOLDER']}/flask_security.sqlite3",
        SESSION_TYPE="redis",
        SESSION_REDIS=redis_client(),
        MAIL_SERVER="127.0.0.1",
        MAIL_PORT=int(os.environ["MAIL_PORT"]),
        MAIL_DEFAULT_SENDER="no-reply@example.org",
    )
    db = SQLAlchemy(app)
    fsqla_v3.FsModels.set_db_info(db)

    class Role(db.Model, fsqla_v3.FsRoleMixin):  # type: ignore[name-defined, misc]
        """Flask-Security wants one."""

    class User(db.Model, fsqla_v3.FsUserMixin):  # type: ignore[name-defined, misc]
        """Its own columns."""

    Session(app)
    Mail(app)
    security = Security(app, SQLAlchemyUserDatastore(db, User, Role))

    @app.get("/home")
    @auth_required("session")
    def home() -> str:
        return render_template("account/home.html", user=_Shown(current_user))

    with app.app_context():
        db.create_all()
        if security.datastore.find_user(email="user0@example.com") is None:
            for number in range(PEOPLE):
                user = security.datastore.create_user(email=f"user{number}@example.com", active=True)
                security.datastore.us_setup_email(user)
            db.session.commit()
    return counted(app)


class _Shown:
    """What our page shows of a user."""

    def __init__(self, user: Any) -> None:
        self.name, self.email, self.has_password = "Ada", user.email, True
        self.created_at = user.create_datetime
