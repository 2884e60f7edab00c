"""The same code on each Redis there is: over TLS, behind Sentinel, as a Cluster, and Valkey."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from engines import HOST, SERVICE, Cluster, Encrypted, Node, Watched, hold_port, node_id, port_of
from instruments import quiet_app, session_id
from pages import EMAIL, JSON, PASSWORD, Letters, is_signed_in, other_browser, sign_in, sign_up
from redis.crc import key_slot
from servers import PATIENCE

from magicauth import embedded
from magicauth.crypto import digest

pytestmark = pytest.mark.faults

OTHER_PASSWORD = "quite another passphrase"
TOKEN = "the bearer token of the tests"
USERS = [EMAIL, "bob@example.org"]
SETTINGS = {
    "MAGICAUTH_RESEND_AFTER": 1,
    "MAGICAUTH_LIMIT_MAILS_PER_IP": "1000 per hour",
    "MAGICAUTH_LIMIT_PASSWORDS_PER_ACCOUNT": "3 per 5 minutes",
    "MAGICAUTH_METRICS_TOKEN": TOKEN,
}
# What the contract allows, and what a busy machine takes besides.
REFUSED, HUNG, BUSY = 0.5, 1.5, 1.0


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[type], Any]]:
    """Starts one of each kind, for all tests of this module."""
    with ExitStack() as started:
        engines: dict[type, Any] = {}

        def start(kind: type) -> Any:
            if kind not in engines:
                engine = started.enter_context(closing(kind(tmp_path_factory.mktemp("engine") / "it")))
                engine.start()
                engines[kind] = engine
            return engines[kind]

        yield start


class Valkey(Node):
    """The one that development uses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, embedded._binary())


@pytest.mark.parametrize("kind", [Valkey, Encrypted, Watched, Cluster])
def test_every_journey_goes_its_way(start, kind, make_app):
    engine = start(kind)
    query = f"?ssl_ca_certs={engine.authority}" if kind is Encrypted else ""
    app = make_app(REDIS_URL=engine.url + query, **SETTINGS)
    browsers = {email: app.test_client() for email in USERS}
    for email, browser in browsers.items():
        sign_up_out_and_in_again(browser, email)
    ada = browsers[EMAIL]
    end_sessions(ada)
    forget_the_password(ada)
    guess_until_it_is_too_many(other_browser(ada))
    assert all(is_signed_in(browser) for browser in browsers.values())
    for node in getattr(engine, "nodes", [engine]):
        assert not {"cmdstat_keys", "cmdstat_scan"} & set(node.client.info("commandstats"))
    if kind is Cluster:
        for number in itertools.count():
            if all(shards(engine, prefix) == {0, 1, 2} for prefix in ("session", "sessions-of", "challenge")):
                break
            sign_up_out_and_in_again(app.test_client(), f"user{number}@example.org")
            # One that stays open.
            assert app.test_client().post("/auth", json={"email": f"user{number}@example.org"}).status_code == 200
    look_after_it(app)


def shards(cluster: Cluster, prefix: str) -> set[int]:
    """Which of them hold keys of that kind."""
    keys = [key.decode() for node in cluster.nodes for key in node.client.scan_iter(f"magicauth:{prefix}:*")]
    return {cluster.shard(key) for key in keys}


def sign_up_out_and_in_again(browser: Any, email: str) -> None:
    assert sign_up(browser, email).location == "/home"
    assert is_signed_in(browser)
    browser.post("/logout")
    assert not is_signed_in(browser)
    browser.post("/auth", data={"email": email, "password": PASSWORD})
    code = Letters(browser.application).last(email).code
    assert browser.post("/verify", json={"OTP": "x"}).get_json()["attempts_left"] == 4
    assert browser.post("/verify", data={"OTP": code}).location == "/home"
    assert other_browser(browser).post("/verify", data={"OTP": code}).status_code != 200
    assert is_signed_in(browser)


def end_sessions(browser: Any) -> None:
    phone, tablet, laptop = (other_browser(browser) for _ in range(3))
    for other in (phone, tablet, laptop):
        assert sign_in(other).location == "/home"
    assert len(listed(browser)) == 4
    mine = next(one["session"] for one in listed(phone) if one["current"])
    browser.post("/account/sessions/end", data={"session": mine})
    assert [is_signed_in(other) for other in (browser, phone, tablet, laptop)] == [True, False, True, True]
    browser.post("/account/sessions/end_others")
    assert [is_signed_in(other) for other in (browser, phone, tablet, laptop)] == [True, False, False, False]
    assert len(listed(browser)) == 1


def listed(browser: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.get("/account/sessions", headers=JSON).get_json()["sessions"]
    return found


def forget_the_password(browser: Any) -> None:
    other = other_browser(browser)
    other.post("/auth/reset", data={"email": EMAIL})
    first = Letters(browser.application).last(EMAIL).code
    wait_for(lambda: other.post("/verify/resend", headers=JSON).status_code == 200)
    assert Letters(browser.application).last(EMAIL).code == first
    assert other.post("/verify", data={"OTP": first}).location == "/auth/reset/password"
    assert other.post("/auth/reset/password", data={"password": OTHER_PASSWORD}).status_code == 303
    assert not is_signed_in(browser)
    assert sign_in(browser, password=OTHER_PASSWORD).location == "/home"


def guess_until_it_is_too_many(browser: Any) -> None:
    statuses = [browser.post("/auth", json={"email": EMAIL, "password": "not it"}).status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]


def look_after_it(app: Any) -> None:
    browser = app.test_client()
    ready = browser.get("/readyz")
    assert (ready.status_code, ready.get_json()["redis"], ready.get_json()["mail"]) == (200, "ok", "ok")

    def measured() -> str:
        text: str = browser.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        return text

    assert 'magicauth_up{dependency="redis"} 1.0' in measured()
    # The worker tells the queue that a letter is done a moment after it is.
    wait_for(lambda: 'magicauth_letters_in_queue{state="waiting"} 0.0' in measured())
    commands = app.test_cli_runner()
    assert "Redis: version" in commands.invoke(args=["doctor"]).output
    for words in (["mail", "status"], ["mail", "retry"], ["sessions", "list", EMAIL], ["users", "sign-out", EMAIL]):
        done = commands.invoke(args=words)
        assert done.exit_code == 0, done.output


# --- over TLS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trusted, host, why", [(False, "localhost", "local issuer certificate"), (True, HOST, "IP address mismatch")]
)
def test_a_certificate_of_somebody_else_is_refused_and_the_doctor_says_so(start, tmp_path, trusted, host, why):
    engine = start(Encrypted)
    query = f"?ssl_ca_certs={engine.authority}" if trusted else ""
    with quiet_app(f"rediss://{host}:{engine.port}{query}", tmp_path) as app:
        check_away(app.test_client().post("/auth", json={"email": EMAIL}))
        told = app.test_cli_runner().invoke(args=["doctor"])
    assert told.exit_code == 1
    assert "wrong    Redis: does not answer" in told.output and why in told.output


# --- a Cluster that grows --------------------------------------------------------------------------------------------


def test_a_session_that_moves_to_a_node_nobody_has_heard_of_goes_on(start, make_app):
    cluster = start(Cluster)
    browser = make_app(REDIS_URL=cluster.url, **SETTINGS).test_client()
    sign_up(browser, "moving@example.org")
    key = f"magicauth:session:{digest(session_id(browser))}"
    slot, old, new = key_slot(key.encode()), cluster.masters[cluster.shard(key)], cluster.join()
    new.client.cluster("SETSLOT", slot, "IMPORTING", node_id(old))
    old.client.cluster("SETSLOT", slot, "MIGRATING", node_id(new))
    old.client.migrate(HOST, new.port, key, 0, 1000)
    assert is_signed_in(browser)
    for node in (new, old):
        node.client.cluster("SETSLOT", slot, "NODE", node_id(new))
    assert is_signed_in(browser)
    browser.post("/logout")
    assert not new.client.exists(key)


# --- while all of it is away -----------------------------------------------------------------------------------------


def check_away(answer: Any) -> None:
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "2"), answer.text


def check_all_that_needs_it(browser: Any, seconds: float) -> None:
    """Whether each is told in time that it is away."""
    for ask in (
        lambda: browser.get("/home"),
        lambda: browser.post("/auth", json={"email": EMAIL}),
        lambda: browser.get("/readyz"),
    ):
        began = time.monotonic()
        check_away(ask())
        assert time.monotonic() - began < seconds + BUSY
    assert browser.get("/healthz").status_code == 200
    assert other_browser(browser).get("/auth").status_code == 200


def refusing(held: ExitStack) -> str:
    """The addresses of three nodes at which nobody listens."""
    return ",".join(f"{HOST}:{port_of(held.enter_context(hold_port()))}" for _ in range(3))


@pytest.mark.parametrize("scheme, path", [("redis+sentinel", f"/{SERVICE}"), ("redis+cluster", "")])
def test_where_all_nodes_refuse_it_starts_and_says_at_once_that_they_are_away(scheme, path, tmp_path):
    with ExitStack() as held, quiet_app(f"{scheme}://{refusing(held)}{path}", tmp_path) as app:
        browser = app.test_client()
        browser.set_cookie("magicauth", "x" * 43)
        check_all_that_needs_it(browser, REFUSED)


@pytest.mark.parametrize("kind", [Watched, Cluster])
def test_where_all_nodes_hang_it_says_so_in_time_and_goes_on_when_they_do(start, kind, make_app, tmp_path):
    engine = start(kind)
    app = make_app(REDIS_URL=engine.url, **SETTINGS)
    ada = app.test_client()
    sign_up(ada, "hanging@example.org")
    with ExitStack() as hung:
        for server in engine.servers:
            hung.enter_context(server.hung())
        check_all_that_needs_it(ada, HUNG)
        with quiet_app(engine.url, tmp_path / "new") as started_meanwhile:
            check_away(started_meanwhile.test_client().post("/auth", json={"email": EMAIL}))
    wait_for(lambda: ada.get("/home").status_code == 200, PATIENCE)
    wait_for(lambda: ada.post("/auth", json={"email": EMAIL}).status_code == 200, PATIENCE)
