"""Redis that is killed, hung, emptied, full, loading, read-only or locked, under gunicorn in production mode."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest
from conftest import wait_for
from instruments import at_once, delivering, letters_waiting, quiet_app
from pages import PASSWORD
from servers import PATIENCE, MailServer, Redis, Site, ask_to_sign_in, folder_for_sockets, name_at_home, sign_up, site

from magicauth import outbox

pytestmark = pytest.mark.faults

QUEUE = "{magicauth-mail}:letters"


@pytest.fixture(scope="module")
def our(postgres, tmp_path_factory) -> Iterator[Site]:
    database = postgres.make_database("redis", "migrated")
    with site(tmp_path_factory.mktemp("redis"), database) as ours:
        ours.mail_server.open()
        yield ours


def check_away(answer: httpx.Response) -> None:
    """Whether it says, in words for people, that something is away and when to come back."""
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "2"), answer.text
    assert "Nothing is lost" in answer.text
    assert "redis" not in answer.text.lower()
    # The browser keeps its session for when Redis is back.
    assert "Set-Cookie" not in answer.headers


def check_writes_are_refused(browser: httpx.Client, asking: httpx.Client, email: str, code: str) -> None:
    """More often than there are guesses, and places in the budget of passwords."""
    for _ in range(11):
        check_away(asking.post("/verify", data={"OTP": code}))
        check_away(browser.post("/auth", data={"email": email, "password": PASSWORD}))
        check_away(browser.post("/users/magic_link", data={"email": f"new-{email}"}))


def code_of(our: Site, asking: httpx.Client, email: str) -> str:
    ask_to_sign_in(asking, email)
    return our.mail_server.letter(email, 2).code


def check_signed_in_by(asking: httpx.Client, code: str) -> None:
    answer = asking.post("/verify", data={"OTP": code})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/home"), answer.text


def test_a_redis_that_is_killed_has_everything_when_it_is_back(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        our.redis.kill()
        # Whoever starts while it is away comes up all the same.
        our.gunicorn.process.kill()
        our.gunicorn.start()
        check_away(ada.get("/home"))
        check_away(asking.post("/verify", data={"OTP": code}))
        check_away(new.post("/users/magic_link", data={"email": f"new-{email}"}))
        for path in ("/auth", "/users/magic_link", "/healthz", "/static/app.css"):
            assert new.get(path).status_code == 200, path
        ready = new.get("/readyz")
        assert (ready.status_code, ready.json()["redis"], ready.json()["database"]) == (503, "away", "ok")
        our.redis.start()
        assert name_at_home(ada) == "Ada Lovelace"
        check_signed_in_by(asking, code)
    sign_up(new, our.mail_server, f"new-{email}")


def test_a_redis_that_hangs_loses_and_doubles_nothing(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        requests = [
            lambda: ada.get("/home"),
            lambda: asking.post("/verify", data={"OTP": code}),
            lambda: new.post("/users/magic_link", data={"email": f"new-{email}"}),
        ]
        with our.redis.hung():
            for answer in at_once(len(requests), lambda number: requests[number]()):
                check_away(answer)
            assert new.get("/auth").status_code == 200
        assert name_at_home(ada) == "Ada Lovelace"
        check_signed_in_by(asking, code)
    sign_up(new, our.mail_server, f"new-{email}")


def test_after_redis_was_emptied_people_sign_in_again(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        our.redis.client.flushall()
        assert ada.get("/home").headers["Location"] == "/auth?next=/home"
        assert asking.post("/verify", data={"OTP": code}, headers={"Accept": "application/json"}).status_code == 404
    ask_to_sign_in(new, email)
    check_signed_in_by(new, our.mail_server.letter(email, 3).code)


def test_a_full_redis_spends_no_guess_and_lets_people_out(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        new.post("/users/magic_link", data={"email": f"new-{email}"})
        form = {"token": our.mail_server.letter(f"new-{email}").token, "name": "Eve", "password": PASSWORD}
        our.redis.client.config_set("maxmemory", "1")
        try:
            assert name_at_home(ada) == "Ada Lovelace"
            check_writes_are_refused(new, asking, email, code)
            # What ends a session needs no memory.
            assert ada.post("/logout").headers["Location"] == "/auth"
        finally:
            our.redis.client.config_set("maxmemory", "0")
        assert ada.get("/home").status_code == 303
        check_signed_in_by(asking, code)
        assert new.post("/users/signup", data=form).headers["Location"] == "/home"


def test_a_replica_that_takes_no_writes_spends_no_guess(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        our.redis.client.replicaof("127.0.0.1", 1)
        try:
            assert name_at_home(ada) == "Ada Lovelace"
            check_writes_are_refused(new, asking, email, code)
            check_away(ada.post("/logout"))
        finally:
            our.redis.client.replicaof("NO", "ONE")
        assert name_at_home(ada) == "Ada Lovelace"
        check_signed_in_by(asking, code)
        sign_up(new, our.mail_server, f"new-{email}")


def test_a_redis_that_is_loading_is_away_and_then_has_everything(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        # Something to load: after each of them Redis looks up, and answers that it is loading.
        our.redis.client.mset({f"filling:{number}": os.urandom(2048) for number in range(200)})
        our.redis.rewrite_file()
        our.redis.kill()
        with our.redis.loading():
            check_away(ada.get("/home"))
            check_away(asking.post("/verify", data={"OTP": code}))
            assert new.get("/auth").status_code == 200
            assert new.get("/readyz").json()["redis"] == "away"
        assert name_at_home(ada) == "Ada Lovelace"
        check_signed_in_by(asking, code)


def test_a_redis_that_wants_another_password_is_away(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        our.redis.client.config_set("requirepass", "another")
        try:
            our.redis.client.client_kill_filter(_type="normal", skipme=True)
            check_away(ada.get("/home"))
            check_away(asking.post("/verify", data={"OTP": code}))
            assert new.get("/readyz").json()["redis"] == "away"
        finally:
            our.redis.client.config_set("requirepass", "")
        assert name_at_home(ada) == "Ada Lovelace"
        check_signed_in_by(asking, code)


def test_a_redis_on_a_full_disk_loses_nothing(our, ada, new, email):
    with our.gunicorn.browser() as asking:
        code = code_of(our, asking, email)
        with our.redis.on_a_full_disk():
            wait_for(lambda: asking.post("/auth/reset", data={"email": email}).status_code == 503)
            assert name_at_home(ada) == "Ada Lovelace"
            check_writes_are_refused(new, asking, email, code)
            assert new.get("/readyz").json()["redis"] == "away"
        wait_for(lambda: new.get("/readyz").status_code == 200)
        check_signed_in_by(asking, code)
        # While the disk still syncs what was held up, Redis may answer before it has written (appendfsync everysec).
        wait_for(lambda: our.redis.client.info("persistence")["aof_buffer_length"] == 0, PATIENCE)
        our.redis.kill()
        our.redis.start()
        assert name_at_home(asking) == name_at_home(ada) == "Ada Lovelace"


# --- letters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["451 later", "250 OK"])
def test_a_letter_in_the_hand_of_the_worker_when_redis_is_killed_is_not_lost(our, new, email, answer):
    our.mail_server.answer = answer
    our.mail_server.answering.clear()
    before = len(our.mail_server.offered)
    new.post("/users/magic_link", data={"email": email})
    wait_for(lambda: len(our.mail_server.offered) > before)
    our.redis.kill()
    our.mail_server.answering.set()
    # Meanwhile the worker has found that it cannot put the letter back, or say that it is done.
    for _ in range(20):
        check_away(new.post("/users/magic_link", data={"email": email}))
    our.mail_server.answer = "250 OK"
    our.redis.start()
    wait_for(lambda: not letters_waiting(our.redis.client), PATIENCE)
    assert [message["To"] for message in our.mail_server.messages].count(email) == 1


def test_letters_in_the_queue_of_a_redis_that_hangs_are_not_lost(our, new, email):
    our.mail_server.answer = "451 later"
    new.post("/users/magic_link", data={"email": email})
    wait_for(lambda: our.redis.client.hlen(f"{QUEUE}.DQ.msgs"))
    our.mail_server.answer = "250 OK"
    # Redis will hand it to a worker that has given up waiting for an answer.
    new.post("/users/magic_link", data={"email": f"new-{email}"})
    with our.redis.hung():
        for _ in range(2):
            check_away(new.post("/users/magic_link", data={"email": email}))
    our.mail_server.letter(email)
    our.mail_server.letter(f"new-{email}")


def test_a_worker_that_is_stopped_while_redis_hangs_ends_in_time_and_its_letter_goes_out_later(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "_HEARTBEAT_MS", 1000)
    with folder_for_sockets() as sockets, closing(MailServer()) as mail_server, ExitStack() as stack:
        redis = Redis(sockets)
        redis.start()
        stack.callback(redis.kill)
        mail_server.open()
        mail_server.answer = "451 later"
        mail_server.answering.clear()
        post = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(mail_server.port)}
        app = stack.enter_context(quiet_app(redis.url, tmp_path, **post))
        box = app.extensions["magicauth-outbox"]
        box.start_worker()
        assert app.test_client().post("/users/magic_link", data={"email": "late@example.org"}).status_code == 303
        wait_for(lambda: mail_server.offered, PATIENCE)
        with redis.hung():
            # It is to be put off, and Redis does not say that it is.
            mail_server.answering.set()
            began = time.monotonic()
            box.stop_worker(timeout=5)
            assert time.monotonic() - began < 15
        mail_server.answer = "250 OK"
        # Another process finds that the first one is dead.
        with quiet_app(redis.url, tmp_path, **post) as other, delivering(other):
            assert mail_server.letter("late@example.org").link.startswith("/users/signup")
