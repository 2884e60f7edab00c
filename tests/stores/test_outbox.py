"""The outbox: letters through a real queue and a real SMTP conversation."""

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from email.utils import parseaddr

import flask_mail
import pytest
from conftest import wait_for
from instruments import at_once, change_user, delivering, later, letters_waiting, quiet_app, redis_commands
from pages import EMAIL, JSON, PASSWORD, other_browser, sign_up
from servers import MailServer

from magicauth import mime, outbox
from magicauth.smtp import PostOffice as PostOfficeOfOurs

QUEUE = "{magicauth-mail}:letters"


class PostOffice(MailServer):
    """A mail server that answers letters with the replies it is told, the last of them again and again."""

    def __init__(self):
        super().__init__()
        self.replies, self.recipient_replies, self.conversations, self.pause = ["250 OK"], ["250 OK"], 0, 0.0

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        self.conversations += 1
        await asyncio.sleep(self.pause)
        session.host_name = hostname
        return responses

    async def handle_RCPT(self, server, session, envelope, address, options):
        await asyncio.sleep(self.pause)
        reply = _next(self.recipient_replies)
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):
        await super().handle_DATA(server, session, envelope)
        await asyncio.sleep(self.pause)
        return _next(self.replies)


def _next(replies):
    return replies.pop(0) if len(replies) > 1 else replies[0]


@pytest.fixture
def office():
    """An open mail server."""
    server = PostOffice()
    server.open()
    yield server
    server.close()


@pytest.fixture
def app(redis, redis_url, tmp_path, office):
    """An app with an account, whose letters wait until `delivering` takes them to the mail server."""
    settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(office.port), "MAIL_DEFAULT_SENDER": "id@example.org"}
    with quiet_app(redis_url, tmp_path, **settings) as app:
        sign_up(app.test_client())
        yield app


@pytest.fixture
def asking(app):
    """A browser whose sign-in letter is in the queue."""
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    return browser


def state(app):
    """How the post stands."""
    with app.app_context():
        return outbox.status()


def empty(redis):
    """Whether nothing waits and nothing is being tried again."""
    return not letters_waiting(redis)


def challenge_key(redis):
    """The key of the one open challenge."""
    (key,) = redis.keys("magicauth:challenge:*")
    return key


def hurry(redis):
    """Makes every letter that waits for another try due now, as if its time had come."""
    name = f"{QUEUE}.DQ"
    for message_id, body in redis.hgetall(f"{name}.msgs").items():
        message = json.loads(body)
        message["options"]["eta"] = 0
        redis.hset(f"{name}.msgs", message_id, json.dumps(message))


# --- a letter ---------------------------------------------------------------------------------------------------------


def test_a_letter_reaches_the_mail_server_and_its_code_signs_in(app, asking, office):
    with delivering(app):
        letter = office.letter(EMAIL)
    assert asking.post("/verify", data={"OTP": letter.code}).location == "/home"


def test_a_letter_is_what_mail_programs_and_filters_expect(app, asking, office):
    with delivering(app):
        office.letter(EMAIL)
    (message,) = office.messages
    assert parseaddr(message["From"])[1] == "id@example.org"
    assert message["To"] == EMAIL
    assert message["Auto-Submitted"] == "auto-generated"
    assert re.fullmatch(r"<[A-Za-z0-9_-]+@example\.org>", message["Message-ID"])
    assert message["Date"]
    assert [message.get_body((kind,)).get_content_type() for kind in ("plain", "html")] == ["text/plain", "text/html"]
    assert max(len(line) for line in message.as_bytes().splitlines()) <= 998


def test_the_request_does_not_wait_for_the_mail_server(redis, redis_url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(silent.getsockname()[1])}
        with quiet_app(redis_url, tmp_path, **settings, MAGICAUTH_MAIL_WORKER="embedded") as app:
            browser = app.test_client()
            browser.get("/auth")
            started = time.monotonic()
            assert browser.post("/auth", data={"email": EMAIL}).status_code == 303
            assert time.monotonic() - started < 5
            assert browser.get("/verify").status_code == 200
            # The worker hangs on a server that says nothing; to end, close what it waits for.
            silent.settimeout(10)
            silent.accept()[0].close()
            app.extensions["magicauth-outbox"].stop_worker()


def test_the_request_costs_the_same_while_the_mail_server_is_away(app, office, redis):
    def cost():
        browser = app.test_client()
        with redis_commands(redis) as commands:
            assert browser.post("/auth", data={"email": EMAIL}).status_code == 303
        return commands

    cost()
    up = cost()
    office.close()
    assert cost() == up


# --- when its challenge is over --------------------------------------------------------------------------------------


def test_a_letter_is_dropped_when_its_challenge_was_answered(app, redis, office):
    signed_up = app.test_client()
    signed_up.post("/auth", data={"email": EMAIL, "password": PASSWORD})
    with delivering(app):
        letter = office.letter(EMAIL)
        wait_for(lambda: empty(redis))
    with later(redis, 61):
        # Asked for again; meanwhile the first letter arrives after all, and its code is typed.
        signed_up.post("/verify/resend")
        assert redis.llen(QUEUE) == 1
        assert signed_up.post("/verify", data={"OTP": letter.code}).location == "/home"
        with delivering(app):
            wait_for(lambda: empty(redis))
    assert [message["Subject"] for message in office.messages if "code" in message["Subject"]] == [letter.subject]


def test_a_letter_is_dropped_when_its_challenge_expired(app, asking, redis, office):
    redis.delete(challenge_key(redis))
    with delivering(app):
        wait_for(lambda: empty(redis))
    assert office.messages == []


def test_a_letter_is_dropped_when_it_has_grown_too_old(app, asking, redis, office):
    with later(redis, 601), delivering(app):
        wait_for(lambda: not redis.llen(QUEUE))
    assert office.messages == []


def test_a_letter_still_goes_out_when_only_the_guesses_are_spent(app, office):
    browser = app.test_client()
    browser.post("/auth", data={"email": EMAIL})
    for _ in range(5):
        browser.post("/verify", json={"OTP": "x"})
    with delivering(app):
        letter = office.letter(EMAIL)
    # Its link is good.
    assert browser.post("/auth/link", data={"token": letter.token}).location == "/auth/password"


# --- what the mail server says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["451 greylisted", "452 full", "421 closing"])
def test_a_letter_that_is_put_off_is_tried_again(app, asking, office, redis, reply):
    office.replies = [reply, "250 OK"]
    with delivering(app):
        wait_for(lambda: len(office.messages) == 1 and redis.hlen(f"{QUEUE}.DQ.msgs"))
        assert state(app).last == "refused"
        # The first wait is about a second.
        wait_for(lambda: len(office.messages) == 2)
        wait_for(lambda: state(app).last == "ok" and empty(redis))
    assert len({message["Message-ID"] for message in office.messages}) == 1
    assert len({message["Subject"] for message in office.messages}) == 1


def test_waits_between_tries_grow_to_half_a_minute(app, asking, office, redis):
    office.replies = ["451 later"]
    waits = []
    for tries in range(1, 7):
        # The worker holds in its hand what it is to try again, and looks at its time only once.
        with delivering(app):
            wait_for(lambda tries=tries: len(office.messages) == tries and redis.hlen(f"{QUEUE}.DQ.msgs"))
        (body,) = redis.hvals(f"{QUEUE}.DQ.msgs")
        waits.append(json.loads(body)["options"]["eta"] - json.loads(body)["options"]["requeue_timestamp"])
        hurry(redis)
    assert waits[0] < 3000 and 14_000 <= waits[-1] < 33_000


@pytest.mark.parametrize("reply", ["550 no such user", "554 spam", "552 too big"])
def test_a_final_no_is_not_asked_again(app, asking, office, redis, reply):
    office.replies = [reply]
    with delivering(app):
        wait_for(lambda: state(app).dead == 1)
    assert len(office.messages) == 1
    post = state(app)
    assert (post.last, post.waiting, post.retrying) == ("refused", 0, 0)
    assert post.degraded


@pytest.mark.parametrize(("reply", "again"), [("550 no such user", False), ("450 busy", True)])
def test_a_refused_recipient_is_read_the_same_way(app, asking, office, redis, reply, again):
    office.recipient_replies = [reply, "250 OK"]
    with delivering(app):
        if again:
            assert office.letter(EMAIL).code
        else:
            wait_for(lambda: state(app).dead == 1)
    assert len(office.messages) == (1 if again else 0)


def test_one_letter_that_is_refused_does_not_hold_up_the_others(app, office, redis):
    office.replies = ["550 not you", "250 OK"]
    for email in ("a@example.org", "b@example.org", "c@example.org"):
        app.test_client().post("/auth", data={"email": email})
    with delivering(app):
        wait_for(lambda: len(office.messages) == 3)
        wait_for(lambda: state(app).last == "ok")
    assert state(app).dead == 1


def test_letters_wait_while_the_mail_server_is_away(redis, redis_url, tmp_path):
    office = PostOffice()
    with quiet_app(redis_url, tmp_path, MAIL_SERVER="127.0.0.1", MAIL_PORT=str(office.port)) as app:
        app.test_client().post("/auth", data={"email": EMAIL})
        with delivering(app):
            wait_for(lambda: redis.hlen(f"{QUEUE}.DQ.msgs"))
            assert state(app).last == "failed"
            assert app.test_client().get("/readyz").get_json()["mail"] == "degraded"
            assert app.test_client().get("/readyz").status_code == 200
            office.open()
            assert office.letter(EMAIL)
            wait_for(lambda: state(app).last == "ok")
        assert app.test_client().get("/readyz").get_json()["mail"] == "ok"
    office.close()


def test_a_mail_server_that_is_away_is_not_asked_anew_for_each_letter_that_waits(redis, redis_url, tmp_path):
    office = PostOffice()
    with quiet_app(redis_url, tmp_path, MAIL_SERVER="127.0.0.1", MAIL_PORT=str(office.port)) as app:
        for number in range(40):
            app.test_client().post("/auth", data={"email": f"x{number}@example.org"})
        began = time.monotonic()

        def asked() -> int:
            with app.app_context():
                return outbox.counts().get(("sign_in", "failed"), 0)

        with delivering(app):
            wait_for(lambda: asked() > 2)
            # Each of its two threads, now and then.
            assert asked() <= 2 * (1 + (time.monotonic() - began) / outbox._LEFT_ALONE)
    office.close()


def test_a_mistake_of_ours_is_no_fault_of_the_mail_server(app, asking, office, monkeypatch):
    box = app.extensions["magicauth-outbox"]
    write = box.write
    monkeypatch.setattr(box, "write", lambda *_: 1 / 0)
    with delivering(app):
        wait_for(lambda: state(app).last == "failed")
        assert box._left_alone_until == 0
        monkeypatch.setattr(box, "write", write)
        assert office.letter(EMAIL)


def test_a_letter_that_was_put_off_is_not_the_oldest_that_waits(app, asking, redis):
    ((message_id, body),) = redis.hgetall(f"{QUEUE}.msgs").items()
    message = json.loads(body) | {"message_timestamp": 1}
    redis.hset(f"{QUEUE}.msgs", message_id, json.dumps(message))
    assert state(app).oldest > 1e9
    # As a worker takes it to try it again.
    redis.lrem(QUEUE, 1, message_id)
    redis.zadd("{magicauth-mail}:__heartbeats__", {"a-worker": time.time() * 1000})
    redis.sadd("{magicauth-mail}:__acks__.a-worker.letters", message_id)
    assert state(app).oldest > 1e9
    message["options"]["retries"] = 1
    redis.hset(f"{QUEUE}.msgs", message_id, json.dumps(message))
    assert (state(app).oldest, state(app).waiting) == (0, 1)


def test_a_mail_server_may_take_its_time_for_each_answer(app, asking, office, redis, monkeypatch):
    monkeypatch.setattr("magicauth.smtp._REPLY_MOST", 0.6)
    office.pause = 0.3
    with delivering(app):
        wait_for(lambda: empty(redis))
    assert len(office.messages) == 1


def test_one_conversation_carries_many_letters(app, office):
    for number in range(6):
        app.test_client().post("/auth", data={"email": f"x{number}@example.org"})
    with delivering(app):
        wait_for(lambda: len(office.messages) == 6)
    # One for each thread of the worker.
    assert 1 <= office.conversations <= 2


def test_the_worker_need_not_look_to_hear_of_a_letter_of_its_own_process(app, office, monkeypatch):
    monkeypatch.setattr("magicauth.broker.compute_backoff", lambda *_, **__: (0, 600_000))
    with delivering(app):
        # More than it takes at once, so that it hears of room as well.
        for number in range(18):
            app.test_client().post("/auth", data={"email": f"x{number}@example.org"})
        wait_for(lambda: len(office.messages) == 18)
        began = time.monotonic()
    # Nor is it waited for when it is to stop.
    assert time.monotonic() - began < 10


def test_a_conversation_that_the_mail_server_ended_is_begun_again(app, office, redis):
    with delivering(app):
        app.test_client().post("/auth", data={"email": "a@example.org"})
        wait_for(lambda: len(office.messages) == 1 and empty(redis))
        for _ in range(2):
            office.replies = ["421 closing for tonight", "250 OK"]
            before = len(office.messages)
            app.test_client().post("/auth", data={"email": f"b{before}@example.org"})
            wait_for(lambda before=before: len(office.messages) == before + 2, seconds=20)
    assert state(app).last == "ok"


# --- its clock, and its name -----------------------------------------------------------------------------------------


def test_the_clock_of_the_code_starts_when_the_mail_server_has_it_and_once(app, asking, redis, office):
    key = challenge_key(redis)
    redis.expire(key, 100)
    with delivering(app):
        office.letter(EMAIL)
        wait_for(lambda: empty(redis))
        assert 500 <= redis.ttl(key) <= 600
    # The same job once more, as after a worker that was killed before it said that it was done.
    redis.expire(key, 100)
    with app.app_context():
        outbox.put(outbox.Job("sign_in", key.decode().rpartition(":")[2], 1, context=_context()))
    with delivering(app):
        wait_for(lambda: empty(redis))
    assert redis.ttl(key) <= 100


def _context():
    return {"at": 1.5, "browser": "", "ip": "", "base_url": "http://localhost", "language": "en"}


def test_a_letter_that_waited_in_the_queue_is_good_as_long_as_any(app, asking, redis, office):
    with later(redis, 550):
        with delivering(app):
            letter = office.letter(EMAIL)
            wait_for(lambda: empty(redis))
        with later(redis, 550):
            assert asking.post("/verify", data={"OTP": letter.code}).location == "/home"


def test_a_duplicate_carries_the_same_code_and_name_and_a_letter_sent_again_another_name(app, asking, redis, office):
    office.replies = ["451 later", "250 OK"]
    with delivering(app):
        wait_for(lambda: len(office.messages) == 2, seconds=20)
        wait_for(lambda: empty(redis))
    with later(redis, 61):
        asking.post("/verify/resend")
        with delivering(app):
            wait_for(lambda: len(office.messages) == 3)
    first, duplicate, again = office.messages
    assert first["Message-ID"] == duplicate["Message-ID"] != again["Message-ID"]
    assert first["Subject"] == duplicate["Subject"] == again["Subject"]


@pytest.mark.parametrize("asked", ["sign up again", "sign in without an account"])
def test_a_link_that_was_used_stays_used_when_its_letter_is_written_again(app, office, redis, asked):
    path, email = ("/users/magic_link", EMAIL) if asked == "sign up again" else ("/auth", "new@example.org")
    # The mail server has passed the letter on, and says that it has not.
    office.replies = ["451 later", "250 OK"]
    browser = app.test_client()
    browser.post(path, data={"email": email})
    with delivering(app):
        link = office.letter(email).link
        if asked == "sign up again":
            assert (
                browser.post("/auth/link", data={"token": office.letter(email).token, "email": email}).status_code
                == 303
            )
        else:
            form = {"token": office.letter(email).token, "name": "New", "password": PASSWORD}
            assert browser.post("/users/signup", data=form).location == "/home"
        wait_for(lambda: empty(redis), seconds=20)
    assert app.test_client().get(link).status_code == 403
    assert len(office.messages) == 1


def test_names_of_letters_give_nothing_away(app, asking, redis, office):
    with delivering(app):
        letter = office.letter(EMAIL)
    name = office.messages[0]["Message-ID"]
    challenge = challenge_key(redis).decode().rpartition(":")[2]
    assert challenge not in name and letter.code not in name and letter.token.rpartition(".")[2] not in name


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_a_message_with_a_line_break_in_a_header_is_not_sent(app, office):
    message = mime.Message("Hello\r\nBcc: eve@example.org", [EMAIL], body="", html="", sender="id@example.org")
    message.msgId = "<x@example.org>"
    post = PostOfficeOfOurs()
    with app.app_context():
        post.reach()
        with pytest.raises(flask_mail.BadHeaderError):
            post.deliver(message)
    assert office.messages == []


def test_an_address_cannot_write_headers_or_add_recipients(app, office, redis):
    browser = app.test_client()
    for email in (
        "a@example.org\r\nBcc: eve@example.org",
        "a@example.org,eve@example.org",
        "a@example.org%0aBcc:e@e.org",
    ):
        browser.post("/auth", data={"email": email})
    assert empty(redis)


def test_what_a_browser_says_of_itself_is_not_repeated_in_letters(app, office):
    evil = 'Firefox/1 <a href="https://evil.example">click</a> https://evil.example'
    app.test_client().post("/auth", data={"email": EMAIL}, headers={"User-Agent": evil})
    with delivering(app):
        letter = office.letter(EMAIL)
    assert "evil.example" not in letter.text + letter.html + letter.subject


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_forged_starttls_certificate_is_refused(redis, redis_url, tmp_path):
    """Flask-Mail takes any."""
    server = _StartTls(tmp_path)
    server.open()
    settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(server.port), "MAIL_USE_TLS": "true"}
    with quiet_app(redis_url, tmp_path, **settings) as app:
        app.test_client().post("/auth", data={"email": EMAIL})
        with delivering(app):
            wait_for(lambda: state(app).last == "failed")
            assert state(app).reason == "SSLCertVerificationError"
    server.close()
    assert server.messages == []


class _StartTls(PostOffice):
    """A mail server with a certificate that nobody vouches for."""

    def __init__(self, folder):
        super().__init__()
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    def open(self):
        super().open()
        make = self._server.factory
        self._server.factory = lambda: _with_tls(make(), self._context)


def _with_tls(smtp, context):
    smtp.tls_context = context
    return smtp


# --- giving up, and beginning again ----------------------------------------------------------------------------------


def test_letters_that_were_given_up_can_be_sent_after_all(app, asking, office, redis):
    office.replies = ["550 wrong settings"]
    with delivering(app):
        wait_for(lambda: state(app).dead == 1)
        office.replies = ["250 OK"]

        def retry(_):
            with app.app_context():
                return outbox.retry_dead()

        assert sorted(at_once(4, retry)) == [0, 0, 0, 1]
        wait_for(lambda: len(office.messages) == 2)
        wait_for(lambda: state(app).last == "ok")
    assert state(app).dead == 0
    code = re.sub(r"[^0-9]", "", office.messages[1]["Subject"])
    assert asking.post("/verify", data={"OTP": code}).location == "/home"


def test_the_oldest_letter_says_how_late_the_post_is(app, asking, redis):
    assert state(app).waiting == 1
    assert state(app).oldest < 60 and not state(app).degraded
    with later(redis, 61):
        assert state(app).oldest > 60 and state(app).degraded
        ready = app.test_client().get("/readyz")
        assert (ready.status_code, ready.get_json()["mail"]) == (200, "degraded")


def test_letters_are_counted_whoever_sends_them(redis, redis_url, tmp_path, office):
    settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(office.port), "MAGICAUTH_METRICS_TOKEN": "for-the-tests"}
    office.replies = ["250 OK", "451 later", "250 OK", "550 no"]
    with quiet_app(redis_url, tmp_path, **settings) as web, quiet_app(redis_url, tmp_path, **settings) as worker:

        def counted():
            shown = web.test_client().get("/metrics", headers={"Authorization": "Bearer for-the-tests"}).text
            found = re.findall(r'^magicauth_letters_total{letter="sign_in",state="(.*)"} (.*)', shown, re.MULTILINE)
            return {state: float(count) for state, count in found}

        assert counted() == {}
        with delivering(worker):
            for email, then in [
                ("a@example.org", {"sent": 1}),
                ("b@example.org", {"sent": 2, "failed": 1}),
                ("c@example.org", {"sent": 2, "failed": 2}),
            ]:
                web.test_client().post("/auth", data={"email": email})
                wait_for(lambda then=then: counted() == then)
        web.test_client().post("/auth", data={"email": "d@example.org"})
        redis.delete(*redis.keys("magicauth:challenge:*"))
        with delivering(worker):
            wait_for(lambda: counted() == {"sent": 2, "failed": 2, "dropped": 1})


def test_a_worker_that_does_not_know_the_newest_key_leaves_its_letters_to_others(redis, redis_url, tmp_path, office):
    settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(office.port)}
    newer = {"SECRET_KEY": "of thirty-two characters or more, and new"}
    with quiet_app(redis_url, tmp_path, **settings) as old, quiet_app(redis_url, tmp_path, **settings, **newer) as new:
        new.test_client().post("/auth", data={"email": EMAIL})
        with delivering(old):
            wait_for(lambda: state(old).retrying)
        hurry(redis)
        with delivering(new):
            assert office.letter(EMAIL).link
            wait_for(lambda: empty(redis))
        new.test_client().post("/auth", data={"email": "grace@example.org"})
        with later(redis, 61), delivering(old):
            wait_for(lambda: empty(redis))


def test_the_waiting_page_says_when_the_post_is_late(app, asking, redis, office):
    assert 'data-letter="queued"' in asking.get("/verify").text
    with later(redis, 16):
        assert 'data-letter="delayed"' in asking.get("/verify").text
        with delivering(app):
            office.letter(EMAIL)
            wait_for(lambda: empty(redis))
        assert 'data-letter="sent"' in asking.get("/verify").text


def test_where_sign_up_is_not_open_the_waiting_page_does_not_tell_whose_letter_goes_out(app, redis, office):
    app.config["MAGICAUTH_SIGN_UP"] = "closed"

    def ask(email):
        browser = app.test_client()
        browser.post("/auth", data={"email": email})
        return browser

    def shown(browser):
        # Without the seconds, which count down.
        return re.sub(r"[0-9]", "", browser.get("/verify").text.replace("nobody", "ada"))

    with delivering(app):
        ask("nobody@example.org")
        office.letter("nobody@example.org")
        wait_for(lambda: empty(redis))
        office.replies = ["451 later"]
        owner = ask(EMAIL)
        wait_for(lambda: state(app).last == "refused")
        # Whose letter is not written a second time today.
        stranger = ask("nobody@example.org")
        wait_for(lambda: redis.hget("magicauth:mail:counts", "sign_in dropped") == b"1")
    assert shown(owner) == shown(stranger)


@pytest.mark.parametrize("reply", ["250 OK", "451 later", "452 full", "550 no"])
def test_where_sign_up_is_not_open_the_post_stands_alike_whosever_letter_was_written(app, redis, office, reply):
    app.config["MAGICAUTH_SIGN_UP"] = "closed"
    shown = []

    def tried():
        with app.app_context():
            return sum(outbox.counts().values())

    def ask(email):
        browser = app.test_client()
        browser.post("/auth", data={"email": email})
        # Tried once.
        wait_for(lambda: redis.llen(QUEUE) == 0)
        return browser

    with delivering(app):
        ask("nobody@example.org")
        wait_for(lambda: empty(redis))
        office.recipient_replies, office.replies = ([reply], ["250 OK"]) if reply == "550 no" else (["250 OK"], [reply])
        for number, email in enumerate((EMAIL, "nobody@example.org"), 1):
            asked = ask(email)
            wait_for(lambda number=number: tried() > number)
            mail = app.test_client().get("/readyz").get_json()["mail"]
            shown.append((mail, 'data-letter="sent"' in asked.get("/verify").text))
    assert shown == [("ok", True)] * 2


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.org"])
def test_where_sign_up_is_not_open_a_mail_server_that_is_away_is_so_for_everybody(app, redis, office, email):
    app.config["MAGICAUTH_SIGN_UP"] = "closed"
    with delivering(app):
        app.test_client().post("/auth", data={"email": "nobody@example.org"})
        wait_for(lambda: empty(redis))
    office.close()
    with delivering(app):
        asking = app.test_client()
        asking.post("/auth", data={"email": email})
        wait_for(lambda: state(app).last == "failed")
        assert 'data-letter="delayed"' in asking.get("/verify").text
        assert app.test_client().get("/readyz").get_json()["mail"] == "degraded"


def test_an_account_that_is_gone_meanwhile_is_sent_no_code(app, asking, office, redis):
    change_user(app, disabled=True)
    other_browser(asking).post("/auth", data={"email": EMAIL})
    with delivering(app):
        wait_for(lambda: empty(redis))
    codes = [message["Subject"] for message in office.messages if re.match("[0-9]", message["Subject"])]
    # The one that was asked for before is worthless, whether or not it went out.
    for subject in codes:
        code = re.sub(r"[^0-9]", "", subject)
        assert asking.post("/verify", json={"OTP": code}).status_code in (401, 404)
    assert asking.get("/home", headers=JSON).status_code == 401
