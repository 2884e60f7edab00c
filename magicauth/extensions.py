"""The machines under magicauth: database, Redis and keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flask_mail
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase

from magicauth import embedded, engines
from magicauth.crypto import Keyring

DATABASE_CONNECT_TIMEOUT = 2
DATABASE_STATEMENT_TIMEOUT_MS = 5000
SQLITE_BUSY_TIMEOUT_MS = 2000


class Base(DeclarativeBase):
    """What every table of ours derives from."""


# The base's own metadata, so that models are plain SQLAlchemy classes that a type checker can follow.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


def init_app(app: Flask) -> None:
    """Opens (lazily) the database, the Redis client and the mail settings of `app`."""
    app.config["SQLALCHEMY_DATABASE_URI"] = app.config["DATABASE_URL"]
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _engine_options(app.config["DATABASE_URL"])
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "connect", _prepare_sqlite)
        else:
            event.listen(db.engine, "do_connect", _connect_to_postgres)
    app.extensions["magicauth-redis"] = _redis_client(app)
    app.extensions["magicauth-keys"] = Keyring([app.config["SECRET_KEY"], *app.config["SECRET_KEY_FALLBACKS"]])
    # Flask-Mail would print whole conversations, log-in included, where the app runs in debug mode, and send
    # nothing where it is under test.
    app.config.update(MAIL_DEBUG=False, MAIL_SUPPRESS_SEND=False)
    flask_mail.Mail(app)


def redis() -> Any:
    """The Redis client of the current app."""
    return current_app.extensions["magicauth-redis"]


def keyring() -> Keyring:
    """The keys of the current app."""
    keys: Keyring = current_app.extensions["magicauth-keys"]
    return keys


class Script(engines.Script):
    """A Lua script for the current app's Redis."""

    def __call__(self, keys: Sequence[str], *arguments: Any) -> Any:
        """Runs it. Raises RedisError."""
        return self.run(redis(), keys, *arguments)


def _engine_options(url: str) -> dict[str, Any]:
    # What is asked for holds addresses, and what fails is logged.
    common = {"hide_parameters": True}
    if url.startswith("sqlite"):
        return common | {"connect_args": {"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000}}
    return common | {
        "pool_pre_ping": True,
        "pool_timeout": DATABASE_CONNECT_TIMEOUT,
        "connect_args": {
            "connect_timeout": DATABASE_CONNECT_TIMEOUT,
            "options": f"-c statement_timeout={DATABASE_STATEMENT_TIMEOUT_MS}",
            # A server that hangs without closing is noticed by the kernel, not by a worker that waits for ever.
            "tcp_user_timeout": DATABASE_STATEMENT_TIMEOUT_MS,
        },
    }


def _connect_to_postgres(_: Any, __: Any, arguments: Any, options: Any) -> Any:
    # A site on SQLite has no need of psycopg.
    from magicauth import postgres

    return postgres.Connection.connect(*arguments, **options)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    # Readers do not wait for the one writer.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _redis_client(app: Flask) -> Any:
    if app.config["REDIS_URL"] is None:
        try:
            app.config["REDIS_URL"] = embedded.url(Path(app.instance_path))
        except embedded.Unavailable as reason:
            return _stand_in(app, reason)
    return engines.connect(app.config["REDIS_URL"])


def _stand_in(app: Flask, reason: Exception) -> Any:
    import fakeredis

    app.logger.warning("%s An in-process stand-in serves instead: for one process only, gone when it ends.", reason)
    app.config["REDIS_URL"] = "fakeredis"
    return fakeredis.FakeRedis(version=(7,))
