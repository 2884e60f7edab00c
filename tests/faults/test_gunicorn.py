"""gunicorn with two workers in production mode, on real Redis, PostgreSQL and SMTP: its day, its end, its crashes."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import wait_for
from instruments import letters_waiting
from pages import EMAIL, JSON
from servers import PATIENCE, SETTINGS, Gunicorn, ask_to_sign_in, name_at_home, sign_up

pytestmark = pytest.mark.faults

# Of the 30 that gunicorn gives its workers before it kills them.
SECONDS_TO_END = 20
# Less than any load balancer has.
PATIENCE_WITH_SILENCE = 15
LETTERS = 60
QUEUE = "{magicauth-mail}:letters"


def test_somebody_signs_up_and_out_and_in_again(gunicorn, browser, mail_server):
    mail_server.open()
    sign_up(browser, mail_server)
    assert browser.post("/logout").headers["Location"] == "/auth"
    assert browser.get("/home").headers["Location"] == "/auth?next=/home"
    ask_to_sign_in(browser)
    answer = browser.post("/verify", data={"OTP": mail_server.letter(EMAIL, 2).code})
    assert answer.headers["Location"] == "/home"
    assert name_at_home(browser) == "Ada Lovelace"
    assert browser.get("/readyz").json() | {"message": ""} == {
        "status": "SUCCESS",
        "message": "",
        "redis": "ok",
        "database": "ok",
        "mail": "ok",
    }


def test_requests_are_logged_as_json_and_no_token_is(gunicorn, browser, mail_server):
    mail_server.open()
    browser.post("/users/magic_link", data={"email": EMAIL})
    letter = mail_server.letter(EMAIL)
    page = browser.get(letter.link, headers={"User-Agent": 'a "browser"\\'})
    assert page.status_code == 200
    browser.get("/static/app.css", headers={"Referer": letter.links[0]})
    browser.get("/no%0Aline%22")
    # What gunicorn itself refuses, it quotes in its own log.
    with socket.create_connection(("127.0.0.1", httpx.URL(gunicorn.url).port)) as raw:
        raw.sendall(f"GET {letter.link} and more HTTP/1.1\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400")

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in gunicorn.process.output.splitlines() if line.startswith("{")]

    wait_for(lambda: any(line["path"] == '/no\nline"' for line in lines()), PATIENCE)
    seen = next(line for line in lines() if line["path"] == "/users/signup")
    assert seen | {"time": "", "ms": 0, "bytes": 0} == {
        "time": "",
        "ip": "127.0.0.1",
        "method": "GET",
        "path": "/users/signup",
        "status": 200,
        "bytes": 0,
        "ms": 0,
        "agent": 'a "browser"\\',
    }
    assert "Invalid request" in gunicorn.process.output
    assert letter.token not in gunicorn.process.output


def test_term_answers_what_is_under_way_ends_every_process_and_a_restart_loses_nothing(gunicorn, browser, mail_server):
    mail_server.open()
    sign_up(browser, mail_server)
    with gunicorn.browser() as another:
        ask_to_sign_in(another)
        with socket.create_connection(("127.0.0.1", httpx.URL(gunicorn.url).port)) as slow:
            body = b"email=slow%40example.org"
            slow.sendall(
                f"POST /users/magic_link HTTP/1.1\r\nHost: {httpx.URL(gunicorn.url).netloc.decode()}\r\n"
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
        assert name_at_home(browser) == "Ada Lovelace"
        assert another.post("/verify", data={"OTP": mail_server.letter(EMAIL, 2).code}).headers["Location"] == "/home"
    assert mail_server.letter("slow@example.org").link.startswith("/users/signup")


def test_hup_replaces_the_workers_and_loses_and_forgets_no_request(gunicorn, browser, mail_server):
    mail_server.open()
    sign_up(browser, mail_server)
    with visitors(gunicorn, browser) as answers:
        for _ in range(2):
            wait_for_more(answers)
            before = gunicorn.workers
            gunicorn.process.signal(signal.SIGHUP)
            wait_for_others(gunicorn, before)
        wait_for_more(answers)
    assert set(answers) == {200}, answers
    assert metrics(browser) == answers.total()


def test_usr2_puts_another_gunicorn_in_its_place_and_loses_no_request(postgres, redis_server, mail_server, tmp_path):
    stores = {"REDIS_URL": redis_server.url, "DATABASE_URL": postgres.make_database(tmp_path.name, "migrated")}
    gunicorn = Gunicorn(tmp_path, SETTINGS | stores | {"MAIL_PORT": str(mail_server.port)}, binds=True)
    mail_server.open()
    try:
        gunicorn.start()
        with gunicorn.browser() as browser:
            sign_up(browser, mail_server)
            with visitors(gunicorn, browser) as answers:
                wait_for_more(answers)
                before = gunicorn.workers
                gunicorn.process.signal(signal.SIGUSR2)
                # The other one, and its two.
                wait_for(lambda: len(set(gunicorn.workers) - set(before)) == 3, PATIENCE)
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
    finally:
        gunicorn.close()


def test_kill_9_of_a_worker_keeps_sessions_and_open_questions(gunicorn, browser, mail_server):
    mail_server.open()
    sign_up(browser, mail_server)
    with gunicorn.browser() as another:
        ask_to_sign_in(another)
        code = mail_server.letter(EMAIL, 2).code
        before = wait_for(lambda: gunicorn.workers if len(gunicorn.workers) == 2 else None, PATIENCE)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for_others(gunicorn, before)
        assert name_at_home(browser) == "Ada Lovelace"
        assert another.post("/verify", data={"OTP": code}).headers["Location"] == "/home"


def test_kill_9_of_everything_sends_every_queued_letter_once(gunicorn, browser, mail_server, redis_server):
    addresses = {f"user{number}@example.org" for number in range(LETTERS)}
    for address in addresses:
        assert browser.post("/users/magic_link", data={"email": address}).status_code == 303
    # Some wait for their first try, some for their next.
    wait_for(lambda: redis_server.client.hlen(f"{QUEUE}.DQ.msgs"), PATIENCE)
    gunicorn.process.kill()
    redis_server.kill()
    mail_server.open()
    redis_server.start()
    gunicorn.start()
    wait_for(lambda: not letters_waiting(redis_server.client), PATIENCE)
    assert Counter(message["To"] for message in mail_server.messages) == dict.fromkeys(addresses, 1)
    assert len({message["Message-ID"] for message in mail_server.messages}) == LETTERS


def test_clients_that_fall_silent_in_the_middle_of_a_request_do_not_stop_the_server(redis_server, tmp_path):
    settings = SETTINGS | {"REDIS_URL": redis_server.url, "DATABASE_URL": f"sqlite:///{tmp_path / 'none.sqlite3'}"}
    server = Gunicorn(tmp_path, settings | {"WEB_CONCURRENCY": 1, "GUNICORN_THREADS": 2})
    host = httpx.URL(server.url).netloc.decode()
    half = [
        f"GET /auth HTTP/1.1\r\nHost: {host}\r\n",
        f"POST /auth HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{{",
    ]
    try:
        server.start()
        with contextlib.ExitStack() as open_ones:
            for request in half:
                silent = socket.create_connection(("127.0.0.1", httpx.URL(server.url).port))
                open_ones.enter_context(silent).sendall(request.encode())
            assert httpx.get(f"{server.url}/healthz", timeout=PATIENCE_WITH_SILENCE).status_code == 200
    finally:
        server.close()


@contextlib.contextmanager
def visitors(gunicorn: Gunicorn, browser: httpx.Client) -> Iterator[Counter[Any]]:
    """Four of them, with that browser's session, ask for the guarded page inside the block; what they are answered."""
    answers: Counter[Any] = Counter()
    over = threading.Event()

    def visit(*, one_connection: bool) -> None:
        headers = JSON if one_connection else JSON | {"Connection": "close"}
        with gunicorn.browser() as visitor:
            visitor.cookies.update(browser.cookies)
            while not over.wait(0.02):
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
    maps = "".join(Path(f"/proc/{worker}/maps").read_text() for worker in workers)
    (folder,) = {Path(file).parent for file in re.findall(r"\S+/counter_[0-9]+\.db", maps)}
    return folder
