"""A master that dies or hangs under traffic, behind Sentinel and in a Cluster, with gunicorn in production mode."""

import functools
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import wait_for
from engines import Cluster, Node, Watched
from pages import JSON
from servers import PATIENCE, SETTINGS, Gunicorn, MailServer, ask_to_sign_in, clean_environment, run_flask, sign_up

from magicauth.crypto import digest

pytestmark = pytest.mark.faults

# From the moment on at which there is a master again.
SECONDS_TO_RECOVER = 5
LETTERS = 5
NO_LIMITS = {
    f"MAGICAUTH_LIMIT_{kind}_{per}": "100000 per second"
    for kind, pers in {"MAILS": ("PER_ADDRESS", "PER_IP", "GLOBAL"), "CODES": ("PER_ACCOUNT", "PER_IP")}.items()
    for per in pers
}


@dataclass
class Site:
    """gunicorn with one worker, on that Redis and an SQLite of its own."""

    gunicorn: Gunicorn
    mail_server: "BusyMailServer"
    browsers: ExitStack

    def browser(self, like: httpx.Client | None = None) -> httpx.Client:
        """A browser; `like` another one, with its cookies."""
        browser = self.gunicorn.browser()
        browser.cookies.update(like.cookies if like else {})
        self.browsers.enter_context(browser)
        return browser

    def signed_up(self, email: str) -> httpx.Client:
        browser = self.browser()
        sign_up(browser, self.mail_server, email)
        return browser


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a database that is empty."""
    database = tmp_path_factory.mktemp("database") / "migrated.sqlite3"
    own = {"DATABASE_URL": f"sqlite:///{database}", "REDIS_URL": "redis://not-needed", "PUBLIC_URL": "http://localhost"}
    upgraded = run_flask("db", "upgrade", env=clean_environment() | SETTINGS | own)
    assert upgraded.returncode == 0, upgraded.stderr
    return database


@contextmanager
def site(folder: Path, redis_url: str, database: Path) -> Iterator[Site]:
    shutil.copy(database, folder / "accounts.sqlite3")
    with closing(BusyMailServer()) as mail_server:
        own = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": f"sqlite:///{folder / 'accounts.sqlite3'}",
            "MAIL_PORT": mail_server.port,
            "WEB_CONCURRENCY": 1,
            "GUNICORN_THREADS": 8,
        }
        mail_server.open()
        with closing(Gunicorn(folder, SETTINGS | own | NO_LIMITS)) as gunicorn:
            gunicorn.start()
            with ExitStack() as browsers:
                yield Site(gunicorn, mail_server, browsers)
            lines = gunicorn.process.output.splitlines()
            assert [line for line in lines if "Traceback" in line or '"status": 500' in line] == []


class BusyMailServer(MailServer):
    """Takes letters, or asks to come again while it is `busy`."""

    busy = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return "451 later" if self.busy else await super().handle_DATA(server, session, envelope)


class Traffic:
    """Somebody who does one thing again and again, and notes when he was told what."""

    def __init__(self, ask: Callable[[], httpx.Response]) -> None:
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.told: list[tuple[float, int, str]] = []

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(0.2):
            answer = self._ask()
            self.told.append((time.monotonic(), answer.status_code, answer.text))

    @property
    def statuses(self) -> set[int]:
        return {status for _, status, _ in self.told}

    @property
    def last_error(self) -> float:
        return max((moment for moment, status, _ in self.told if status == 503), default=0.0)

    def wait_for(self, status: int, count: int = 5) -> None:
        """Until he was told so that many more times."""
        before = len(self.told)
        wait_for(lambda: [told for _, told, _ in self.told[before:]].count(status) >= count, PATIENCE)


class World:
    """What there is before a master is lost: somebody signed in, an open question, a session that was ended, letters
    that wait for the mail server; and traffic on all of it."""

    def __init__(self, ours: Site) -> None:
        self.ours = ours
        self.ada, bob = ours.signed_up("ada@example.org"), ours.signed_up("bob@example.org")
        self.leaver = ours.signed_up("eve@example.org")
        self.gone = ours.browser(bob)
        bob.post("/logout")
        self.pending, guesser = ours.browser(), ours.browser()
        ask_to_sign_in(self.pending, "ada@example.org")
        ask_to_sign_in(guesser, "bob@example.org")
        self.code = ours.mail_server.letter("ada@example.org", 2).code
        assert self.pending.post("/verify", json={"OTP": "x"}).json()["attempts_left"] == 4
        self.inside = [Traffic(functools.partial(at_home, ours.browser(self.ada))) for _ in range(3)]
        self.outside = Traffic(functools.partial(at_home, ours.browser(self.gone)))
        self.guesses = Traffic(lambda: guesser.post("/verify", json={"OTP": "x"}))
        self.everybody = (*self.inside, self.outside, self.guesses)
        self.letters = [f"new{number}@example.org" for number in range(LETTERS)]
        ours.mail_server.busy = True
        for email in self.letters:
            assert self.gone.post("/users/magic_link", data={"email": email}).status_code == 303

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Everybody does what he does, inside the block; nobody is told anything but his own, or that it is away."""
        with ExitStack() as stack:
            for traffic in self.everybody:
                stack.enter_context(traffic)
            self.wait_until_all_is_right()
            yield
        for traffic in self.inside:
            assert traffic.statuses == {200, 503}
            assert all("Ada Lovelace" in text for _, status, text in traffic.told if status == 200)
        assert self.outside.statuses <= {401, 503}
        assert self.guesses.statuses <= {401, 404, 503}

    def wait_until_all_is_right(self) -> None:
        """Until everybody is told what is so, again."""
        for traffic in self.inside:
            traffic.wait_for(200)
        self.outside.wait_for(401)

    def wait_until_it_recovers(self, new: Node) -> None:
        """Until that node is the master, and soon afterwards all is right."""
        self.ours.mail_server.busy = False
        wait_for(lambda: new.role == "master", PATIENCE)
        promoted = time.monotonic()
        self.wait_until_all_is_right()
        assert max(traffic.last_error for traffic in self.everybody) < promoted + SECONDS_TO_RECOVER

    @contextmanager
    def somebody_left(self) -> Iterator[None]:
        """Somebody signs out, of which the master that was lost knows nothing; inside the block he tries to get in."""
        left = self.ours.browser(self.leaver)
        assert self.leaver.post("/logout").headers["Location"] == "/auth"
        with Traffic(functools.partial(at_home, left)) as outside:
            yield
            outside.wait_for(401)
        assert outside.statuses <= {401, 503}

    def check_that_all_goes_on(self) -> None:
        """What was open can be answered, and what was queued arrives."""
        assert self.pending.post("/verify", json={"OTP": "x"}).json()["attempts_left"] == 3
        assert self.pending.post("/verify", data={"OTP": self.code}).headers["Location"] == "/home"
        for email in self.letters:
            assert self.ours.mail_server.letter(email)


def at_home(browser: httpx.Client) -> httpx.Response:
    return browser.get("/home", headers=JSON)


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hung"])
def test_behind_sentinel_another_master_takes_over_and_nobody_notices_more_than_a_pause(tmp_path, migrated, hangs):
    with closing(Watched(tmp_path / "redis")) as redis:
        redis.start()
        old, new = redis.nodes
        with site(tmp_path, redis.url, migrated) as ours:
            world = World(ours)
            with world.busy(), ExitStack() as stack:
                wait_for(new.has_what_has(old))
                with lost(old, hangs):
                    world.wait_until_it_recovers(new)
                    stack.enter_context(world.somebody_left())
                wait_for(lambda: old.follows, PATIENCE)
                world.wait_until_all_is_right()
            world.check_that_all_goes_on()


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hung"])
def test_in_a_cluster_a_replica_takes_over_and_the_other_shards_go_on_meanwhile(tmp_path, migrated, hangs):
    with closing(Cluster(tmp_path / "redis")) as redis:
        redis.start()
        with site(tmp_path, redis.url, migrated) as ours:
            each = of_each_shard(redis, ours)
            world = World(ours)
            shard = redis.shard(store_key(world.ada))
            old, new = redis.masters[shard], redis.replicas[shard]
            elsewhere = [Traffic(functools.partial(at_home, each[other])) for other in {0, 1, 2} - {shard}]
            with world.busy(), ExitStack() as stack:
                for traffic in elsewhere:
                    stack.enter_context(traffic)
                wait_for(new.has_what_has(old))
                with lost(old, hangs):
                    world.wait_until_it_recovers(new)
                    stack.enter_context(world.somebody_left())
                wait_for(lambda: old.follows, PATIENCE)
                world.wait_until_all_is_right()
            assert all(traffic.statuses == {200} for traffic in elsewhere)
            world.check_that_all_goes_on()


def of_each_shard(redis: Cluster, ours: Site) -> dict[int, httpx.Client]:
    """By the shard that keeps the session, somebody's browser."""
    found: dict[int, httpx.Client] = {}
    for number in itertools.count():
        if len(found) == 3:
            break
        browser = ours.signed_up(f"user{number}@example.org")
        found[redis.shard(store_key(browser))] = browser
    return found


def store_key(browser: httpx.Client) -> str:
    """The key of the browser's session in Redis."""
    return f"magicauth:session:{digest(browser.cookies['magicauth'])}"


@contextmanager
def lost(node: Node, hangs: bool) -> Iterator[None]:
    """Inside the block it is killed, or hangs; afterwards it is back, and knows nothing of what has happened."""
    if hangs:
        with node.hung():
            yield
    else:
        node.kill()
        yield
        node.start()
