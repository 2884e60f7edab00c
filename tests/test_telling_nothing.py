"""Nobody learns from an answer whether an address has an account: what is known and unknown is the same to the byte."""

import html
import statistics
import sys
import time
from urllib.parse import quote

import pytest
import time_machine
from instruments import change_user, later
from pages import JSON, PASSWORD, Letters, sign_up

KNOWN = "somebody.known@example.org"
WITHOUT_PASSWORD = "somebody.without@example.org"
DISABLED = "somebody.disabled@example.org"
STRANGERS = ["somebody.strange@example.org", "nobody.at.all@example.org"]
EVERYBODY = [KNOWN, WITHOUT_PASSWORD, DISABLED, *STRANGERS]

FORM, AS_JSON = {}, JSON


@pytest.fixture
def app(make_app):
    """A site where every sort of account exists; its clock stands still, so that pages that show the time are equal."""
    app = make_app(MAGICAUTH_PASSWORDS="optional", MAGICAUTH_LIMIT_MAILS_PER_IP="1000 per hour")
    sign_up(app.test_client(), KNOWN)
    sign_up(app.test_client(), WITHOUT_PASSWORD, password="")
    sign_up(app.test_client(), DISABLED)
    change_user(app, DISABLED, disabled=True)
    Letters(app).all()
    with time_machine.travel(time.time(), tick=False):
        yield app


def told(answer, email):
    """All that an answer tells: status, headers and body; of cookies the attributes; the address itself is masked.

    Redis counts seconds by its own clock, which does not stand still.
    """
    body = answer.text
    for spelling in {email, quote(email), html.escape(email), email.upper()}:
        body = body.replace(spelling, "***")
    headers = sorted(
        (name, _without_value(value) if name == "Set-Cookie" else "*" if name == "Retry-After" else value)
        for name, value in answer.headers
        if name not in ("Date", "Content-Length")
    )
    return answer.status_code, headers, body


def _without_value(cookie):
    pair, _, attributes = cookie.partition(";")
    return f"{pair.partition('=')[0]}={len(pair.partition('=')[2])};{attributes}"


def everybody_is_told_the_same(walk):
    """Takes each address along `walk`, which returns its answers."""
    stories = {email: [told(answer, email) for answer in walk(email)] for email in EVERYBODY}
    first = stories.pop(STRANGERS[0])
    for email, story in stories.items():
        assert story == first, email
    return [status for status, _, _ in first]


def send(client, path, headers, **fields):
    """Posts the fields as a form or as JSON, as the headers say."""
    return client.post(path, json=fields) if headers == AS_JSON else client.post(path, data=fields)


@pytest.mark.parametrize("headers", [FORM, AS_JSON])
def test_asking_to_sign_in(app, headers):
    def walk(email):
        client = app.test_client()
        yield send(client, "/auth", headers, email=email)
        yield send(client, "/auth", headers, email=email.upper())
        # The page says whether the letter has left.
        Letters(app).all()
        yield client.get("/verify", headers=headers)

    ok = 200 if headers else 303
    assert everybody_is_told_the_same(walk) == [ok, ok, 200]


@pytest.mark.parametrize("headers", [FORM, AS_JSON])
def test_a_wrong_password(app, headers):
    def walk(email):
        client = app.test_client()
        for _ in range(2):
            yield send(client, "/auth", headers, email=email, password="not the one")
        yield client.get("/verify", headers=headers)

    assert everybody_is_told_the_same(walk) == [401, 401, 404 if headers else 303]


def test_wrong_passwords_until_none_is_taken(make_app, app):
    app = make_app(MAGICAUTH_PASSWORDS="optional", MAGICAUTH_LIMIT_PASSWORDS_PER_IP="1000 per hour")

    def walk(email):
        for _ in range(11):
            yield app.test_client().post("/auth", json={"email": email, "password": "not the one"})

    assert everybody_is_told_the_same(walk) == [401] * 10 + [429]


def test_the_right_password_of_a_disabled_account(app):
    answer = app.test_client().post("/auth", json={"email": DISABLED, "password": PASSWORD})
    stranger = app.test_client().post("/auth", json={"email": STRANGERS[0], "password": PASSWORD})
    assert told(answer, DISABLED) == told(stranger, STRANGERS[0])


@pytest.mark.parametrize("headers", [FORM, AS_JSON])
def test_wrong_codes(app, headers):
    def walk(email):
        client = app.test_client()
        client.post("/auth", data={"email": email})
        Letters(app).all()
        yield send(client, "/verify", headers, OTP="")
        for _ in range(6):
            yield send(client, "/verify", headers, OTP="x")
        yield client.get("/verify", headers=headers)
        yield send(client, "/verify/resend", headers)
        Letters(app).all()
        yield client.get("/verify", headers=headers)

    ok = 200 if headers else 303
    statuses = everybody_is_told_the_same(walk)
    assert statuses == [400, *[401] * 5, 404, 404 if headers else 200, ok, 200]


@pytest.mark.parametrize("headers", [FORM, AS_JSON])
def test_asking_for_the_letter_again(app, redis, headers):
    clients = {email: app.test_client() for email in EVERYBODY}

    def walk(email):
        yield send(clients[email], "/auth", headers, email=email)
        Letters(app).all()
        yield send(clients[email], "/verify/resend", headers)

    ok = 200 if headers else 303
    assert everybody_is_told_the_same(walk) == [ok, 429]
    with later(redis, 61), time_machine.travel(time.time(), tick=False):

        def walk_on(email):
            yield send(clients[email], "/verify/resend", headers)
            Letters(app).all()
            yield clients[email].get("/verify", headers=headers)
            yield send(clients[email], "/verify/resend", headers)
            yield send(clients[email], "/auth", headers, email=email)

        assert everybody_is_told_the_same(walk_on) == [ok, 200, 429, ok]


@pytest.mark.parametrize("headers", [FORM, AS_JSON])
@pytest.mark.parametrize("path", ["/users/magic_link", "/auth/reset"])
def test_asking_for_other_letters(app, path, headers):
    def walk(email):
        client = app.test_client()
        for _ in range(2):
            yield send(client, path, headers, email=email)
        Letters(app).all()
        yield client.get("/users/magic_link/sent", headers=headers)
        yield client.get("/verify", headers=headers)
        yield send(client, "/verify", headers, OTP="x")

    ok = 200 if headers else 303
    after = [200, 401] if path == "/auth/reset" else [404 if headers else 303, 404]
    assert everybody_is_told_the_same(walk) == [ok, ok, 200, *after]


def test_asking_for_too_many_letters(app):
    def walk(email):
        for path in (
            "/auth",
            "/users/magic_link",
            "/auth/reset",
            "/auth",
            "/auth",
            "/auth",
            "/users/magic_link",
            "/auth/reset",
        ):
            yield app.test_client().post(path, json={"email": email})

    assert everybody_is_told_the_same(walk) == [200] * 5 + [429] * 3


def test_a_step_that_needs_a_proof(app):
    def walk(email):
        client = app.test_client()
        client.post("/auth", data={"email": email})
        for headers in (FORM, AS_JSON):
            yield client.get("/auth/password", headers=headers)
            yield send(client, "/auth/password", headers, password="not the one")
            yield client.get("/auth/reset/password", headers=headers)
            yield client.get("/home", headers=headers)

    everybody_is_told_the_same(walk)


@pytest.mark.parametrize("policy", ["closed", "invite"])
def test_where_sign_up_is_not_open(make_app, app, policy):
    app = make_app(
        MAGICAUTH_PASSWORDS="optional", MAGICAUTH_SIGN_UP=policy, MAGICAUTH_LIMIT_MAILS_PER_IP="1000 per hour"
    )

    def walk(email):
        client = app.test_client()
        yield client.post("/auth", json={"email": email})
        Letters(app).all()
        yield client.get("/verify")
        yield client.post("/verify", json={"OTP": "x"})
        yield client.post("/users/magic_link", json={"email": email})

    assert everybody_is_told_the_same(walk) == [200, 200, 401, 403]


def test_a_strangers_link_page_does_not_name_the_address(app):
    app.test_client().post("/auth", data={"email": KNOWN})
    page = app.test_client().get(Letters(app).last(KNOWN).link)
    assert page.status_code == 200 and KNOWN not in page.text


# --- the time it takes ------------------------------------------------------------------------------------------------


def calls_in(act):
    """How many functions, of Python's and of C's, are called meanwhile."""
    count = 0

    def note(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def calls_for_everybody(ask):
    """The middle count of five for each: two with an account, and two without."""
    rounds = [[ask(email) for email in (KNOWN, WITHOUT_PASSWORD, *STRANGERS)] for _ in range(5)]
    return [statistics.median(counts) for counts in zip(*rounds, strict=True)]


@pytest.mark.parametrize("path", ["/auth", "/users/magic_link", "/auth/reset"])
def test_the_time_of_an_answer_tells_nothing(app, path):
    # Calls, because they can be counted: of time, benchmarks/timing.py takes medians.
    def ask(email):
        return calls_in(lambda: app.test_client().post(path, json={"email": email}))

    known, without, stranger, another = calls_for_everybody(ask)
    assert stranger == pytest.approx(known, rel=0.01) and another == pytest.approx(without, rel=0.01)


def test_the_time_that_a_wrong_code_takes_tells_nothing(app):
    def guess(email):
        browser = app.test_client()
        browser.post("/auth", json={"email": email})
        return calls_in(lambda: browser.post("/verify", json={"OTP": "x"}))

    known, without, stranger, another = calls_for_everybody(guess)
    assert stranger == pytest.approx(known, rel=0.01) and another == pytest.approx(without, rel=0.01)
