"""What a request may cost in Redis commands and SQL statements, counted by the servers themselves."""

import re
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from instruments import change_user, delivering, later, quiet_app, redis_commands, sql_statements
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, sign_in, sign_up

STRANGER = "eve@example.org"
DISABLED = "dis@example.org"
OTHER_PASSWORD = "quite another passphrase"


@pytest.fixture(scope="module")
def with_accounts(redis_url, tmp_path_factory):
    """An app with two accounts, one of them disabled, where nobody works behind the scenes while it is measured."""
    no_limit = "100000 per second"
    limits = {
        f"MAGICAUTH_LIMIT_{kind}_{per}": no_limit
        for kind in ("MAILS", "PASSWORDS")
        for per in ("PER_IP", "PER_ADDRESS" if kind == "MAILS" else "PER_ACCOUNT")
    }
    with quiet_app(redis_url, tmp_path_factory.mktemp("instance"), **limits) as app:
        with delivering(app):
            sign_up(app.test_client())
            sign_up(app.test_client(), DISABLED)
            Letters(app).all()
        change_user(app, DISABLED, disabled=True)
        yield app


@pytest.fixture
def app(with_accounts, redis):
    """It, while Redis is empty."""
    return with_accounts


@pytest.fixture
def count(app, redis):
    """Counts what a request costs: (answer, Redis commands, SQL statements). Connections stand already."""

    def counted(act):
        app.test_client().get("/readyz")
        with redis_commands(redis) as commands, sql_statements(app) as statements:
            answer = act()
        return answer, commands, statements

    return counted


@pytest.fixture
def ada(app):
    """A browser that is signed in."""
    browser = app.test_client()
    with delivering(app):
        assert sign_in(browser).status_code == 303
        Letters(app).all()
    return browser


# --- those who are signed in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, JSON])
def test_a_guarded_page_costs_one_redis_command_and_no_sql(count, ada, headers):
    for _ in range(3):
        answer, commands, statements = count(lambda: ada.get("/home", headers=headers))
        assert answer.status_code == 200
        assert EMAIL in answer.text
        assert (commands, statements) == (["GET"], [])


def test_once_a_minute_it_costs_one_more_of_each(count, ada, redis):
    for minute in (1, 2, 3):
        with later(redis, 61 * minute):
            answer, commands, statements = count(lambda: ada.get("/home"))
            assert answer.status_code == 200
            assert commands == ["GET", "SET"]
            assert len(statements) == 1 and statements[0].startswith("SELECT")
            assert count(lambda: ada.get("/home"))[1:] == (["GET"], [])


def test_the_sign_in_page_costs_one_command_for_who_is_signed_in(count, ada):
    answer, commands, statements = count(lambda: ada.get("/auth"))
    assert (answer.location, commands, statements) == ("/home", ["GET"], [])


def test_a_dead_cookie_costs_one_command_and_is_not_written_back(app, count):
    browser = app.test_client()
    browser.set_cookie("magicauth", "A" * 43)
    answer, commands, statements = count(lambda: browser.get("/home", headers=JSON))
    assert (answer.status_code, commands, statements) == (401, ["GET"], [])


@pytest.mark.parametrize("cookie", ["x", "A" * 42, "A" * 44, "*" * 43, "a b", "../" * 14 + "a", "\u00e9" * 43])
def test_a_cookie_that_cannot_be_a_session_costs_nothing(app, count, cookie):
    answer, commands, statements = count(
        lambda: app.test_client(use_cookies=False).get("/home", headers={**JSON, "Cookie": f"magicauth={cookie}"})
    )
    assert (answer.status_code, commands, statements) == (401, [], [])


# --- those who are not -----------------------------------------------------------------------------------------------


def _anonymous_pages(app):
    """Every address that a GET without parameters may ask for."""
    rules = [rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods and not rule.arguments]
    # Readiness is asked of the stores themselves.
    return sorted(path for path in rules if path not in ("/readyz",))


def test_an_anonymous_get_costs_no_redis_command_no_cookie_and_no_session(app, count, redis):
    keys = set(redis.keys())
    pages = _anonymous_pages(app)
    assert {"/", "/auth", "/verify", "/users/magic_link", "/home", "/healthz", "/auth/reset"} <= set(pages)
    for path in pages:
        answer, commands, statements = count(lambda path=path: app.test_client().get(path))
        assert (path, commands, statements) == (path, [], [])
        assert "Set-Cookie" not in answer.headers, path
    assert set(redis.keys()) <= keys


def test_an_anonymous_page_with_parameters_costs_none_either(app, count):
    for path in (
        "/auth?next=/home&email=ada@example.org",
        "/auth/link",
        "/auth/link?token=nonsense",
        "/nowhere",
        "/users/signup",
    ):
        answer, commands, statements = count(lambda path=path: app.test_client().get(path))
        assert (path, commands, statements) == (path, [], [])
        assert "Set-Cookie" not in answer.headers


def test_health_writes_nothing(app, count):
    for _ in range(2):
        _, commands, _ = count(lambda: app.test_client().get("/readyz"))
        assert not set(commands) & {"SET", "HSET", "DEL", "EXPIRE", "INCR", "EVAL", "LPUSH", "ZADD"}
    assert count(lambda: app.test_client().get("/healthz"))[1:] == ([], [])


def test_files_cost_nothing_whoever_asks(app, count, ada):
    page = BeautifulSoup(ada.get("/home").text, "html.parser")
    files = [tag["src"] for tag in page.find_all("script")] + [tag["href"] for tag in page.find_all("link")]
    assert len(files) >= 3
    for path in files:
        for browser in (ada, app.test_client()):
            answer, commands, statements = count(lambda path=path, browser=browser: browser.get(path, buffered=True))
            assert answer.status_code == 200
            assert (commands, statements) == ([], [])
            assert "Set-Cookie" not in answer.headers


def test_a_form_that_is_refused_unread_costs_nothing(app, count):
    cross = {"Sec-Fetch-Site": "cross-site"}
    for act in (
        lambda: app.test_client().post("/auth", data={"email": EMAIL}, headers=cross),
        lambda: app.test_client().post("/auth", data={"email": "not an address"}),
        lambda: app.test_client().post("/auth", data="x", content_type="text/plain"),
        lambda: app.test_client().post("/auth/link", data={}),
        lambda: app.test_client().post("/verify", data={"OTP": "123456"}),
        lambda: app.test_client().post("/verify/resend"),
    ):
        answer, commands, statements = count(act)
        assert (commands, statements) == ([], [])
        assert "Set-Cookie" not in answer.headers


# --- known and unknown addresses -------------------------------------------------------------------------------------


def _costs(count, act):
    """Names of the Redis commands, in order, and the SQL without its values."""
    answer, commands, statements = count(act)
    return answer.status_code, commands, statements


@pytest.mark.parametrize("password", [None, "not the one"])
def test_asking_to_sign_in_costs_the_same_for_every_address(app, count, password):
    costs = {}
    for email in (EMAIL, STRANGER, DISABLED):
        form = {"email": email} | ({"password": password} if password else {})
        browser = app.test_client()
        costs[email] = [
            _costs(count, lambda browser=browser, form=form: browser.post("/auth", data=form)) for _ in range(3)
        ]
        costs[email] += [_costs(count, lambda form=form: app.test_client().post("/auth", json=form))]
    assert costs[EMAIL] == costs[STRANGER] == costs[DISABLED]
    first, repeated, *_ = costs[EMAIL]
    assert first[0] == (401 if password else 303)
    # A second ask within the minute is cheaper, and as cheap for all.
    assert password or len(repeated[1]) < len(first[1])


def test_asking_again_when_the_wait_is_over_costs_the_same_for_every_address(app, count, redis):
    costs = {}
    browsers = {email: app.test_client() for email in ("joe@example.org", EMAIL, STRANGER, DISABLED)}
    for email, browser in browsers.items():
        browser.post("/auth", data={"email": email})
    with later(redis, 61):
        # The server learns the scripts with the first that uses them.
        browsers.pop("joe@example.org").post("/verify/resend")
        for email, browser in browsers.items():
            costs[email] = [
                _costs(count, lambda browser=browser, email=email: browser.post("/auth", data={"email": email}))
            ]
    with later(redis, 122):
        for email, browser in browsers.items():
            costs[email] += [_costs(count, lambda browser=browser: browser.post("/verify/resend"))]
    assert costs[EMAIL] == costs[STRANGER] == costs[DISABLED]
    assert [status for status, _, _ in costs[EMAIL]] == [303, 303]


def test_a_wrong_code_costs_the_same_for_every_address(app, count):
    costs = {}
    for email in (EMAIL, STRANGER, DISABLED):
        browser = app.test_client()
        browser.post("/auth", data={"email": email})
        costs[email] = [
            _costs(count, lambda browser=browser: browser.post("/verify", json={"OTP": "x"})) for _ in range(6)
        ]
    assert costs[EMAIL] == costs[STRANGER] == costs[DISABLED]
    assert [status for status, _, _ in costs[EMAIL]] == [401] * 5 + [404]


@pytest.mark.parametrize("path", ["/users/magic_link", "/auth/reset"])
def test_asking_for_other_letters_costs_the_same_for_every_address(app, count, path):
    # The server learns the scripts with the first that uses them.
    app.test_client().post(path, data={"email": "joe@example.org"})
    costs = {
        email: [
            _costs(count, lambda email=email: app.test_client().post(path, data={"email": email})) for _ in range(2)
        ]
        for email in (EMAIL, STRANGER, DISABLED)
    }
    assert costs[EMAIL] == costs[STRANGER] == costs[DISABLED]
    assert {status for status, _, _ in costs[EMAIL]} == {303}


def test_the_queue_is_handed_the_same_for_every_address(app, redis):
    shapes = {}
    for email in (EMAIL, STRANGER, DISABLED):
        before = set(redis.hgetall("{magicauth-mail}:letters.msgs"))
        app.test_client().post("/auth", data={"email": email})
        queued = redis.hgetall("{magicauth-mail}:letters.msgs")
        (body,) = [value.decode() for key, value in queued.items() if key not in before]
        assert email not in body
        # Ids and moments differ in every letter; nothing else may.
        shapes[email] = re.sub(r'"[A-Za-z0-9_-]{26}"|"[0-9a-f-]{36}"|[0-9]{10,}(\.[0-9]+)?', "*", body)
    assert shapes[EMAIL] == shapes[STRANGER] == shapes[DISABLED]


def test_a_whole_sign_in_stays_cheap(app, count, ada):
    browser = app.test_client()
    form = {"email": EMAIL, "password": PASSWORD}
    _, asking, asking_sql = count(lambda: browser.post("/auth", data=form))
    assert len(asking) <= 7 and len(asking_sql) == 1
    with delivering(app):
        code = Letters(app).last().code
    done, finishing, finishing_sql = count(lambda: browser.post("/verify", data={"OTP": code}))
    assert done.location == "/home"
    # Session and challenge read, guess counted, challenge ended, budgets given back and cleared, a letter about the new
    # browser, the old session deleted, the new one written and indexed. Whoever adds to that should know.
    assert len(finishing) <= 20 and len(finishing_sql) <= 3
    assert is_signed_in(browser)


def test_a_start_loads_nothing_that_few_need_and_that_takes_long():
    dear = ("alembic", "dns", "email_validator", "psycopg", "sqlalchemy.dialects.postgresql", "zxcvbn")
    ask = f"import sys, magicauth; print([name for name in {dear} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True).strip() == "[]"
