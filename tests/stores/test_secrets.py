"""No secret in Redis or in the queue: whoever reads all of it can neither sign in nor answer a question."""

import re

import pytest
from conftest import wait_for
from instruments import delivering, quiet_app, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, sign_up
from servers import MailServer
from world import redis_dump


@pytest.fixture
def app(redis, redis_url, tmp_path):
    """An app whose letters wait in the queue."""
    budget = {
        f"MAGICAUTH_LIMIT_{what}": "100000 per hour"
        for what in ("CODES_PER_ACCOUNT", "CODES_PER_IP", "CODES_GLOBAL", "MAILS_PER_ADDRESS", "MAILS_PER_IP")
    }
    with quiet_app(redis_url, tmp_path, MAGICAUTH_CODE_ATTEMPTS="1000000", **budget) as app:
        with delivering(app):
            sign_up(app.test_client())
            Letters(app).all()
        yield app


@pytest.fixture
def signed_in(app):
    """A browser that signed in, so that there is a session to steal."""
    browser = app.test_client()
    with delivering(app):
        browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
        assert browser.post("/verify", data={"OTP": Letters(app).last().code}).location == "/home"
        Letters(app).all()
    return browser


def words(stolen):
    """Every string in the dump that could be anything."""
    parts = {
        part
        for text in stolen
        for part in (text, *re.split(r"[^A-Za-z0-9_.-]+", text), *re.split(r"[^A-Za-z0-9]+", text))
    }
    return {part for part in parts if len(part) >= 4}


def opened(app, redis):
    """Browsers with every sort of question open, a letter for each still in the queue, and what Redis holds then."""
    asking, bare, signing_up, forgetful = (app.test_client() for _ in range(4))
    asking.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    bare.post("/auth", data={"email": EMAIL})
    signing_up.post("/users/magic_link", data={"email": "new@example.org"})
    forgetful.post("/auth/reset", data={"email": EMAIL})
    app.test_client().post("/auth", data={"email": "nobody@example.org"})
    return asking, bare, forgetful, redis_dump(redis)


def test_a_dump_of_redis_holds_no_code_token_or_session_id(app, redis, signed_in):
    asking, bare, forgetful, stolen = opened(app, redis)
    assert redis.llen("{magicauth-mail}:letters") == 5
    with delivering(app):
        letters = Letters(app).all()
    in_flight = "\n".join(stolen)
    after = "\n".join(redis_dump(redis))
    for secret in [
        *(letter.code for letter in letters if letter.code),
        *(f"{letter.code[:3]} {letter.code[3:]}" for letter in letters if letter.code),
        *(token for letter in letters for link in letter.links for _, _, token in [link.partition("token=")] if token),
        *(session_id(browser) for browser in (signed_in, asking, bare, forgetful)),
        signed_in.get_cookie("magicauth-device").value,
        PASSWORD,
        app.config["SECRET_KEY"],
    ]:
        assert len(secret) >= 6
        # A code may stand in a longer number by chance.
        found = re.compile(rf"(?<!\d){re.escape(secret)}(?!\d)" if secret.isdigit() else re.escape(secret))
        assert not found.search(in_flight)
        assert not found.search(after)
        # Nor its half: the part of a token that proves it.
        if "." in secret:
            assert secret.rpartition(".")[2] not in in_flight + after


def test_nothing_in_a_dump_of_redis_signs_in_as_a_cookie(app, redis, signed_in):
    *_, stolen = opened(app, redis)
    for word in words(stolen):
        thief = app.test_client()
        thief.set_cookie("magicauth", word)
        assert not is_signed_in(thief), word
        assert thief.get("/verify", headers=JSON).status_code == 404, word


def test_nothing_in_a_dump_of_redis_is_a_link(app, redis, signed_in):
    *_, stolen = opened(app, redis)
    thief = app.test_client()
    candidates = words(stolen)
    ids = {word for word in candidates if re.fullmatch(r"[A-Za-z0-9_-]{26}", word)}
    proofs = {word for word in candidates if re.fullmatch(r"[A-Za-z0-9_-]{43}", word)}
    assert len(ids) >= 5 and proofs
    for token in candidates:
        assert thief.get("/auth/link", query_string={"token": token}, headers=JSON).status_code == 403, token
    for token in {f"{challenge}.{proof}" for challenge in ids for proof in proofs}:
        for path in ("/auth/link", "/users/signup", "/auth/not_me"):
            assert thief.get(path, query_string={"token": token}, headers=JSON).status_code == 403, token
        assert thief.post("/auth/link", json={"token": token, "email": EMAIL}).status_code == 403, token


def test_nothing_in_a_dump_of_redis_is_a_code(app, redis, signed_in):
    asking, bare, forgetful, stolen = opened(app, redis)
    runs = set(re.findall(r"[0-9]{6,}", "\n".join(stolen)))
    candidates = {run[start : start + 6] for run in runs for start in range(len(run) - 5)}
    assert len(candidates) > 5
    # By chance one in a million is right, of a hundred or so.
    right = []
    for browser in (asking, bare, forgetful):
        for code in sorted(candidates):
            answer = browser.post("/verify", json={"OTP": code})
            if answer.status_code == 200:
                right.append(code)
                break
            assert answer.status_code == 401
    assert right == []


class Echo(MailServer):
    """A mail server that says of every letter what it was about, and to come again."""

    async def handle_DATA(self, server, session, envelope):
        await super().handle_DATA(server, session, envelope)
        return f"451 4.7.1 Not now: {self.messages[-1]['Subject']}"


def test_what_a_mail_server_says_back_is_kept_neither_in_the_queue_nor_in_the_log(redis, redis_url, tmp_path, caplog):
    with quiet_app(redis_url, tmp_path) as app, delivering(app):
        sign_up(app.test_client())
        Letters(app).all()
    server = Echo()
    server.open()
    with quiet_app(redis_url, tmp_path, MAIL_SERVER="127.0.0.1", MAIL_PORT=str(server.port)) as app:
        app.test_client().post("/auth", data={"email": EMAIL})
        with delivering(app):
            wait_for(lambda: redis.hlen("{magicauth-mail}:letters.DQ.msgs"))
        stolen = "\n".join(redis_dump(redis))
    server.close()
    code = re.match(r"[0-9]{3} [0-9]{3}", server.messages[0]["Subject"])[0]
    for kept in (stolen, caplog.text):
        assert code not in kept and code.replace(" ", "") not in kept
    assert "SMTPDataError" in caplog.text and EMAIL not in caplog.text
