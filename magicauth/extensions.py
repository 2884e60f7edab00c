"""The machines under magicauth: database, Redis and keys."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flask_mail
import sqlalchemy.exc
from flask import Flask, current_app, g, has_app_context
from flask_sqlalchemy import SQLAlchemy
from redis import UnixDomainSocketConnection
from sqlalchemy import URL, ExceptionContext, event, make_url
from sqlalchemy.orm import DeclarativeBase

from magicauth import embedded, engines
from magicauth.config import ConfigError
from magicauth.crypto import Keyring

DATABASE_CONNECT_TIMEOUT = 2
_DATABASE_STATEMENT_TIMEOUT_MS = 5000
_SQLITE_BUSY_TIMEOUT_MS = 2000
# What the database raises when it is away, full, read-only, damaged, too slow or not migrated.
DATABASE_IS_AWAY = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.InternalError,
    # PostgreSQL's word for a table or column that is missing, which SQLite calls an OperationalError.
    sqlalchemy.exc.ProgrammingError,
    sqlalchemy.exc.TimeoutError,
)
# PostgreSQL's for what the database's user may not do.
_NOT_ALLOWED = "42501"


def is_not_understood(error: Exception) -> bool:
    """Whether the database is there, but knows no such table or column, or no such SQL."""
    of_driver = getattr(error, "orig", None)
    sqlstate = getattr(of_driver, "sqlstate", None) or ""
    of_sqlite = getattr(of_driver, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return of_sqlite or (sqlstate.startswith("42") and sqlstate != _NOT_ALLOWED)


class Base(DeclarativeBase):
    """What every table of ours derives from."""


# The base's own metadata, so that models are plain SQLAlchemy classes that a type checker can follow.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


def init_app(app: Flask) -> None:
    """Opens (lazily) the database, the Redis client and the mail settings of `app`."""
    app.config["SQLALCHEMY_DATABASE_URI"] = app.config["DATABASE_URL"]
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _engine_options(
        app.config["DATABASE_URL"], app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})
    )
    _make_file_of_sqlite(make_url(app.config["DATABASE_URL"]), Path(app.instance_path))
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "connect", _prepare_sqlite)
            event.listen(db.engine, "handle_error", _call_damage_by_its_name)
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


def note_hang(error: Exception) -> None:
    """Remembers for the rest of this request that Redis, or the database, hangs: nobody waits for it twice."""
    g._magicauth_hangs = hung() or engines.hangs(error)


def hung() -> bool:
    """Whether this request has waited for it once."""
    return has_app_context() and bool(g.get("_magicauth_hangs"))


def keyring() -> Keyring:
    """The keys of the current app."""
    keys: Keyring = current_app.extensions["magicauth-keys"]
    return keys


class Script(engines.Script):
    """A Lua script for the current app's Redis."""

    def __call__(self, keys: Sequence[str], *arguments: Any) -> Any:
        """Runs it. Raises RedisError."""
        return self.run(redis(), keys, *arguments)


# Over a value that nobody has changed since it was read; its life stays what it is.
compare_and_set = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') end
""")


def _engine_options(url: str, of_the_site: dict[str, Any]) -> dict[str, Any]:
    connect_args: dict[str, Any] = {"timeout": _SQLITE_BUSY_TIMEOUT_MS / 1000}
    pool: dict[str, Any] = {}
    if not url.startswith("sqlite"):
        pool = {"pool_pre_ping": True, "pool_timeout": DATABASE_CONNECT_TIMEOUT}
        connect_args = {
            "connect_timeout": DATABASE_CONNECT_TIMEOUT,
            # Whatever the server was set up with: names are of any script.
            "client_encoding": "utf8",
            "options": f"-c statement_timeout={_DATABASE_STATEMENT_TIMEOUT_MS}",
            # A server that hangs without closing is noticed by the kernel, not by a worker that waits for ever.
            "tcp_user_timeout": _DATABASE_STATEMENT_TIMEOUT_MS,
        }
    return {
        **pool,
        **of_the_site,
        "connect_args": connect_args | of_the_site.get("connect_args", {}),
        # What is asked for holds addresses, and what fails is logged.
        "hide_parameters": True,
    }


def _connect_to_postgres(_: Any, __: Any, arguments: Any, options: Any) -> Any:
    # A site on SQLite has no need of psycopg.
    from magicauth import postgres

    return postgres.Connection.connect(*arguments, **options)


def _make_file_of_sqlite(url: URL, instance: Path) -> None:
    """Makes it for its owner alone, whatever the umask; no folder but `instance`: another may be a disk that is not
    there yet. Raises ConfigError."""
    name = url.database or ":memory:"
    if url.get_backend_name() != "sqlite" or name == ":memory:" or name.startswith("file:"):
        return
    path = instance / name
    try:
        if path.parent == instance:
            instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.is_dir() and not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise ConfigError([f"DATABASE_URL is {path}, which cannot be made: {error.strerror}."]) from None


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    # Readers do not wait for the one writer.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _call_damage_by_its_name(context: ExceptionContext) -> None:
    # For a file that is damaged, or no database, sqlite3 raises what every error of a database is.
    error = context.original_exception
    if type(error) is sqlite3.DatabaseError:
        raise sqlalchemy.exc.OperationalError(context.statement, {}, error, hide_parameters=True) from error


def _redis_client(app: Flask) -> Any:
    if app.config["REDIS_URL"] is None:
        try:
            app.config["REDIS_URL"] = embedded.url(Path(app.instance_path))
        except embedded.Unavailable as reason:
            return _stand_in(app, reason)
        return _of_this_folder(app)
    return engines.connect(app.config["REDIS_URL"])


def _of_this_folder(app: Flask) -> Any:
    """A client of the embedded server, which starts it again where it was killed."""

    class Connection(UnixDomainSocketConnection):
        def _connect(self) -> Any:
            try:
                return super()._connect()  # type: ignore[no-untyped-call]
            except (ConnectionRefusedError, FileNotFoundError):
                with contextlib.suppress(embedded.Unavailable):
                    embedded.url(Path(app.instance_path))
                return super()._connect()  # type: ignore[no-untyped-call]

    client = engines.connect(app.config["REDIS_URL"])
    client.connection_pool.connection_class = Connection
    return client


def _stand_in(app: Flask, reason: Exception) -> Any:
    try:
        import fakeredis
    except ImportError:
        words = f"{reason} Set REDIS_URL, or install fakeredis[lua], which stands in for it."
        raise ConfigError([words]) from None
    app.logger.warning("%s An in-process stand-in serves instead: for one process only, gone when it ends.", reason)
    app.config["REDIS_URL"] = "fakeredis"
    return fakeredis.FakeRedis(version=(7,))
