"""A mail server that is silent, sends everybody away or is cut, and a queue of ten thousand letters."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import wait_for
from flask import Flask
from instruments import delivering, letters_waiting, quiet_app, redis_commands
from pages import EMAIL, JSON
from servers import MailServer

from magicauth import outbox, smtp

pytestmark = pytest.mark.faults

QUEUE = "{magicauth-mail}:letters"
# A silent server is given ten.
SECONDS_OF_SILENCE = 20


class Moody(MailServer):
    """Ends its first conversation when it has the letter, or at the recipient, if told to."""

    cut_after_data = False
    recipient_answer = ""

    def listen(self) -> Any:
        """Takes connections and says nothing: the socket to accept them at."""
        self._socket.listen()
        return self._socket

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        answer, self.recipient_answer = self.recipient_answer, ""
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        if self.cut_after_data:
            self.cut_after_data = False
            server.transport.abort()
        return answer


@pytest.fixture
def mail_server() -> Iterator[Moody]:
    server = Moody()
    yield server
    server.close()


@pytest.fixture
def app(redis, redis_url, tmp_path, mail_server) -> Iterator[Flask]:
    """An app whose codes live for two seconds, and whose letters wait until `delivering` takes them away."""
    settings = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(mail_server.port), "MAGICAUTH_SIGN_IN_TTL": "2"}
    with quiet_app(redis_url, tmp_path, **settings) as app:
        yield app


def ask(app: Flask, email: str = EMAIL) -> None:
    assert app.test_client().post("/users/magic_link", data={"email": email}).status_code == 303


def mail_state(app: Flask) -> str:
    """What `/readyz` says of the mail, which never makes it unready."""
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 200
    return answer.get_json()["mail"]


def check_each_once(app: Flask, redis: Any, mail_server: MailServer, *emails: str) -> None:
    """Whether each of them gets one letter, and nothing else is sent or left."""
    wait_for(lambda: not letters_waiting(redis), SECONDS_OF_SILENCE)
    assert Counter(message["To"] for message in mail_server.messages) == dict.fromkeys(emails, 1)
    assert mail_state(app) == "ok"


def test_a_silent_server_is_hung_up_on_and_no_dead_code_is_sent_to_it(app, redis, mail_server, caplog):
    browser = app.test_client()
    mail_server.listen()
    with delivering(app):
        ask(app)
        assert browser.post("/auth", data={"email": "late@example.org"}).status_code == 303
        assert browser.get("/verify", headers=JSON).status_code == 200
        # Each thread of the worker hangs on one of the two, and hangs up.
        wait_for(lambda: caplog.text.count("letter not sent") == 2, SECONDS_OF_SILENCE)
        assert mail_state(app) == "degraded"
        assert browser.get("/verify", headers=JSON).status_code == 404
        mail_server.open()
        check_each_once(app, redis, mail_server, EMAIL)


@pytest.mark.parametrize("drip", [b"220-please hold\r\n", b"2"])
def test_a_server_that_answers_in_drips_is_hung_up_on_too(app, redis, mail_server, monkeypatch, caplog, drip):
    monkeypatch.setattr(smtp, "_REPLY_MOST", 1.0)
    door = mail_server.listen()

    def hung_up() -> bool:
        with contextlib.suppress(OSError):
            connection.sendall(drip)
        return "letter not sent" in caplog.text

    with delivering(app):
        ask(app)
        with door.accept()[0] as connection:
            # What a worker has in hand waits too.
            with app.app_context():
                assert outbox.status().waiting == 1 and outbox.status().oldest > 0
            wait_for(hung_up)
        mail_server.open()
        check_each_once(app, redis, mail_server, EMAIL)


@pytest.mark.parametrize("greeting", [b"421 closing for tonight\r\n", b"554 no mail here\r\n"])
def test_a_server_that_sends_everybody_away_gets_the_letter_later(app, redis, mail_server, greeting):
    door = mail_server.listen()
    with delivering(app):
        ask(app)
        with door.accept()[0] as connection:
            connection.sendall(greeting)
        wait_for(lambda: mail_state(app) == "degraded")
        mail_server.open()
        check_each_once(app, redis, mail_server, EMAIL)


def test_a_server_that_ends_the_conversation_in_the_middle_gets_the_letter_later(app, redis, mail_server):
    mail_server.recipient_answer = "421 closing for tonight"
    mail_server.open()
    with delivering(app):
        ask(app)
        check_each_once(app, redis, mail_server, EMAIL)


def test_cut_before_it_says_that_it_has_the_letter_it_gets_the_same_one_again(app, redis, mail_server):
    mail_server.cut_after_data = True
    mail_server.open()
    with delivering(app):
        ask(app)
        wait_for(lambda: len(mail_server.messages) == 2)
    # It may have kept the first or not. To whoever gets both they are one: mail programs show it once.
    assert len({(message["Message-ID"], message["Subject"]) for message in mail_server.messages}) == 1
    assert len({message.get_body(("plain",)).get_content() for message in mail_server.messages}) == 1


def test_ten_thousand_queued_letters_slow_no_request(app, redis):
    def costs() -> list[Any]:
        browser = app.test_client()
        requests = [
            lambda: browser.get("/auth"),
            lambda: browser.post("/auth", data={"email": EMAIL}),
            lambda: browser.get("/verify"),
            lambda: browser.get("/readyz"),
            lambda: app.test_cli_runner().invoke(args=["mail", "status"]),
        ]
        counted = []
        for request in requests:
            with redis_commands(redis) as commands:
                request()
            counted.append(commands)
        return counted

    costs()
    alone = costs()
    ((message_id, body),) = list(redis.hscan_iter(f"{QUEUE}.msgs"))[:1]
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(10_000):
            message_id = f"letter-{number}"
            message = json.loads(body) | {"message_id": message_id, "options": {"redis_message_id": message_id}}
            pipeline.hset(f"{QUEUE}.msgs", message_id, json.dumps(message))
            pipeline.rpush(QUEUE, message_id)
        pipeline.execute()
    assert redis.llen(QUEUE) > 10_000
    assert costs() == alone
    # ZRANGE is of the workers, and SMEMBERS of what each of them has in hand.
    walking = {"KEYS", "SCAN", "HSCAN", "HKEYS", "HVALS", "LRANGE", "SORT"}
    assert not walking & {command for commands in alone for command in commands}
