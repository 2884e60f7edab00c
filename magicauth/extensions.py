"""The machines under magicauth: database, SMTP, and the Redis client for any REDIS_URL."""

import hashlib
import smtplib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import flask_mail
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError
from redis.retry import Retry
from redis.sentinel import Sentinel
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase

from magicauth import embedded
from magicauth.crypto import Keyring

CONNECT_TIMEOUT = 0.25
COMMAND_TIMEOUT = 1.0
# Each thread of the server holds one; redis-py's own bound of 100 answered a burst of more with 503.
REDIS_CONNECTIONS = 1000
SMTP_TIMEOUT = 10.0
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
    app.extensions["magicauth-redis"] = _redis_client(app)
    app.extensions["magicauth-keys"] = Keyring([app.config["SECRET_KEY"], *app.config["SECRET_KEY_FALLBACKS"]])
    # Flask-Mail would print whole conversations, log-in included, where the app runs in debug mode, and send
    # nothing where it is under test.
    app.config.update(MAIL_DEBUG=False, MAIL_SUPPRESS_SEND=False)
    flask_mail.Mail(app)


def redis() -> Any:
    """The Redis client of the current app: a `Redis` or a `RedisCluster`, which share their methods."""
    return current_app.extensions["magicauth-redis"]


def keyring() -> Keyring:
    """The keys of the current app."""
    keys: Keyring = current_app.extensions["magicauth-keys"]
    return keys


class Script:
    """A Lua script, run by its hash; a server that lost it (SCRIPT FLUSH, a failover) is sent the text again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], *arguments: Any) -> Any:
        """Runs it on the current app's Redis."""
        try:
            return redis().evalsha(self.hash, len(keys), *keys, *arguments)
        except NoScriptError:
            return redis().eval(self.text, len(keys), *keys, *arguments)


class MailConnection(flask_mail.Connection):
    """Flask-Mail's connection with what it lacks: a time-out, and certificates that are checked."""

    def configure_host(self) -> smtplib.SMTP:
        """An SMTP connection, logged in. Raises OSError or SMTPException."""
        mail = self.mail
        context = ssl.create_default_context()
        host: smtplib.SMTP
        if mail.use_ssl:
            host = smtplib.SMTP_SSL(mail.server, mail.port, timeout=SMTP_TIMEOUT, context=context)
        else:
            host = smtplib.SMTP(mail.server, mail.port, timeout=SMTP_TIMEOUT)
        try:
            if mail.use_tls:
                host.starttls(context=context)
            if mail.username and mail.password:
                host.login(mail.username, mail.password)
        except BaseException:
            host.close()
            raise
        return host


def _engine_options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000}}
    return {
        "pool_pre_ping": True,
        "pool_timeout": DATABASE_CONNECT_TIMEOUT,
        "connect_args": {
            "connect_timeout": DATABASE_CONNECT_TIMEOUT,
            "options": f"-c statement_timeout={DATABASE_STATEMENT_TIMEOUT_MS}",
            # A server that hangs without closing is noticed by the kernel, not by a worker that waits for ever.
            "tcp_user_timeout": DATABASE_STATEMENT_TIMEOUT_MS,
        },
    }


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    # Readers do not wait for the one writer.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _redis_client(app: Flask) -> Any:
    url = app.config["REDIS_URL"]
    if url is None:
        try:
            url = app.config["REDIS_URL"] = embedded.url(Path(app.instance_path))
        except embedded.Unavailable as reason:
            return _stand_in(app, reason)
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": COMMAND_TIMEOUT,
        "max_connections": REDIS_CONNECTIONS,
        # A pool already replaces the connections it finds dead. A retry beyond that would run a script twice that
        # timed out after it had run, and hold a request for seconds.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
        # Where the CA and client certificates lie: ?ssl_ca_certs=/path&ssl_certfile=…
        options |= {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.scheme.endswith("+sentinel"):
        name, _, number = parts.path.lstrip("/").partition("/")
        sentinel_options = {key: value for key, value in options.items() if key not in ("password", "username")}
        sentinel = Sentinel(_hosts(parts.netloc, 26_379), sentinel_kwargs=sentinel_options, **options)
        return sentinel.master_for(name, db=int(number or 0))
    if parts.scheme.endswith("+cluster"):
        nodes = [ClusterNode(host, port) for host, port in _hosts(parts.netloc, 6379)]
        return RedisCluster(startup_nodes=nodes, cluster_error_retry_attempts=1, **options)
    for name in ("ssl", "password", "username"):
        options.pop(name, None)
    return Redis.from_url(url, **options)


def _hosts(netloc: str, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for word in netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"//{word}")
        hosts.append((parts.hostname or "localhost", parts.port or default_port))
    return hosts


def _stand_in(app: Flask, reason: Exception) -> Any:
    import fakeredis

    app.logger.warning("%s An in-process stand-in serves instead: for one process only, gone when it ends.", reason)
    app.config["REDIS_URL"] = "fakeredis"
    return fakeredis.FakeRedis(version=(7,))
