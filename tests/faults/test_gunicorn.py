"""gunicorn with two workers in production mode, on real Redis, PostgreSQL and SMTP: its day, its end, its crashes."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from conftest import wait_for
from instruments import letters_waiting
from pages import JSON
from servers import PATIENCE, ROOT, SETTINGS, Gunicorn, Site, ask_to_sign_in, name_at_home, sign_up, site

pytestmark = pytest.mark.faults

# Of the 30 that gunicorn gives its workers before it kills them.
SECONDS_TO_END = 20
# Less than any load balancer has.
PATIENCE_WITH_SILENCE = 15
LETTERS = 60
QUEUE = "{magicauth-mail}:letters"


@pytest.fixture(scope="module")
def our(postgres, tmp_path_factory) -> Iterator[Site]:
    database = postgres.make_database("gunicorn", "migrated")
    with site(tmp_path_factory.mktemp("gunicorn"), database, WEB_CONCURRENCY="2") as ours:
        ours.mail_server.open()
        yield ours


def test_somebody_signs_up_and_out_and_in_again(our, ada, email):
    assert ada.post("/logout").headers["Location"] == "/auth"
    assert ada.get("/home").headers["Location"] == "/auth?next=/home"
    ask_to_sign_in(ada, email)
    answer = ada.post("/verify", data={"OTP": our.mail_server.letter(email, 2).code})
    assert answer.headers["Location"] == "/home"
    assert name_at_home(ada) == "Ada Lovelace"
    assert ada.get("/readyz").json() | {"message": ""} == {
        "status": "SUCCESS",
        "message": "",
        "redis": "ok",
        "database": "ok",
        "mail": "ok",
    }


def test_requests_are_logged_as_json_and_no_token_is(our, new, email):
    new.post("/users/magic_link", data={"email": email})
    letter = our.mail_server.letter(email)
    agent = 'a "browser"\\'
    page = new.get(letter.link, headers={"User-Agent": agent})
    assert page.status_code == 200
    new.get("/static/app.css", headers={"Referer": letter.links[0]})
    new.get("/no%0Aline%22")
    # What gunicorn itself refuses, it quotes in its own log.
    with connected(our.gunicorn) as raw:
        raw.sendall(f"GET {letter.link} and more HTTP/1.1\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    for sent in (
        f"&password={letter.token} HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1 {letter.token}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie {letter.token}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{letter.token}\r\n",
    ):
        with connected(our.gunicorn) as raw:
            raw.sendall(sent.encode())
            assert raw.recv(100).startswith(b"HTTP/1.1 400"), sent
    # As something on the way may rewrite a link.
    for mark in ("%3F", "%253f", "%2525253F", "%0A%3F"):
        assert new.get(letter.link.replace("?", mark)).status_code == 404

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in our.gunicorn.process.output.splitlines() if line.startswith('{"time"')]

    wait_for(lambda: any(line.get("path") == '/no\nline"' for line in lines()), PATIENCE)
    (seen,) = [line for line in lines() if line.get("agent") == agent]
    assert seen | {"time": "", "ms": 0, "bytes": 0} == {
        "time": "",
        "ip": "127.0.0.1",
        "method": "GET",
        "path": "/users/signup",
        "status": 200,
        "bytes": 0,
        "ms": 0,
        "agent": agent,
        "request_id": "",
    }
    (refused,) = [line for line in lines() if line.get("path") == '/no\nline"']
    said = [json.loads(line) for line in our.gunicorn.process.output.splitlines() if line.startswith('{"at"')]
    assert refused["request_id"] in {line.get("request_id") for line in said if line["path"] == refused["path"]}
    assert "Invalid request" in our.gunicorn.process.output
    assert letter.token not in our.gunicorn.process.output


def test_term_answers_what_is_under_way_ends_every_process_and_a_restart_loses_nothing(our, ada, new, email):
    ask_to_sign_in(new, email)
    gunicorn, slow_one = our.gunicorn, f"slow-{email}"
    with connected(gunicorn) as slow:
        body = urlencode({"email": slow_one}).encode()
        slow.sendall(
            f"POST /users/magic_link HTTP/1.1\r\nHost: {host(gunicorn)}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 100")
        folder = metrics_folder(gunicorn.workers)
        gunicorn.process.signal(signal.SIGTERM)
        slow.sendall(body)
        assert slow.recv(100).startswith(b"HTTP/1.1 303")
    assert gunicorn.process.wait(SECONDS_TO_END) == 0
    assert gunicorn.process.members == []
    assert not folder.exists()
    gunicorn.start()
    assert name_at_home(ada) == "Ada Lovelace"
    assert new.post("/verify", data={"OTP": our.mail_server.letter(email, 2).code}).headers["Location"] == "/home"
    assert our.mail_server.letter(slow_one).link.startswith("/users/signup")


def test_hup_replaces_the_workers_and_loses_and_forgets_no_request(our, ada):
    name_at_home(ada)
    counted = metrics(ada)
    with visitors(our.gunicorn, ada) as answers:
        wait_for_more(answers)
        before = our.gunicorn.workers
        our.gunicorn.process.signal(signal.SIGHUP)
        wait_for_others(our.gunicorn, before)
        wait_for_more(answers)
    assert set(answers) == {200}, answers
    assert metrics(ada) == counted + answers.total()


def test_usr2_puts_another_gunicorn_in_its_place_and_loses_no_request(our, email, tmp_path):
    with closing(Gunicorn(tmp_path, our.gunicorn.settings | {"WEB_CONCURRENCY": 1}, binds=True)) as gunicorn:
        gunicorn.start()
        with gunicorn.browser() as browser:
            sign_up(browser, our.mail_server, email)
            with visitors(gunicorn, browser) as answers:
                wait_for_more(answers)
                before = gunicorn.workers
                gunicorn.process.signal(signal.SIGUSR2)
                # The other one, and its worker.
                wait_for(lambda: len(set(gunicorn.workers) - set(before)) == 2, PATIENCE)
                wait_for_more(answers)
                gunicorn.process.signal(signal.SIGTERM)
                assert gunicorn.process.wait(SECONDS_TO_END) == 0
                wait_for_more(answers)
                assert not set(before) & set(gunicorn.process.members)
            assert set(answers) == {200}, answers
            assert name_at_home(browser) == "Ada Lovelace"
            counted = metrics(browser)
            name_at_home(browser)
            assert metrics(browser) == counted + 1


def test_kill_9_of_a_worker_keeps_sessions_and_open_questions(our, ada, new, email):
    ask_to_sign_in(new, email)
    code = our.mail_server.letter(email, 2).code
    before = wait_for(lambda: found if len(found := our.gunicorn.workers) == 2 else None, PATIENCE)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for_others(our.gunicorn, before)
    assert name_at_home(ada) == "Ada Lovelace"
    assert new.post("/verify", data={"OTP": code}).headers["Location"] == "/home"


def test_refusals_by_each_budget_are_counted_from_nought(our, new):
    shown = new.get("/metrics", headers={"Authorization": f"Bearer {SETTINGS['MAGICAUTH_METRICS_TOKEN']}"}).text
    assert set(re.findall(r'^magicauth_limits_hit_total\{kind="(\w+)"\} 0\.0', shown, re.MULTILINE)) == {
        "mails",
        "codes",
        "passwords",
    }


def test_counts_that_something_took_out_of_tmp_stop_no_worker(our, ada):
    name_at_home(ada)
    before = our.gunicorn.workers
    shutil.rmtree(metrics_folder(before))
    assert metrics(ada) > 0
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(now := our.gunicorn.workers) == 2 and before[0] not in now, PATIENCE)
    # Once more, before a worker has counted anything.
    before = our.gunicorn.workers
    our.gunicorn.process.signal(signal.SIGHUP)
    wait_for_others(our.gunicorn, before)
    shutil.rmtree(metrics_folder(our.gunicorn.workers))
    for _ in range(8):
        assert name_at_home(ada) == "Ada Lovelace"
    before = our.gunicorn.workers
    our.gunicorn.process.signal(signal.SIGHUP)
    wait_for_others(our.gunicorn, before)
    name_at_home(ada)
    assert metrics(ada) == 1


def test_kill_9_of_everything_sends_every_queued_letter_once(our, new, email):
    addresses = {f"user{number}-{email}" for number in range(LETTERS)}
    our.mail_server.answer = "451 later"
    for address in addresses:
        assert new.post("/users/magic_link", data={"email": address}).status_code == 303
    # Some wait for their first try, some for their next.
    wait_for(lambda: our.redis.client.hlen(f"{QUEUE}.DQ.msgs"), PATIENCE)
    our.gunicorn.process.kill()
    our.redis.kill()
    # Else it takes a letter from the dead.
    wait_for(lambda: not our.mail_server.is_talking, PATIENCE)
    our.mail_server.answer = "250 OK"
    our.redis.start()
    our.gunicorn.start()
    wait_for(lambda: not letters_waiting(our.redis.client), PATIENCE)
    took = [message for message in our.mail_server.messages if message["To"] in addresses]
    assert Counter(message["To"] for message in took) == dict.fromkeys(addresses, 1)
    assert len({message["Message-ID"] for message in took}) == LETTERS


def test_clients_that_fall_silent_in_the_middle_of_a_request_do_not_stop_the_server(our, tmp_path):
    few = our.gunicorn.settings | {"WEB_CONCURRENCY": 1, "GUNICORN_THREADS": 2}
    ours = ROOT / "gunicorn.conf.py"
    quicker = tmp_path / "quicker.conf.py"
    quicker.write_text(f"exec(compile(open({str(ours)!r}).read(), 'gunicorn.conf.py', 'exec'))\n_TAKING_MOST = 2\n")
    with closing(Gunicorn(tmp_path, few, "--config", quicker)) as server, contextlib.ExitStack() as open_ones:
        server.start()
        for half in (
            f"GET /auth HTTP/1.1\r\nHost: {host(server)}\r\n",
            f"POST /auth HTTP/1.1\r\nHost: {host(server)}\r\n"
            "Content-Type: application/json\r\nContent-Length: 60\r\n\r\n{",
        ):
            open_ones.enter_context(connected(server)).sendall(half.encode())
        with server.browser() as browser:
            assert browser.get("/healthz", timeout=PATIENCE_WITH_SILENCE).status_code == 200
            unread = [open_ones.enter_context(connected(server)) for _ in range(2)]
            for client in unread:
                ask_and_read_nothing(client, host(server))
            wait_for(lambda: all(map(is_hung_up_on, unread)), PATIENCE_WITH_SILENCE)
            assert browser.get("/healthz", timeout=PATIENCE_WITH_SILENCE).status_code == 200
        server.process.signal(signal.SIGTERM)
        assert server.process.wait(SECONDS_TO_END) == 0
        # Else anybody could fill the log.
        assert "Traceback" not in server.process.output


def test_an_app_that_is_wrapped_is_served_and_sends_letters(our, new, email, tmp_path):
    (tmp_path / "wrapped.py").write_text(
        "from magicauth import create_app\n"
        "from werkzeug.middleware.dispatcher import DispatcherMiddleware\n"
        "app = DispatcherMiddleware(create_app(), {})\n"
    )
    one = our.gunicorn.settings | {"WEB_CONCURRENCY": 1}
    with closing(Gunicorn(tmp_path, one, "--pythonpath", tmp_path, "wrapped:app")) as server:
        server.start()
        with server.browser() as browser:
            assert browser.post("/users/magic_link", data={"email": email}).status_code == 303
        assert our.mail_server.letter(email).link.startswith("/users/signup")
        server.process.signal(signal.SIGTERM)
        assert server.process.wait(SECONDS_TO_END) == 0
        assert "Traceback" not in server.process.output


def test_int_under_load_ends_at_once(our, tmp_path):
    many = our.gunicorn.settings | {"WEB_CONCURRENCY": 1, "GUNICORN_THREADS": 64}
    with closing(Gunicorn(tmp_path, many)) as server:
        server.start()
        over = threading.Event()

        def visit() -> None:
            with contextlib.suppress(httpx.TransportError), server.browser() as visitor:
                while not over.is_set():
                    visitor.get("/healthz", headers={"Connection": "close"})

        visitors = [threading.Thread(target=visit) for _ in range(16)]
        for visitor in visitors:
            visitor.start()
        server.process.signal(signal.SIGINT)
        ended = server.process.wait(SECONDS_TO_END)
        over.set()
    # The socket is closed with the rest: whoever waits there for the next server is sent away.
    for visitor in visitors:
        visitor.join()
    assert ended == 0


def host(gunicorn: Gunicorn) -> str:
    return httpx.URL(gunicorn.url).netloc.decode()


def connected(gunicorn: Gunicorn) -> socket.socket:
    """A connection that says nothing by itself."""
    return socket.create_connection(("127.0.0.1", httpx.URL(gunicorn.url).port))


def ask_and_read_nothing(client: socket.socket, host: str) -> None:
    """Asks until the server, which waits for its answers to be taken, reads no more either."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(1)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            client.sendall(f"GET /static/app.css HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 100)


def is_hung_up_on(client: socket.socket) -> bool:
    """Whether the server has closed the connection, without a look at what it sent."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


@contextlib.contextmanager
def visitors(gunicorn: Gunicorn, browser: httpx.Client) -> Iterator[Counter[Any]]:
    """Four of them, with that browser's session, ask for the guarded page inside the block; what they are answered."""
    answers: Counter[Any] = Counter()
    over = threading.Event()

    def visit(*, one_connection: bool) -> None:
        headers = JSON if one_connection else JSON | {"Connection": "close"}
        with gunicorn.browser() as visitor:
            visitor.cookies.update(browser.cookies)
            while not over.wait(0.05):
                try:
                    answers[visitor.get("/home", headers=headers).status_code] += 1
                except httpx.HTTPError as error:
                    answers[repr(error)] += 1

    threads = [threading.Thread(target=visit, kwargs={"one_connection": number % 2 == 0}) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_for_more(answers: Counter[Any], count: int = 50) -> None:
    """Until so many more have come."""
    enough = answers.total() + count
    wait_for(lambda: answers.total() >= enough, PATIENCE)


def wait_for_others(gunicorn: Gunicorn, before: list[int]) -> None:
    """Until two workers run that did not before, and no other."""
    wait_for(lambda: len(now := gunicorn.workers) == 2 and not set(before) & set(now), PATIENCE)


def metrics(browser: httpx.Client) -> float:
    """How many requests for the guarded page all workers say they have answered."""
    shown = browser.get("/metrics", headers={"Authorization": f"Bearer {SETTINGS['MAGICAUTH_METRICS_TOKEN']}"}).text
    (count,) = re.findall(r'^magicauth_requests_total\{route="/home",status="200"\} ([0-9.]+)', shown, re.MULTILINE)
    return float(count)


def metrics_folder(workers: list[int]) -> Path:
    """Where they count. Some may not have counted anything yet."""
    return wait_for(lambda: _counting(workers), PATIENCE)


def _counting(workers: list[int]) -> Path | None:
    maps = "".join(Path(f"/proc/{worker}/maps").read_text() for worker in workers)
    return next((Path(file).parent for file in re.findall(r"\S+/counter_[0-9]+\.db", maps)), None)
