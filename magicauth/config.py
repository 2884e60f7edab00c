"""Every setting: name, how it is read, default, help. Production refuses to start with one missing or unusable."""

import contextlib
import difflib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import getaddresses
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import click
import limits
from redis.connection import parse_url
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from magicauth.network import ip_address, is_browsers_loopback, is_loopback, origin_of

SECRET_KEY_LENGTH = 32
DAY = 86_400
# Seconds or guesses: what Redis can count with.
_MOST = 999_999_999_999
# Flask's and Flask-SQLAlchemy's, which follow from settings of ours or keep the sign-in safe.
_SET_HERE = (
    r"SESSION_|(APPLICATION_ROOT|PERMANENT_SESSION_LIFETIME|SQLALCHEMY_DATABASE_URI"
    r"|MAX_CONTENT_LENGTH|MAX_FORM_PARTS|MAX_FORM_MEMORY_SIZE)$"
)
# In a letter's subject, which is one line: of mail that may have 998 octets.
_LINE_LENGTH = 80
# What is less like a setting of ours than that is not taken for one.
_MISSPELT_LIKENESS = 0.85
# What may stand after the question mark of REDIS_URL. redis-py takes more, which change what our code gets.
_REDIS_OPTIONS = (
    *("db", "username", "password", "client_name"),
    *("health_check_interval", "socket_timeout", "socket_connect_timeout"),
)
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password")
# Nor may it turn off what is checked; to say that it is on changes nothing.
_TLS_DEFAULTS = (("ssl_cert_reqs", "required"), ("ssl_check_hostname", "true"))
# MAIL_SERVR is taken for MAIL_SERVER, and PORT, which is another program's, for nothing.
_NEARLY = 0.9
# No budget counts for longer: Redis must be able to keep its counter.
_LONGEST_LIMIT = 3660 * DAY


class ConfigError(click.ClickException):
    """The settings cannot be used. `problems` has one sentence for each; `flask` prints them without a trace."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("magicauth cannot start:\n" + "\n".join(f"  - {problem}" for problem in problems))


@dataclass(frozen=True)
class Setting:
    """One setting. `parse` turns the environment's string into the value or raises ValueError with a sentence."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str


def _of_mail_server(value: str) -> str:
    if not value.isascii():
        raise ValueError("must be ASCII: smtplib sends nothing else to log in with")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    if len(value) > _LINE_LENGTH:
        raise ValueError(f"must be at most {_LINE_LENGTH} characters long")
    return value


def _sender_of_letters(value: str) -> str:
    # A name of any script, but an address in ASCII: a domain as its `xn--` form.
    if not value.isprintable() or not re.fullmatch(r"[!-;=?A-~]+@[!-;=?A-~]+", _only_address(value)):
        raise ValueError("must be an address such as help@example.org or Help <help@example.org>")
    return value


def _only_address(value: str) -> str:
    addresses = getaddresses([value])
    return addresses[0][1] if len(addresses) == 1 else ""


def _mail_server(value: str) -> str:
    with contextlib.suppress(ValueError):
        ip_address(value)
        return value
    if len(value) > 253 or not re.fullmatch(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", value):
        raise ValueError("must be the name of a host, such as smtp.example.org")
    return value


def _flag(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if most is None and re.fullmatch(r"0*[1-9][0-9]{12,}", value):
            raise ValueError(f"must be at most {_MOST}")
        if not re.fullmatch(r"[0-9]{1,12}", value) or int(value) < least or (most is not None and int(value) > most):
            raise ValueError(f"must be a whole number from {least}" + (f" to {most}" if most is not None else ""))
        return int(value)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError("must be " + ", ".join(words[:-1]) + f" or {words[-1]}")
        return value

    return parse


def _limit(value: str) -> list[limits.RateLimitItem]:
    try:
        items = limits.parse_many(value)
    except ValueError:
        items = []
    # The package takes "per 0 hours" for one hour.
    per_nothing = re.search(r"(per|/)\s*0+\b", value)
    if not items or per_nothing or any(item.amount < 1 or item.get_expiry() > _LONGEST_LIMIT for item in items):
        raise ValueError('must be limits such as "5 per hour; 10 per day"')
    # "60 minutes" are an hour: the same counter twice would count twice.
    return list({(item.amount, item.get_expiry()): item for item in items}.values())


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def _public_url(value: str) -> str:
    origin = origin_of(value)
    if origin is None or urlsplit(value).path not in ("", "/") or urlsplit(value).query or urlsplit(value).fragment:
        raise ValueError("must be an address such as https://id.example.org, without a path")
    return origin


def _origins(value: str) -> list[str]:
    origins = []
    for word in _words(value):
        origin = origin_of(word)
        if origin is None or origin != word.rstrip("/").lower():
            raise ValueError(f"must be origins such as https://app.example.org, not {word!r}")
        origins.append(origin)
    return origins


def _database_url(value: str) -> str:
    if not re.match(r"(sqlite(\+pysqlite)?|postgres|postgresql(\+psycopg)?)://", value):
        raise ValueError("must begin with postgresql+psycopg:// or sqlite://")
    try:
        make_url(value)
    except (ArgumentError, ValueError):
        raise ValueError("must be a URL such as postgresql+psycopg://user:password@host:5432/name") from None
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", value)


def _redis_url(value: str) -> str:
    if not re.match(r"(rediss?|unix|rediss?\+sentinel|rediss?\+cluster)://.", value):
        raise ValueError("must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    try:
        parts = urlsplit(value)
        ports = [urlsplit(f"//{host}").port for host in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        raise ValueError("must have numbers for ports, and what is special in a password as %2F and the like") from None
    if parts.scheme.endswith("+sentinel") and not re.fullmatch(r"/[^/]+(/[0-9]*)?", parts.path):
        raise ValueError("must name the master after the hosts, such as redis+sentinel://host:26379/mymaster")
    if parts.scheme in ("redis", "rediss") and not (len(ports) == 1 and re.fullmatch(r"(/[0-9]*)?", parts.path)):
        raise ValueError("must name one host and the number of a database, such as redis://localhost:6379/0")
    try:
        allowed = () if "+" in parts.scheme else _REDIS_OPTIONS
        for name, option in parse_qsl(parts.query, keep_blank_values=True):
            of_tls = name in _TLS_OPTIONS or (name, option.lower()) in _TLS_DEFAULTS
            if name not in allowed and not (of_tls and parts.scheme.startswith("rediss")):
                raise ValueError
        if "+" not in parts.scheme:
            parse_url(value)
    except ValueError:
        raise ValueError("has an option after the question mark that cannot be used") from None
    return value


def _token(value: str) -> str:
    if not re.fullmatch(r"[ -~]+", value):
        raise ValueError("must be ASCII: it is sent in a header")
    return value


def _accent(value: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ValueError("must be a colour such as #3b5bdb")
    return value.lower()


SETTINGS = [
    Setting(
        "MAGICAUTH_MODE",
        _one_of("production", "development"),
        "production",
        "`production` refuses to start with a setting missing or unusable; `development` needs none.",
    ),
    Setting("SECRET_KEY", str, None, "Keys for codes and links are made from it. 32 characters or more."),
    Setting(
        "SECRET_KEY_FALLBACKS",
        _words,
        [],
        "Earlier secret keys, comma-separated: codes and links made under them stay good.",
    ),
    Setting(
        "PUBLIC_URL",
        _public_url,
        None,
        "Base of mailed links; the Host and Origin that are allowed. https, but for loopback names and in development.",
    ),
    Setting(
        "DATABASE_URL",
        _database_url,
        None,
        "`postgresql+psycopg://…` or `sqlite:///…`. Development: a file in `instance/`.",
    ),
    Setting(
        "REDIS_URL",
        _redis_url,
        None,
        "`redis://`, `rediss://`, `unix://`, `redis+sentinel://h:p,h:p/name` or `redis+cluster://h:p,h:p`. "
        "Development: an embedded server in `instance/`.",
    ),
    Setting("MAIL_SERVER", _mail_server, None, "Host of the SMTP server. Development without one: the mailbox page."),
    Setting("MAIL_PORT", _whole(1, 65_535), 25, "Port of the SMTP server."),
    Setting("MAIL_USE_TLS", _flag, False, "Whether to ask for TLS by STARTTLS; the certificate is checked."),
    Setting("MAIL_USE_SSL", _flag, False, "Whether to speak TLS from the start; the certificate is checked."),
    Setting("MAIL_USERNAME", _of_mail_server, None, "Name to log in to the SMTP server with."),
    Setting("MAIL_PASSWORD", _of_mail_server, None, "Password to log in to the SMTP server with."),
    Setting(
        "MAIL_DEFAULT_SENDER",
        _sender_of_letters,
        None,
        "Sender of letters. Without it: `no-reply@` the host of PUBLIC_URL.",
    ),
    Setting(
        "MAGICAUTH_MAIL_WORKER",
        _one_of("embedded", "external"),
        "embedded",
        "`embedded`: a worker thread in each web process; `external`: `flask mail worker` sends the letters.",
    ),
    Setting(
        "MAGICAUTH_PASSWORDS",
        _one_of("required", "optional", "off"),
        "required",
        "Whether an account must, may or cannot have a password.",
    ),
    Setting(
        "MAGICAUTH_SIGN_UP",
        _one_of("open", "invite", "closed"),
        "open",
        "Who may sign up. Links that were mailed before stay good.",
    ),
    Setting("MAGICAUTH_CODE_DIGITS", _whole(6, 10), 6, "Digits of a mailed code."),
    Setting("MAGICAUTH_CODE_ATTEMPTS", _whole(1), 5, "Guesses for one challenge."),
    Setting("MAGICAUTH_SIGN_IN_TTL", _whole(1), 600, "Seconds that a sign-in letter is good."),
    Setting("MAGICAUTH_SIGN_UP_TTL", _whole(1), DAY, "Seconds that a sign-up link is good."),
    Setting("MAGICAUTH_RESET_TTL", _whole(1), 3600, "Seconds that a letter for a new password is good."),
    Setting("MAGICAUTH_RESEND_AFTER", _whole(1), 60, "Seconds between two letters of one challenge."),
    Setting(
        "MAGICAUTH_SESSION_IDLE",
        _whole(1),
        1800,
        "Seconds without use after which a session ends; at most a quarter of them, or a minute, earlier.",
    ),
    Setting("MAGICAUTH_SESSION_ABSOLUTE", _whole(1), 43_200, "Seconds after its sign-in that a session ends."),
    Setting("MAGICAUTH_REMEMBER_IDLE", _whole(1), 14 * DAY, "The same for `keep me signed in`: after its last use."),
    Setting("MAGICAUTH_REMEMBER_ABSOLUTE", _whole(1), 30 * DAY, "The same for `keep me signed in`: after sign-in."),
    Setting("MAGICAUTH_FRESH_FOR", _whole(1), 900, "Seconds that a sign-in counts as fresh."),
    Setting(
        "MAGICAUTH_LIMIT_MAILS_PER_ADDRESS",
        _limit,
        "5 per hour; 10 per day",
        "Letters asked for by strangers, for one address.",
    ),
    Setting(
        "MAGICAUTH_LIMIT_MAILS_PER_IP",
        _limit,
        "20 per hour",
        "Letters asked for by strangers, from one client address.",
    ),
    Setting("MAGICAUTH_LIMIT_MAILS_GLOBAL", _limit, "600 per hour", "Letters asked for by all strangers."),
    Setting(
        "MAGICAUTH_LIMIT_CODES_PER_ACCOUNT",
        _limit,
        "10 per 10 minutes; 20 per hour; 50 per day",
        "Wrong codes of strangers over all challenges of an address.",
    ),
    Setting("MAGICAUTH_LIMIT_CODES_PER_IP", _limit, "50 per hour", "Wrong codes of strangers from one client address."),
    Setting("MAGICAUTH_LIMIT_CODES_GLOBAL", _limit, "1000 per 5 minutes", "Wrong codes of all strangers."),
    Setting(
        "MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT",
        _limit,
        "10 per 5 minutes",
        "Wrong passwords of strangers for an address.",
    ),
    Setting(
        "MAGICAUTH_LIMIT_PASSWORDS_PER_IP",
        _limit,
        "20 per 5 minutes",
        "Wrong passwords of strangers from one client address.",
    ),
    Setting("MAGICAUTH_LIMIT_PASSWORDS_GLOBAL", _limit, "1000 per 5 minutes", "Wrong passwords of all strangers."),
    Setting("MAGICAUTH_TRUSTED_PROXIES", _whole(0, 10), 0, "How many proxies in front may set `X-Forwarded-*`."),
    Setting(
        "MAGICAUTH_ALLOWED_ORIGINS",
        _origins,
        [],
        "Origins of a separate, same-site front end that may call the JSON endpoints, comma-separated.",
    ),
    Setting("MAGICAUTH_SITE_NAME", _line, "magicauth", "The site's name in titles and letters."),
    Setting("MAGICAUTH_ACCENT", _accent, None, "Accent colour of pages and letters, such as `#3b5bdb`."),
    Setting(
        "MAGICAUTH_METRICS_TOKEN", _token, None, "Bearer token that opens `/metrics`; without it there is no such page."
    ),
]

_KNOWN = [setting.name for setting in SETTINGS]
# What production cannot do without, and why.
_NEEDED = {
    "SECRET_KEY": f"codes and links are made from it; it wants {SECRET_KEY_LENGTH} random characters or more",
    "PUBLIC_URL": "it is the base of every mailed link, such as https://id.example.org",
    "REDIS_URL": "sessions live there, such as redis://localhost:6379/0",
    "DATABASE_URL": "accounts live there, such as postgresql+psycopg://user:password@localhost/magicauth",
    "MAIL_SERVER": "letters leave through it, such as smtp.example.org",
}


def unknown(names: Iterable[str]) -> dict[str, str]:
    """Names that begin as settings of ours and are none, and what follows."""
    found = sorted(name for name in names if name.startswith("MAGICAUTH_") and name not in _KNOWN)
    near = {name: meant(name, _MISSPELT_LIKENESS) for name in found}
    return {name: "no setting of ours" + (f" ({near[name]} is meant?)" if near[name] else "") for name in found}


def nearly(names: Iterable[str]) -> dict[str, str]:
    """Names that are none of our settings, but nearly: and which is meant. Other programs have theirs beside them."""
    near = {name: meant(name, _NEARLY) for name in sorted(names) if name not in _KNOWN}
    return {name: setting for name, setting in near.items() if setting}


def meant(name: str, likeness: float) -> str:
    """The setting whose name is at least so like this one (1.0: the same), or ""."""
    return next(iter(difflib.get_close_matches(name, _KNOWN, n=1, cutoff=likeness)), "")


def for_flask(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is given to `create_app` for Flask, other extensions or the site itself. Raises ConfigError."""
    problems = [f"{name} is {words}." for name, words in unknown(settings).items()]
    kept_back = [name for name in settings if re.match(_SET_HERE, name)]
    problems += [f"{name} is magicauth's to set: see docs/customising.md." for name in kept_back]
    if problems:
        raise ConfigError(problems)
    return {name: value for name, value in settings.items() if name not in _KNOWN}


def folder(name: str, given: str | None) -> str | None:
    """The folder that is given to `create_app` as `name`, as an absolute path. Raises ConfigError where there is
    none."""
    if given is None:
        return None
    path = Path(given).absolute()
    if not path.is_dir():
        raise ConfigError([f"{name} is {path}, which is no folder."])
    return str(path)


def load(environ: Mapping[str, Any], instance: Path) -> dict[str, Any]:
    """The value of every setting, from `environ` (strings, as in `os.environ`) and the defaults.

    Raises ConfigError with all that is wrong. Development fills what is missing from the folder `instance`.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in SETTINGS:
        default = setting.parse(setting.default) if isinstance(setting.default, str) else setting.default
        try:
            given = _given(environ, setting)
            values[setting.name] = default if given is None else setting.parse(given)
        except ValueError as problem:
            values[setting.name] = default
            problems.append(f"{setting.name} {problem}.")
    if values["MAGICAUTH_MODE"] == "production":
        problems += _production_problems(environ, values)
    if values["MAIL_USE_TLS"] and values["MAIL_USE_SSL"]:
        problems.append("MAIL_USE_TLS and MAIL_USE_SSL exclude each other; set one of them.")
    if problems:
        raise ConfigError(problems)
    if values["MAGICAUTH_MODE"] == "development":
        _fill_for_development(values, instance)
    values["MAIL_DEFAULT_SENDER"] = values["MAIL_DEFAULT_SENDER"] or _sender(values["PUBLIC_URL"])
    return values


def _given(environ: Mapping[str, Any], setting: Setting) -> str | None:
    """The setting as a string; None if it is missing or blank. Only names and passwords keep space around them."""
    given = environ.get(setting.name)
    try:
        text = ",".join(map(_text, given)) if isinstance(given, list | tuple | set) else _text(given)
    except UnicodeError:
        raise ValueError("must be UTF-8 text") from None
    if not text.strip():
        return None
    return text if setting.parse is _of_mail_server else text.strip()


def _text(given: Any) -> str:
    text = given.decode() if isinstance(given, bytes) else "" if given is None else str(given)
    # Bytes of the environment that are no UTF-8 are surrogates here.
    text.encode()
    return text


def _production_problems(environ: Mapping[str, Any], values: dict[str, Any]) -> list[str]:
    given = {name for name in _NEEDED if str(environ.get(name) or "").strip()}
    problems = [f"{name} is missing: {why}." for name, why in _NEEDED.items() if name not in given]
    public_url = urlsplit(values["PUBLIC_URL"] or "")
    if public_url.scheme == "http" and not is_browsers_loopback(public_url.hostname or ""):
        problems.append("PUBLIC_URL must begin with https:// (http is for loopback names only).")
    if values["SECRET_KEY"] and len(values["SECRET_KEY"]) < SECRET_KEY_LENGTH:
        problems.append(f"SECRET_KEY is too short: it wants {SECRET_KEY_LENGTH} random characters or more.")
    if any(len(key) < SECRET_KEY_LENGTH for key in values["SECRET_KEY_FALLBACKS"]):
        problems.append(f"SECRET_KEY_FALLBACKS holds a key shorter than {SECRET_KEY_LENGTH} characters.")
    return problems


def _fill_for_development(values: dict[str, Any], instance: Path) -> None:
    try:
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whether it takes what is written to it: all of development's stores lie there.
        with tempfile.TemporaryFile(dir=instance, buffering=0) as probe:
            probe.write(b"\0" * 4096)
        values["SECRET_KEY"] = values["SECRET_KEY"] or _kept_secret(instance / "secret_key")
    except OSError as error:
        raise ConfigError([f"The folder {instance}, where development keeps everything: {error.strerror}."]) from None
    values["DATABASE_URL"] = values["DATABASE_URL"] or f"sqlite:///{instance / 'magicauth.sqlite3'}"


def _kept_secret(path: Path) -> str:
    # Written aside and linked, so that of several processes that start at once one key wins, whole.
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


def _sender(public_url: str | None) -> str:
    host = urlsplit(public_url or "http://localhost").hostname or "localhost"
    # SMTP has its own way to write numbers, which mail servers seldom take.
    return f"no-reply@{'localhost' if is_loopback(host) else host}"
