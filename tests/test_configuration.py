"""Settings: read from the environment, refused all at once where missing or weak, and written down.

`python tests/test_configuration.py` writes docs/configuration.md anew from SETTINGS.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from instruments import close
from pages import EMAIL, Letters
from production import PUBLIC_URL, production
from production import SETTINGS as PRODUCTION

from magicauth import config, create_app
from magicauth.config import SETTINGS, ConfigError

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "configuration.md"
NEEDED = ["SECRET_KEY", "PUBLIC_URL", "REDIS_URL", "DATABASE_URL", "MAIL_SERVER"]
HEAD = """\
# Configuration

Every setting is an environment variable; an empty one counts as unset. `create_app({"NAME": "value"})` goes before the
environment. What is missing or wrong is named all at once, one sentence each, and nothing starts (what `create_app` is
given and does not know, before all else). `flask doctor` checks the settings of a deployment, and what they lead to.

To the limits a stranger is a browser that has not signed in to the account before. One that has (the cookie
`magicauth-device`) has the limit `…_PER_ADDRESS` or `…_PER_ACCOUNT` for itself, and is counted in no other.

`python tests/test_configuration.py` makes this page from `SETTINGS` in [magicauth/config.py](../magicauth/config.py).

| name | value | default | meaning |
|---|---|---|---|
"""


def document() -> str:
    """What docs/configuration.md should say."""
    return HEAD + "".join(f"| `{s.name}` | {_kind(s)} | {_default(s)} | {_cell(s.help)} |\n" for s in SETTINGS)


def _kind(setting: config.Setting) -> str:
    try:
        setting.parse("\0")
    except ValueError as sentence:
        words = str(sentence).removeprefix("must ").removeprefix("be ").replace(", not '\\x00'", "")
        return _cell(words.replace("begin with", "begins with"))
    return "list, comma-separated" if isinstance(setting.default, list) else "text"


def _default(setting: config.Setting) -> str:
    if setting.name in NEEDED:
        return "production needs it"
    if setting.default in (None, []):
        return ""
    return f"`{str(setting.default).lower() if isinstance(setting.default, bool) else setting.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").removesuffix(".")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from where the tests run."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)


@pytest.fixture
def complete(redis_url: str, tmp_path: Path) -> dict[str, Any]:
    """All that production needs."""
    return PRODUCTION | {"REDIS_URL": redis_url, "DATABASE_URL": f"sqlite:///{tmp_path / 'x.sqlite3'}"}


def problems(settings: dict[str, Any], folder: Path) -> list[str]:
    """What create_app names as wrong."""
    with pytest.raises(ConfigError) as refused:
        create_app(settings, instance_path=str(folder / "instance"))
    assert not (folder / "instance").exists()
    return refused.value.problems


def test_the_document_says_what_the_table_says():
    assert DOCUMENT.read_text() == document(), "python tests/test_configuration.py writes it anew"


def test_every_setting_has_a_sentence_of_help_and_a_default_that_is_good():
    for setting in SETTINGS:
        assert re.fullmatch(r"[A-Z`].*\.", setting.help), setting.name
        if isinstance(setting.default, str | int) and not isinstance(setting.default, bool):
            setting.parse(str(setting.default))
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


def test_the_example_environment_names_no_setting_that_there_is_not():
    known = {setting.name for setting in SETTINGS}
    for path in (ROOT / ".flaskenv", ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"\b(?:MAGICAUTH_[A-Z_]*[A-Z]|SECRET_KEY\w*|MAIL_[A-Z_]+[A-Z])\b", path.read_text()))
        # The contract leaves out what a row has in common.
        unknown = {name for name in named if not any(one.startswith(name) for one in known)}
        assert not unknown, path


def test_production_names_all_that_is_missing_at_once(tmp_path):
    missing = problems({}, tmp_path)
    assert [sentence.split()[0] for sentence in missing] == NEEDED
    for sentence in missing:
        assert re.fullmatch(r"[A-Z_]+ is missing: .+\.", sentence)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, "", "  ", " " * 40, "\n", "\t "])
def test_production_refuses_to_start_without_any_one_of_them(complete, tmp_path, name, value):
    assert [sentence.split(":")[0] for sentence in problems(complete | {name: value}, tmp_path)] == [
        f"{name} is missing"
    ]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SECRET_KEY", "x" * 31, "SECRET_KEY is too short: it wants 32 random characters or more."),
        ("SECRET_KEY_FALLBACKS", f"{'x' * 40},short", "SECRET_KEY_FALLBACKS holds a key shorter than 32 characters."),
        *(
            ("PUBLIC_URL", value, "PUBLIC_URL must begin with https:// (http is for loopback names only).")
            for value in (
                "http://id.example.org",
                "http://192.168.1.7",
                "http://localhost.evil.example",
                "http://evillocalhost",
                "http://.localhost",
                "http://[::2]",
            )
        ),
        *(
            ("PUBLIC_URL", value, "PUBLIC_URL must be an address such as https://id.example.org, without a path.")
            for value in (
                "id.example.org",
                "ftp://id.example.org",
                "https://",
                "https://id.example.org/auth",
                "https://id.example.org?x",
                "https://id.example.org#x",
                "https://ada@id.example.org",
                "https://id.example.org:port",
                "https://[",
                "javascript:alert(1)",
            )
        ),
        ("MAGICAUTH_SITE_NAME", "x" * 81, "MAGICAUTH_SITE_NAME must be at most 80 characters long."),
        ("MAGICAUTH_MODE", "debug", "MAGICAUTH_MODE must be production or development."),
        ("MAGICAUTH_MODE", "Production", "MAGICAUTH_MODE must be production or development."),
        ("MAGICAUTH_PASSWORDS", "yes", "MAGICAUTH_PASSWORDS must be required, optional or off."),
        ("MAGICAUTH_SIGN_UP", "x", "MAGICAUTH_SIGN_UP must be open, invite or closed."),
        ("MAGICAUTH_MAIL_WORKER", "none", "MAGICAUTH_MAIL_WORKER must be embedded or external."),
        ("DATABASE_URL", "mysql://x", "DATABASE_URL must begin with postgresql+psycopg:// or sqlite://."),
        *(
            (
                "REDIS_URL",
                value,
                "REDIS_URL must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://.",
            )
            for value in ("localhost:6379", "http://localhost", "redis://", "memcached://x")
        ),
        *(
            ("MAGICAUTH_ALLOWED_ORIGINS", value, f"must be origins such as https://app.example.org, not {bad!r}.")
            for value, bad in (
                ("*", "*"),
                ("null", "null"),
                ("https://app.example.org, app.example.org", "app.example.org"),
                ("https://app.example.org/path", "https://app.example.org/path"),
                ("https://*.example.org/", "https://*.example.org/"),
            )
        ),
        *(
            (name, value, f"{name} must be true or false.")
            for name in ("MAIL_USE_TLS", "MAIL_USE_SSL")
            for value in ("2", "ja", "tru")
        ),
        *(
            ("MAIL_DEFAULT_SENDER", value, "must be an address such as help@example.org or Help <help@example.org>.")
            for value in ("help", "help@", "Help <help>", "help@example.org\nBcc: eve@example.org")
        ),
        *(
            ("MAIL_DEFAULT_SENDER", value, "must be an address such as help@example.org or Help <help@example.org>.")
            for value in ("a@example.org, b@example.org", "Help a@example.org", "hilfe@bücher.example")
        ),
        *(
            ("MAIL_SERVER", value, "MAIL_SERVER must be the name of a host, such as smtp.example.org.")
            for value in (
                "http://smtp.example.org",
                "smtp.example.org/x",
                "two names",
                "smtp..example.org",
                "h:25",
                "x" * 64,
            )
        ),
        *(
            ("MAGICAUTH_LIMIT_MAILS_PER_IP", value, 'must be limits such as "5 per hour; 10 per day".')
            for value in ("5 per 0 hours", "5/0 hour")
        ),
        *(("MAGICAUTH_ACCENT", value, "must be a colour such as #3b5bdb.") for value in ("blue", "#fff", "#3b5bdb;x")),
    ],
)
def test_a_bad_value_is_one_sentence(complete, tmp_path, name, value, sentence):
    (problem,) = problems(complete | {name: value}, tmp_path)
    assert problem in (sentence, f"{name} {sentence}")


WHOLE = [s.name for s in SETTINGS if isinstance(s.default, int) and not isinstance(s.default, bool)]
FROM_TO = {
    "MAIL_PORT": (1, 65_535),
    "MAGICAUTH_CODE_DIGITS": (6, 10),
    "MAGICAUTH_TRUSTED_PROXIES": (0, 10),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_whole_and_in_range(complete, tmp_path, name):
    least, most = FROM_TO.get(name, (1, None))
    until = f" to {most}" if most else ""
    bad = ["x", "1.5", "-1", "+5", "1e3", "5 5", "\u0665", "1_000", "0x10", str(least - 1)]
    for value in bad + ([str(most + 1)] if most else []):
        assert problems(complete | {name: value}, tmp_path) == [
            f"{name} must be a whole number from {least}{until}."
        ], value
    too_large = "must be at most 999999999999" if most is None else f"must be a whole number from {least}{until}"
    assert problems(complete | {name: "9" * 13}, tmp_path) == [f"{name} {too_large}."]
    for value in (least, most or 10**9):
        assert config.load(complete | {name: f" {value}\n"}, tmp_path)[name] == value
        assert config.load(complete | {name: value}, tmp_path)[name] == value


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if "LIMIT" in setting.name])
def test_limits_are_in_the_notation_of_the_limits_package(complete, tmp_path, name):
    for value in (
        "x",
        "5",
        "5 per fortnight",
        "per hour",
        "-1 per hour",
        "5 per hour;",
        "0 per hour",
        "5 per hour; 0 per day",
    ):
        sentence = f'{name} must be limits such as "5 per hour; 10 per day".'
        assert problems(complete | {name: value}, tmp_path) == [sentence], value
    items = config.load(complete | {name: "3 per 2 minutes; 1/day"}, tmp_path)[name]
    assert [(item.amount, item.get_expiry()) for item in items] == [(3, 120), (1, 86_400)]


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    wrong = {"MAGICAUTH_MODE": "x", "SECRET_KEY": "short", "MAIL_PORT": "0", "MAIL_USE_TLS": "1", "MAIL_USE_SSL": "1"}
    assert [sentence.split()[0] for sentence in problems(wrong, tmp_path)] == [
        "MAGICAUTH_MODE",
        "MAIL_PORT",
        "PUBLIC_URL",
        "REDIS_URL",
        "DATABASE_URL",
        "MAIL_SERVER",
        "SECRET_KEY",
        "MAIL_USE_TLS",
    ]


def test_a_mistyped_setting_is_told_of_at_the_start(make_new_app, monkeypatch, caplog):
    monkeypatch.setenv("MAGICAUTH_SIGNUP", "closed")
    monkeypatch.setenv("MAGICAUTH_OF_ANOTHER_PROGRAM", "1")
    make_new_app()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ["MAGICAUTH_SIGNUP is no setting, and changes nothing: is MAGICAUTH_SIGN_UP meant?"]


def test_the_exception_says_it_all_in_one_text(tmp_path):
    with pytest.raises(ConfigError) as refused:
        create_app({}, instance_path=str(tmp_path))
    assert str(refused.value) == "magicauth cannot start:\n" + "\n".join(
        f"  - {line}" for line in refused.value.problems
    )


def test_production_starts_with_what_it_needs_and_has_the_defaults(make_new_app, tmp_path):
    app = production(make_new_app, tmp_path)
    given = {*NEEDED, "MAGICAUTH_MODE", "MAGICAUTH_MAIL_WORKER", "MAIL_DEFAULT_SENDER"}
    for setting in SETTINGS:
        if setting.name not in given:
            default = setting.parse(setting.default) if isinstance(setting.default, str) else setting.default
            assert app.config[setting.name] == default, setting.name
    assert app.config["MAIL_DEFAULT_SENDER"] == "no-reply@id.example.org"
    assert app.test_client().get("/auth").status_code == 200


def test_settings_come_from_the_environment_and_arguments_go_before_it(monkeypatch, make_app):
    monkeypatch.setenv("MAGICAUTH_SITE_NAME", "Of the environment")
    monkeypatch.setenv("MAGICAUTH_CODE_DIGITS", "8")
    app = make_app(MAGICAUTH_CODE_DIGITS=7)
    assert (app.config["MAGICAUTH_SITE_NAME"], app.config["MAGICAUTH_CODE_DIGITS"]) == ("Of the environment", 7)
    assert "Of the environment" in app.test_client().get("/auth").text


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        ("https://id.example.org", PUBLIC_URL),
        ("https://id.example.org/", PUBLIC_URL),
        ("https://ID.Example.org:443", PUBLIC_URL),
        ("https://id.example.org:8443", "https://id.example.org:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://id.localhost:8000", "http://id.localhost:8000"),
    ],
)
def test_the_public_url_is_kept_as_browsers_write_an_origin(complete, tmp_path, value, origin):
    assert config.load(complete | {"PUBLIC_URL": value}, tmp_path)["PUBLIC_URL"] == origin


def test_development_may_be_looked_at_from_a_phone_in_the_same_network(make_app):
    url = "http://192.168.1.5:5000"
    app = make_app(PUBLIC_URL=url)
    phone = app.test_client()
    assert phone.post("/users/magic_link", data={"email": EMAIL}, base_url=url).status_code == 303
    assert Letters(app).last().links[0].startswith(f"{url}/users/signup?token=")
    assert phone.get("/auth", base_url="http://localhost:5000").status_code == 200
    assert phone.get("/auth", base_url="http://192.168.1.6:5000").status_code == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("REDIS_URL", value)
            for value in (
                "redis://localhost:hunter2/0",
                "redis://localhost:99999/0",
                "redis://:hunter2/x@localhost:6379/0",
                "redis://:hunter2#x@localhost:6379/0",
                "redis://localhost/hunter2",
                "redis://localhost/0?health_check_interval=hunter2",
                "redis://localhost/0?hunter2=1",
                "redis://localhost/0?decode_responses=true",
                "redis://localhost/0?max_connections=1",
                "rediss://localhost/0?ssl_cert_reqs=none",
                "redis://localhost/0?ssl_ca_certs=/etc/ca.pem",
                "unix:///run/redis.sock?ssl_certfile=x",
                "redis+sentinel://a:26379/mymaster?db=3",
                "redis+cluster://a:6379?password=hunter2",
                "rediss://localhost/0?ssl_check_hostname=false",
                "redis+cluster://localhost?hunter2=1",
                "redis://[::1/0",
                "redis+cluster://localhost:hunter2",
                "redis+sentinel://:hunter2@localhost:26379",
                "redis+sentinel://:hunter2/x@localhost:26379/name",
            )
        ),
        *(
            ("DATABASE_URL", value)
            for value in (
                "postgresql+psycopg2://hunter2@localhost/name",
                "postgresql+asyncpg://hunter2@localhost/name",
                "sqlite+aiosqlite:///hunter2",
                "postgresql+psycopg://ada@localhost:hunter2/name",
            )
        ),
        ("MAGICAUTH_METRICS_TOKEN", "t\u00f6k-hunter2"),
        ("MAIL_PASSWORD", "p\u00e4ss-hunter2"),
        ("MAIL_USERNAME", "\u00e4da-hunter2"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_does_not_repeat_it(complete, tmp_path, name, value):
    (sentence,) = problems(complete | {name: value}, tmp_path)
    assert re.fullmatch(rf"{name} (must|has) .+\.", sentence)
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://ada:p%2Fw@[::1]:6379/3",
        "rediss://localhost:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&socket_timeout=2",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://:pw@a:26379,b:26379/mymaster/1",
        "rediss+cluster://a:6379,b:6379",
        "rediss+sentinel://a:26379/mymaster?ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_every_form_of_a_redis_url_is_taken(complete, tmp_path, url):
    assert config.load(complete | {"REDIS_URL": url}, tmp_path)["REDIS_URL"] == url


def test_a_limit_that_is_given_twice_counts_once_and_none_outlives_its_counter(complete, tmp_path):
    name = "MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT"
    items = config.load(complete | {name: "4 per hour; 4 per 60 minutes; 5 per hour"}, tmp_path)[name]
    assert [(item.amount, item.get_expiry()) for item in items] == [(4, 3600), (5, 3600)]
    assert len(problems(complete | {name: "300 per 99999999999 years"}, tmp_path)) == 1


@pytest.mark.parametrize(("url", "sender"), [("http://[::1]:8000", "localhost"), ("https://id.example.org", None)])
def test_the_sender_is_of_a_host_that_mail_servers_take(complete, tmp_path, url, sender):
    values = config.load(complete | {"PUBLIC_URL": url}, tmp_path)
    assert values["MAIL_DEFAULT_SENDER"] == f"no-reply@{sender or 'id.example.org'}"


def test_lists_are_comma_separated_and_forgiving(complete, tmp_path):
    given = {"MAGICAUTH_ALLOWED_ORIGINS": " https://app.example.org/ ,,https://B.example.org:8443 "}
    loaded = config.load(complete | given | {"SECRET_KEY_FALLBACKS": f"{'a' * 32} , {'b' * 32}"}, tmp_path)
    assert loaded["MAGICAUTH_ALLOWED_ORIGINS"] == ["https://app.example.org", "https://b.example.org:8443"]
    assert loaded["SECRET_KEY_FALLBACKS"] == ["a" * 32, "b" * 32]


def test_flags_are_read_as_people_write_them(complete, tmp_path):
    for value in ("1", "true", "True", "YES", "on", True):
        assert config.load(complete | {"MAIL_USE_TLS": value}, tmp_path)["MAIL_USE_TLS"] is True, value
    for value in ("0", "false", "No", "off", "", None, False):
        assert config.load(complete | {"MAIL_USE_TLS": value}, tmp_path)["MAIL_USE_TLS"] is False, value


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_means_the_driver_that_is_installed(complete, tmp_path, scheme):
    given = complete | {"DATABASE_URL": f"{scheme}://ada@localhost/magicauth"}
    assert config.load(given, tmp_path)["DATABASE_URL"] == "postgresql+psycopg://ada@localhost/magicauth"


def test_a_password_of_the_mail_server_keeps_the_space_around_it(complete, tmp_path):
    assert config.load(complete | {"MAIL_PASSWORD": " pass word "}, tmp_path)["MAIL_PASSWORD"] == " pass word "


def test_development_says_in_a_sentence_that_its_folder_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as refused:
        create_app({"MAGICAUTH_MODE": "development"}, instance_path=str(tmp_path / "file" / "instance"))
    assert refused.value.problems == [
        f"The folder {tmp_path}/file/instance, where development keeps everything: Not a directory."
    ]


def test_a_file_of_sqlite_is_its_owners_alone_in_production_too(complete, tmp_path, redis_url):
    instance = tmp_path / "instance"
    settings = complete | {"REDIS_URL": redis_url, "DATABASE_URL": "sqlite:///it.sqlite3"}
    before = os.umask(0o022)
    try:
        close(create_app(settings, instance_path=str(instance)))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (instance, instance / "it.sqlite3")]
    assert modes == [0o700, 0o600]


def test_where_it_cannot_be_made_that_is_said_in_a_sentence(complete, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as refused:
        create_app(
            complete | {"DATABASE_URL": "sqlite:///it.sqlite3"}, instance_path=str(tmp_path / "file" / "instance")
        )
    assert refused.value.problems == [
        f"DATABASE_URL is {tmp_path}/file/instance/it.sqlite3, which cannot be made: Not a directory."
    ]


def test_development_needs_nothing_and_makes_a_key_once(tmp_path, redis_url):
    settings = {"MAGICAUTH_MODE": "development", "REDIS_URL": redis_url}
    first, second = config.load(settings, tmp_path / "a"), config.load(settings, tmp_path / "a")
    assert first["SECRET_KEY"] == second["SECRET_KEY"] != config.load(settings, tmp_path / "b")["SECRET_KEY"]
    assert len(first["SECRET_KEY"]) == 64
    key = tmp_path / "a" / "secret_key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert first["DATABASE_URL"] == f"sqlite:///{tmp_path / 'a' / 'magicauth.sqlite3'}"
    assert first["MAIL_DEFAULT_SENDER"] == "no-reply@localhost"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
