"""deploy/nginx.conf and deploy/Caddyfile as they are shipped, with TLS, in front of gunicorn in production mode."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bs4 import BeautifulSoup
from conftest import wait_for
from pages import EMAIL
from servers import PATIENCE, ROOT, Process, Site, ask_to_sign_in, clean_environment, name_at_home, sign_up, site
from sqlalchemy import create_engine

from magicauth.extensions import Base

pytestmark = pytest.mark.faults

BODY_MOST = 64 * 1024
# After `/home?`; each of these takes three characters in the query of the page that it leads to.
NEXT_MOST = 2040
# More than gunicorn has threads.
SLOW_CLIENTS = 12
# gunicorn waits five for the rest of a body.
SECONDS_OF_PATIENCE = 3
# What a client may write to pass for another, somewhere else.
CLAIMS = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "203.0.113.7",
    "Forwarded": "for=203.0.113.7;host=evil.example;proto=http",
    "X-Request-ID": "written-by-a-client",
}


class Proxy:
    """A proxy that is configured by a shipped file, in which the test puts its own names, ports and paths."""

    name: str
    site: Site

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.plain_port, self.port = (bound.getsockname()[1] for bound in self._sockets)
        self.url = f"https://localhost:{self.port}"

    @property
    def logs(self) -> str:
        """Everything that it has written down."""
        return self._process.output + "".join(file.read_text() for file in self._folder.glob("*.log"))

    @property
    def context(self) -> ssl.SSLContext:
        """That trusts its certificate."""
        return ssl.create_default_context(cafile=self._folder / "site.pem")

    def browser(self, address: str = "127.0.0.1") -> httpx.Client:
        """Somebody's browser, at that address."""
        transport = httpx.HTTPTransport(verify=self.context, local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, timeout=PATIENCE)

    def connection(self) -> ssl.SSLSocket:
        """A connection on which anything may be sent."""
        raw = socket.create_connection(("localhost", self.port), timeout=PATIENCE)
        return self.context.wrap_socket(raw, server_hostname="localhost")

    def start(self, behind: str) -> None:
        """In front of what is at that URL."""
        self._make_certificate()
        self._run(behind)
        wait_for(self._answers, PATIENCE)

    def close(self) -> None:
        self._process.kill()
        for bound in self._sockets:
            bound.close()

    def _run(self, behind: str) -> None:
        raise NotImplementedError

    def _make_certificate(self) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "site.key", "-out", "site.pem"]
        subprocess.run([*command, *files], cwd=self._folder, check=True, capture_output=True)

    def _answers(self) -> bool:
        assert self._process.status is None, self.logs
        with contextlib.suppress(httpx.TransportError), self.browser() as browser:
            return bool(browser.get("/healthz").status_code)
        return False


class Nginx(Proxy):
    """nginx, by a main file like Debian's: with its log of whole requests, and compression."""

    name = "nginx"

    def _run(self, behind: str) -> None:
        rendered = rendered_file(
            "deploy/nginx.conf",
            {
                "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
                "listen 443 ": f"listen 127.0.0.1:{self.port} ",
                "https://id.example.org": self.url,
                "id.example.org;": "localhost;",
                "/var/log/nginx": str(self._folder),
                "/etc/ssl/id.example.org": str(self._folder / "site"),
                "http://127.0.0.1:8000": behind,
            },
        )
        (self._folder / "site.conf").write_text(rendered)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        main = f"""
            {"user root;" if os.geteuid() == 0 else ""}
            worker_processes 1;
            daemon off;
            pid nginx.pid;
            error_log stderr;
            events {{ worker_connections 256; }}
            http {{
                {"".join(f"{kind}_temp_path {kind};" for kind in kinds)}
                access_log whole_requests.log;
                gzip on;
                include site.conf;
            }}
        """
        (self._folder / "nginx.conf").write_text(main)
        fds = [bound.fileno() for bound in self._sockets]
        command = [proxy_binary("nginx"), "-p", str(self._folder), "-c", "nginx.conf"]
        # As it hands its sockets over to its own next version.
        env = clean_environment() | {"NGINX": "".join(f"{fd};" for fd in fds)}
        self._process = Process(command, self._folder / "output", env=env, pass_fds=fds)


class Caddy(Proxy):
    """Caddy, which takes no open sockets: it is started on the ports that were free for ours."""

    name = "caddy"

    def _run(self, behind: str) -> None:
        rendered = rendered_file(
            "deploy/Caddyfile",
            {
                "{\n\t#": f"{{\n\tadmin off\n\thttp_port {self.plain_port}\n\thttps_port {self.port}\n\t#",
                "id.example.org {": f"{self.url} {{\n\ttls {self._folder}/site.pem {self._folder}/site.key",
                "reverse_proxy 127.0.0.1:8000": f"reverse_proxy {behind.removeprefix('http://')}",
            },
        )
        (self._folder / "Caddyfile").write_text(rendered)
        for bound in self._sockets:
            bound.close()
        command = [proxy_binary("caddy"), "run", "--adapter", "caddyfile", "--config", str(self._folder / "Caddyfile")]
        env = clean_environment() | {"XDG_DATA_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        self._process = Process(command, self._folder / "output", env=env)


def rendered_file(name: str, replacements: dict[str, str]) -> str:
    """The file with what an operator would put in the place of our examples, and nothing else changed."""
    text = (ROOT / name).read_text()
    for ours, theirs in replacements.items():
        assert ours in text, ours
        text = text.replace(ours, theirs, 1 if ours.startswith("{") else -1)
    return text


def proxy_binary(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found:
        return found
    missing = f"{name} is not installed."
    if os.environ.get("CI") == "true" and name == "nginx":
        # Debian has it; a Caddy that is new enough comes from elsewhere, if it does.
        raise FileNotFoundError(missing)
    raise pytest.skip.Exception(missing)


@pytest.fixture(scope="module", params=[Nginx, Caddy], ids=lambda kind: kind.name)
def proxy(request, tmp_path_factory) -> Iterator[Proxy]:
    """Started, before a site that knows it by its public name and trusts it."""
    proxy_binary(request.param.name)
    folder = tmp_path_factory.mktemp(request.param.name)
    engine = create_engine(f"sqlite:///{folder / 'magicauth.sqlite3'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with contextlib.ExitStack() as stack:
        proxy = request.param(folder)
        settings = {"PUBLIC_URL": proxy.url, "MAGICAUTH_TRUSTED_PROXIES": "1"}
        settings["MAGICAUTH_LIMIT_PASSWORDS_PER_IP"] = "2 per hour"
        proxy.site = stack.enter_context(site(folder, f"sqlite:///{folder / 'magicauth.sqlite3'}", **settings))
        proxy.site.mail_server.open()
        stack.callback(proxy.close)
        proxy.start(proxy.site.gunicorn.url)
        yield proxy


@pytest.fixture
def browser(proxy) -> Iterator[httpx.Client]:
    with proxy.browser() as browser:
        yield browser


def test_somebody_signs_up_and_out_and_in_again(proxy, browser):
    mail_server = proxy.site.mail_server
    sign_up(browser, mail_server)
    assert {cookie.name for cookie in browser.cookies.jar} == {"__Host-magicauth", "__Host-magicauth-device"}
    assert all(cookie.secure and not cookie.domain_specified for cookie in browser.cookies.jar)
    signed_out = browser.post("/logout", headers={"Origin": proxy.url})
    assert (signed_out.status_code, signed_out.headers["Location"]) == (303, "/auth")
    ask_to_sign_in(browser)
    letter = mail_server.letter(EMAIL, 2)
    assert all(link.startswith(proxy.url + "/") for link in letter.links)
    assert browser.get(letter.link).status_code == 200
    assert browser.post("/verify", data={"OTP": letter.code}).headers["Location"] == "/home"
    assert name_at_home(browser) == "Ada Lovelace"


def test_browsers_are_told_to_come_by_https_only(proxy, browser):
    assert "max-age=" in browser.get("/auth").headers["Strict-Transport-Security"]
    asked = f"http://localhost:{proxy.plain_port}/auth/link?token=somewhere"
    led = httpx.get(asked)
    assert led.status_code in (301, 308)
    assert led.headers["Location"].startswith("https://localhost")
    assert led.headers["Location"].endswith("/auth/link?token=somewhere")


def test_a_visitor_is_where_the_proxy_sees_him_whatever_he_claims(proxy):
    email = "grace@example.org"
    with proxy.browser("127.0.0.2") as claiming:
        claiming.headers.update(CLAIMS)
        sign_up(claiming, proxy.site.mail_server, email)
        page = BeautifulSoup(claiming.get("/account/sessions").text, "html.parser").get_text()
        assert "127.0.0.2" in page and "203.0.113.7" not in page
        assert all(link.startswith(f"{proxy.url}/") for link in proxy.site.mail_server.letter(email).links)
        assert all(cookie.secure for cookie in claiming.cookies.jar)
    assert "written-by-a-client" not in proxy.site.gunicorn.process.output


def test_another_name_in_the_address_bar_is_refused_and_not_made_good_by_a_claim(proxy, browser):
    true_host = proxy.url.removeprefix("https://")
    assert browser.get("/auth", headers={"X-Forwarded-Host": true_host}).status_code == 200
    with proxy.connection() as raw:
        raw.sendall(
            f"GET /auth HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: {true_host}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421")) or b"\r\nContent-Length: 0\r\n" in answer


def test_a_budget_is_spent_by_the_true_address_and_no_other(proxy):
    def guess(address: str, claim: str) -> int:
        with proxy.browser(address) as guessing:
            form = {"email": f"nobody{claim[-1]}@example.org", "password": "a wrong password"}
            return guessing.post("/auth", json=form, headers={"X-Forwarded-For": claim}).status_code

    assert [guess("127.0.0.3", f"203.0.113.{number}") for number in range(3)] == [401, 401, 429]
    assert guess("127.0.0.4", "203.0.113.4") == 401


def test_a_body_that_is_too_long_is_413(browser):
    assert browser.post("/auth", json={"email": "a" * BODY_MOST}).status_code == 413
    assert browser.post("/auth", json={"email": "a" * 10 * BODY_MOST}).status_code == 413
    assert browser.post("/auth", json={"email": "a" * (BODY_MOST - 100)}).status_code == 400


def test_without_a_proxy_a_body_that_is_too_long_costs_no_later_request_its_answer(proxy):
    with proxy.site.gunicorn.browser() as browser:
        browser.headers["Host"] = proxy.url.removeprefix("https://")
        for _ in range(20):
            assert browser.post("/auth", json={"email": "a" * 3 * BODY_MOST}).json()["status"] == "FAIL"


def test_headers_that_are_too_long_are_refused_and_the_longest_of_ours_pass(proxy, browser):
    assert browser.get("/auth", headers={"X-Long": "a" * 2_000_000}).status_code in (400, 431)
    led = browser.get("/home?" + "&" * NEXT_MOST)
    assert (led.status_code, led.headers["Location"][:11]) == (303, "/auth?next=")
    assert browser.get(led.headers["Location"]).status_code == 200


def test_clients_that_send_slowly_keep_nobody_waiting(proxy, browser):
    head = f"POST /auth HTTP/1.1\r\nHost: localhost:{proxy.port}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with contextlib.ExitStack() as stack:
        for number in range(SLOW_CLIENTS):
            slow = stack.enter_context(proxy.connection())
            # Half of them in the middle of the headers, half in the middle of the body.
            slow.sendall((head + ("Content-Length: 1000\r\n\r\nemail=" if number % 2 else "X-Half: ")).encode())
        # While what they sent is passed on, if it is.
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert browser.get("/auth", timeout=SECONDS_OF_PATIENCE).status_code == 200


def test_static_files_come_compressed_and_pages_with_secrets_do_not(proxy, browser):
    page = browser.get("/auth")
    assert "Content-Encoding" not in page.headers
    style = BeautifulSoup(page.text, "html.parser").select_one('link[rel="stylesheet"]')
    answer = browser.get(style["href"])
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert "immutable" in answer.headers["Cache-Control"] or "max-age=" in answer.headers["Cache-Control"]


def test_no_log_holds_a_token(proxy, browser):
    email = "margaret@example.org"
    assert browser.post("/users/magic_link", data={"email": email}).status_code == 303
    letter = proxy.site.mail_server.letter(email)
    referring = {"Referer": letter.links[0]}
    assert browser.get(letter.link, headers=referring).status_code == 200
    for mark in ("%3F", "%253f", "%25253F", "%0A%3F"):
        assert browser.get(letter.link.replace("?", mark), headers=referring).status_code == 404
    httpx.get(f"http://localhost:{proxy.plain_port}{letter.link}", headers=referring)
    with proxy.connection() as raw:
        raw.sendall(f"GET {letter.link} and more HTTP/1.1\r\nHost: localhost:{proxy.port}\r\n\r\n".encode())
        raw.recv(100)
    wait_for(lambda: "/users/signup" in proxy.logs, PATIENCE)
    assert letter.token not in proxy.logs
    assert letter.token not in proxy.site.gunicorn.process.output


@pytest.mark.parametrize("kind", [Nginx, Caddy], ids=lambda kind: kind.name)
def test_no_log_holds_a_token_while_gunicorn_is_away(kind, tmp_path):
    proxy_binary(kind.name)
    proxy = kind(tmp_path)
    try:
        proxy.start("http://127.0.0.1:1")
        with proxy.browser() as browser:
            referring = {"Referer": f"{proxy.url}/users/signup?token=secret"}
            assert browser.get("/auth/link?token=secret", headers=referring).status_code == 502
        wait_for(lambda: "/auth/link" in proxy.logs, PATIENCE)
    finally:
        proxy.close()
    assert "secret" not in proxy.logs


def test_hup_of_gunicorn_under_traffic_loses_no_request(proxy, browser):
    gunicorn = proxy.site.gunicorn
    answers: Counter[Any] = Counter()
    over = threading.Event()

    def visit() -> None:
        with proxy.browser() as visitor:
            while not over.wait(0.05):
                try:
                    answers[visitor.get("/auth").status_code] += 1
                    answers[visitor.post("/auth", data={"email": "no address"}).status_code] += 1
                except httpx.HTTPError as error:
                    answers[repr(error)] += 1

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        before = gunicorn.workers
        gunicorn.process.signal(signal.SIGHUP)
        wait_for(lambda: gunicorn.workers and not set(before) & set(gunicorn.workers), PATIENCE)
        enough = answers.total() + 50
        wait_for(lambda: answers.total() >= enough, PATIENCE)
    finally:
        over.set()
        for visitor in visitors:
            visitor.join()
    assert set(answers) == {200, 400}, answers
