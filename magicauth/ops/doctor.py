"""`flask doctor`: every setting and dependency looked at, one finding each."""

import smtplib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from flask import current_app

from magicauth import migrating, outbox
from magicauth.config import SECRET_KEY_LENGTH, is_loopback
from magicauth.extensions import MailConnection, db, redis
from magicauth.ops.health import database_answers
from magicauth.respond import AWAY

State = Literal["ok", "warning", "wrong"]

REDIS_LEAST = (7, 0)
CLOCK_SKEW_MOST = 5.0
# Random text of the least length has about twenty different characters; words and repetitions have fewer.
DIFFERENT_CHARACTERS_LEAST = 12


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and in words what follows."""

    check: str
    state: State
    words: str


def examine() -> list[Finding]:
    """Every finding. Asks Redis, the database and the mail server; changes nothing."""
    findings: list[Finding] = []
    for check in (_settings, _redis, _database, _mail):
        findings.extend(check())
    return findings


def _settings() -> Iterator[Finding]:
    config = current_app.config
    production = config["MAGICAUTH_MODE"] == "production"
    yield Finding("MAGICAUTH_MODE", "ok", config["MAGICAUTH_MODE"])
    key = config["SECRET_KEY"]
    if len(key) < SECRET_KEY_LENGTH or len(set(key)) < DIFFERENT_CHARACTERS_LEAST:
        yield Finding(
            "SECRET_KEY",
            "warning",
            "looks guessable; make one with `python -c 'import secrets; print(secrets.token_hex(32))'`",
        )
    else:
        yield Finding("SECRET_KEY", "ok", f"{len(key)} characters")
    yield Finding("SECRET_KEY_FALLBACKS", "ok", f"{len(config['SECRET_KEY_FALLBACKS'])} earlier keys")
    url = config["PUBLIC_URL"]
    if url is None:
        yield Finding("PUBLIC_URL", "ok", "whatever loopback name is asked")
    elif url.startswith("https:"):
        yield Finding("PUBLIC_URL", "ok", url)
    else:
        yield Finding("PUBLIC_URL", "warning", f"{url}: without https, cookies and links are open to the network")
    proxies = config["MAGICAUTH_TRUSTED_PROXIES"]
    if production and url and url.startswith("https:") and proxies == 0:
        yield Finding(
            "MAGICAUTH_TRUSTED_PROXIES",
            "warning",
            "0: behind a proxy that ends TLS every visitor would count as one; set it to the number of proxies",
        )
    else:
        yield Finding("MAGICAUTH_TRUSTED_PROXIES", "ok", str(proxies))
    secure = config["SESSION_COOKIE_SECURE"]
    flags = f"{config['SESSION_COOKIE_NAME']}: HttpOnly, SameSite=Lax" + (", Secure" if secure else "")
    yield Finding("cookies", "ok" if secure or not production else "warning", flags)
    if config["MAGICAUTH_SESSION_IDLE"] > config["MAGICAUTH_SESSION_ABSOLUTE"]:
        yield Finding("sessions", "warning", "the idle time is longer than the absolute one")


def _redis() -> Iterator[Finding]:
    if current_app.config["REDIS_URL"] == "fakeredis":
        yield Finding("Redis", "warning", "an in-process stand-in: one process only, gone when it ends")
        return
    try:
        info = _flat(redis().info())
        seconds, microseconds = _first(redis().time())
    except AWAY as error:
        yield Finding(
            "Redis",
            "wrong",
            f"does not answer ({type(error).__name__}): {_without_password(current_app.config['REDIS_URL'])}",
        )
        return
    version = str(info.get("valkey_version") or info.get("redis_version"))
    enough = tuple(int(part) for part in version.split(".")[:2]) >= REDIS_LEAST
    yield Finding("Redis", "ok" if enough else "wrong", f"version {version}" + ("" if enough else ", needs 7.0"))
    skew = abs(time.time() - seconds - microseconds / 1e6)
    yield Finding("clock", "ok" if skew < CLOCK_SKEW_MOST else "wrong", f"{skew:.1f} s away from Redis's")
    production = current_app.config["MAGICAUTH_MODE"] == "production"
    if info.get("aof_enabled"):
        yield Finding("Redis persistence", "ok", "append-only file")
    else:
        state: State = "warning" if production else "ok"
        yield Finding(
            "Redis persistence", state, "no append-only file: a crash loses sessions and letters (appendonly yes)"
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    yield Finding(
        "Redis eviction",
        "ok" if policy == "noeviction" else "wrong",
        policy if policy == "noeviction" else f"{policy} may drop sessions and letters (maxmemory-policy noeviction)",
    )


def _database() -> Iterator[Finding]:
    try:
        database_answers()
        with db.engine.connect() as connection:
            current, head = migrating.revisions(connection)
    except AWAY as error:
        yield Finding("database", "wrong", f"does not answer ({type(error).__name__})")
        return
    yield Finding("database", "ok", db.engine.dialect.name)
    if current == head:
        yield Finding("migrations", "ok", f"at {head}")
    else:
        yield Finding("migrations", "wrong", f"at {current or 'none'}, the newest is {head}: run `flask db upgrade`")


def _mail() -> Iterator[Finding]:
    config = current_app.config
    if not config["MAIL_SERVER"]:
        yield Finding("mail", "ok", "letters go to /dev/mailbox")
    else:
        where = f"{config['MAIL_SERVER']}:{config['MAIL_PORT']}"
        try:
            host = MailConnection(current_app.extensions["mail"]).configure_host()
            host.quit()
        except (smtplib.SMTPException, OSError) as error:
            yield Finding("mail", "wrong", f"{where} does not take letters ({type(error).__name__}: {error})")
        else:
            yield Finding("mail", "ok", where)
        encrypted = config["MAIL_USE_TLS"] or config["MAIL_USE_SSL"]
        if not encrypted and not is_loopback(config["MAIL_SERVER"]):
            yield Finding("mail encryption", "warning", "letters cross the network in the clear (MAIL_USE_TLS)")
    try:
        status = outbox.status()
    except AWAY:
        return
    words = f"{status.waiting} waiting, {status.retrying} retried, {status.dead} given up"
    yield Finding("letters", "warning" if status.degraded or status.dead else "ok", words)


def _flat(info: dict[str, Any]) -> dict[str, Any]:
    # A Cluster answers for each node; one stands for all.
    return info if "redis_version" in info else dict(next(iter(info.values())))


def _first(answer: Any) -> tuple[int, int]:
    return tuple(answer) if not isinstance(answer, dict) else tuple(next(iter(answer.values())))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
