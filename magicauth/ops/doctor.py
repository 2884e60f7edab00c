"""`flask doctor`: every setting and dependency looked at, one finding each."""

import os
import re
import smtplib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any, Literal
from urllib.parse import urlsplit

from flask import current_app

from magicauth import migrating, outbox
from magicauth.config import SECRET_KEY_LENGTH, nearly, unknown
from magicauth.errors import reason_of
from magicauth.extensions import db, redis
from magicauth.network import is_loopback
from magicauth.ops.health import database_answers
from magicauth.respond import AWAY
from magicauth.smtp import MailConnection

State = Literal["ok", "warning", "wrong"]

_REDIS_LEAST = (7, 0)
_CLOCK_SKEW_MOST = 5.0
# Random text of the least length has about twenty different characters; words and repetitions have fewer.
_DIFFERENT_CHARACTERS_LEAST = 12
# For all that is asked of it.
_DNS_TIMEOUT = 2.0
# Reserved names (RFC 2606, RFC 6761) and IP addresses: there are no DNS records to look at.
_NOT_PUBLIC = re.compile(r"(.*\.)?(example(\.(com|net|org))?|test|invalid|localhost|local)|[0-9.]+")
# Set by whoever means to run production.
_OF_PRODUCTION = ("PUBLIC_URL", "DATABASE_URL", "REDIS_URL", "MAIL_SERVER")
_GUESSABLE = "looks guessable; make one with `python -c 'import secrets; print(secrets.token_hex(32))'`"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and in words what follows."""

    check: str
    state: State
    words: str


def examine() -> list[Finding]:
    """Every finding. Asks Redis, the database, the mail server and DNS; changes nothing that lasts."""
    findings: list[Finding] = []
    of_settings = (_mode, _keys, _public_url, _proxies, _origins, _cookies, _times, _metrics_token, _names)
    for check in (*of_settings, _redis, _database, _mail, _sender):
        findings.extend(check())
    return findings


def _mode() -> Iterator[Finding]:
    config = current_app.config
    # Where gunicorn would refuse to start, or use other stores.
    meant = [name for name in _OF_PRODUCTION if os.environ.get(name)]
    if _is_production() or not meant:
        yield Finding("MAGICAUTH_MODE", "ok", config["MAGICAUTH_MODE"])
    else:
        words = f"development, though {', '.join(meant)} is set: gunicorn runs production (MAGICAUTH_MODE=production)"
        yield Finding("MAGICAUTH_MODE", "warning", words)


def _keys() -> Iterator[Finding]:
    config = current_app.config
    key = config["SECRET_KEY"]
    if _is_guessable(key):
        yield Finding("SECRET_KEY", "warning", _GUESSABLE)
    elif "," in key:
        yield Finding("SECRET_KEY", "warning", "holds a comma, and could not stand in SECRET_KEY_FALLBACKS one day")
    else:
        yield Finding("SECRET_KEY", "ok", f"{len(key)} characters")
    yield Finding("SECRET_KEY_FALLBACKS", "ok", f"{len(config['SECRET_KEY_FALLBACKS'])} earlier keys")


def _public_url() -> Iterator[Finding]:
    config = current_app.config
    url = config["PUBLIC_URL"]
    if url is None:
        yield Finding("PUBLIC_URL", "ok", "whatever loopback name is asked")
    elif url.startswith("https:"):
        yield Finding("PUBLIC_URL", "ok", url)
    else:
        yield Finding("PUBLIC_URL", "warning", f"{url}: without https, cookies and links are open to the network")


def _proxies() -> Iterator[Finding]:
    config = current_app.config
    proxies = config["MAGICAUTH_TRUSTED_PROXIES"]
    if _is_production() and proxies == 0 and config["PUBLIC_URL"].startswith("https:"):
        yield Finding(
            "MAGICAUTH_TRUSTED_PROXIES",
            "warning",
            "0: behind a proxy that ends TLS every visitor would count as one; set it to the number of proxies",
        )
    else:
        yield Finding("MAGICAUTH_TRUSTED_PROXIES", "ok", str(proxies))


def _origins() -> Iterator[Finding]:
    config = current_app.config
    if open_to_all := [origin for origin in config["MAGICAUTH_ALLOWED_ORIGINS"] if origin.startswith("http:")]:
        words = f"{', '.join(open_to_all)}: without https, whoever is on the network may speak for that front end"
        yield Finding("MAGICAUTH_ALLOWED_ORIGINS", "warning" if _is_production() else "ok", words)


def _cookies() -> Iterator[Finding]:
    config = current_app.config
    secure = config["SESSION_COOKIE_SECURE"]
    flags = f"{config['SESSION_COOKIE_NAME']}: HttpOnly, SameSite=Lax, " + ("Secure" if secure else "without Secure")
    yield Finding("cookies", "ok" if secure or not _is_production() else "warning", flags)


def _times() -> Iterator[Finding]:
    config = current_app.config
    for kind in ("SESSION", "REMEMBER"):
        idle, absolute = f"MAGICAUTH_{kind}_IDLE", f"MAGICAUTH_{kind}_ABSOLUTE"
        if config[idle] > config[absolute]:
            yield Finding(idle, "warning", f"{config[idle]}: longer than {absolute}, which ends the session before")


def _metrics_token() -> Iterator[Finding]:
    config = current_app.config
    token = config["MAGICAUTH_METRICS_TOKEN"]
    if token and _is_guessable(token):
        yield Finding("MAGICAUTH_METRICS_TOKEN", "warning", _GUESSABLE)


def _names() -> Iterator[Finding]:
    meant = nearly(os.environ)
    for name, setting in meant.items():
        state: State = "wrong" if name.startswith("MAGICAUTH_") else "warning"
        yield Finding(name, state, f"no setting of ours ({setting} is meant?)")
    for name, words in unknown(os.environ.keys() - meant.keys()).items():
        yield Finding(name, "warning", words)


def _is_production() -> bool:
    return bool(current_app.config["MAGICAUTH_MODE"] == "production")


def _is_guessable(secret: str) -> bool:
    return len(secret) < SECRET_KEY_LENGTH or len(set(secret)) < _DIFFERENT_CHARACTERS_LEAST


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
            f"does not answer ({type(error).__name__}): {_without_password(current_app.config['REDIS_URL'])}: {error}",
        )
        return
    version = str(info.get("valkey_version") or info.get("redis_version"))
    enough = tuple(int(part) for part in version.split(".")[:2]) >= _REDIS_LEAST
    yield Finding("Redis", "ok" if enough else "wrong", f"version {version}" + ("" if enough else ", needs 7.0"))
    try:
        # Gone in a moment. One that is full, or a replica, answers everything else.
        redis().set("magicauth:doctor", 1, px=1)
    except AWAY as error:
        yield Finding("Redis writes", "wrong", f"refused, so that nobody can sign in: {error}")
    skew = abs(time.time() - seconds - microseconds / 1e6)
    yield Finding("clock", "ok" if skew < _CLOCK_SKEW_MOST else "wrong", f"{skew:.1f} s away from Redis's")
    if info.get("aof_enabled"):
        yield Finding("Redis persistence", "ok", "append-only file")
    else:
        state: State = "warning" if _is_production() else "ok"
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
            current, head, is_known = migrating.revisions(connection)
    except AWAY as error:
        yield Finding("database", "wrong", f"does not answer ({reason_of(error)})")
        return
    yield Finding("database", "ok", db.engine.dialect.name)
    yield from _encoding()
    if current == head:
        yield Finding("migrations", "ok", f"at {head}")
        yield from _database_writes()
    elif is_known:
        yield Finding("migrations", "wrong", f"at {current or 'none'}, the newest is {head}: run `flask db upgrade`")
    else:
        # While a new release is rolled out, the old one serves on.
        yield Finding("migrations", "warning", f"at {current}, which a newer release has made; this one ends at {head}")


def _encoding() -> Iterator[Finding]:
    if db.engine.dialect.name == "postgresql":
        encoding = db.session.scalar(db.text("SHOW server_encoding"))
        if encoding == "SQL_ASCII":
            words = "SQL_ASCII: the database does not know what it holds; one with ENCODING 'UTF8' would"
            yield Finding("database encoding", "warning", words)
        elif encoding != "UTF8":
            words = f"{encoding}, which cannot hold every name: restore a dump into one with ENCODING 'UTF8'"
            yield Finding("database encoding", "wrong", words)


def _database_writes() -> Iterator[Finding]:
    try:
        # Of no rows. One that is a standby, or locked, answers everything else.
        db.session.execute(db.text("INSERT INTO audit SELECT * FROM audit WHERE 1 = 0"))
    except AWAY as error:
        yield Finding("database writes", "wrong", f"refused, so that nobody can sign in ({reason_of(error)})")
    finally:
        db.session.rollback()


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
        if bool(config["MAIL_USERNAME"]) != bool(config["MAIL_PASSWORD"]):
            words = "one without the other: nobody logs in to the mail server (MAIL_USERNAME, MAIL_PASSWORD)"
            yield Finding("mail log-in", "warning", words)
        encrypted = config["MAIL_USE_TLS"] or config["MAIL_USE_SSL"]
        if not encrypted and not is_loopback(config["MAIL_SERVER"]):
            yield Finding("mail encryption", "warning", "letters cross the network in the clear (MAIL_USE_TLS)")
    try:
        status = outbox.status()
    except AWAY:
        return
    words = f"{status.waiting} waiting, {status.retrying} retried, {status.dead} given up"
    yield Finding("letters", "warning" if status.degraded or status.dead else "ok", words)


def _sender() -> Iterator[Finding]:
    """What the receivers of letters look up about the domain that they come from."""
    if not current_app.config["MAIL_SERVER"]:
        return
    domain = parseaddr(current_app.config["MAIL_DEFAULT_SENDER"])[1].rpartition("@")[2].lower()
    if _NOT_PUBLIC.fullmatch(domain):
        yield Finding("sender", "ok", f"SPF, DKIM and DMARC not checked: {domain} is no public name")
        return
    from dns.exception import DNSException

    until = time.monotonic() + _DNS_TIMEOUT
    try:
        spf = [text for text in _texts(domain, until) or [] if text.lower().split()[:1] == ["v=spf1"]]
        keys = _texts(f"_domainkey.{domain}", until)
        policy = _dmarc(domain, until)
    except (DNSException, OSError) as error:
        yield Finding(
            "sender", "warning", f"SPF, DKIM and DMARC of {domain} not checked: no DNS ({type(error).__name__})"
        )
        return
    if len(spf) != 1:
        yield Finding("SPF", "warning", f"{domain} has {len(spf) or 'no'} v=spf1 records, and wants one")
    elif {"all", "+all"} & set(spf[0].lower().split()):
        yield Finding("SPF", "warning", f"{domain} lets everybody send in its name: {spf[0]}")
    else:
        yield Finding("SPF", "ok", spf[0])
    if keys is None:
        # No name at all below it, says RFC 8020.
        yield Finding("DKIM", "warning", f"there is no key below _domainkey.{domain}")
    else:
        yield Finding(
            "DKIM", "ok", f"there are keys below _domainkey.{domain}; which of them signs, only a letter shows"
        )
    yield Finding("DMARC", "ok" if policy else "warning", policy or f"there is no v=DMARC1 record at _dmarc.{domain}")


def _dmarc(domain: str, until: float) -> str:
    # A domain without a policy has that of the domains above it.
    labels = domain.split(".")
    for parent in (".".join(labels[first:]) for first in range(len(labels) - 1)):
        for text in _texts(f"_dmarc.{parent}", until) or []:
            if text.startswith("v=DMARC1"):
                return text
    return ""


def _texts(name: str, until: float) -> list[str] | None:
    """The TXT records of a name, or None if neither it nor any name below it exists. Raises DNSException."""
    # Not in a worker's memory.
    from dns.resolver import NXDOMAIN, NoAnswer, get_default_resolver

    try:
        answer = get_default_resolver().resolve(name, "TXT", search=False, lifetime=max(0.0, until - time.monotonic()))
    except NXDOMAIN:
        return None
    except NoAnswer:
        return []
    return [b"".join(record.strings).decode("ascii", "replace") for record in answer]


def _flat(info: dict[str, Any]) -> dict[str, Any]:
    # A Cluster answers for each node; one stands for all.
    return info if "redis_version" in info else dict(next(iter(info.values())))


def _first(answer: Any) -> tuple[int, int]:
    return tuple(answer) if not isinstance(answer, dict) else tuple(next(iter(answer.values())))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
