"""`python -m benchmarks.soak [--minutes N]`: mixed journeys of 64 people against two workers on PostgreSQL.
`--sign-ups N` first has so many people sign up at once."""

import argparse
import asyncio
import itertools
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import redis

from benchmarks import people, stage
from benchmarks.people import PASSWORD, Browser, must
from benchmarks.post import Post
from magicauth import create_app

CLIENTS = 64
# What is filled once, and what compiles, is there by then.
WARM_UP = 30
_numbers = itertools.count()


class Somebody:
    """A person with a browser, who goes on where the last journey ended."""

    def __init__(self, address: str, post: Post) -> None:
        self.browser, self._post = Browser(address), post
        self.email = f"soak{next(_numbers)}@example.com"

    async def sign_up(self) -> None:
        """By the mailed link."""
        await people.sign_up(self.browser, self._post, self.email)

    async def sign_in(self) -> None:
        """With the password and the mailed code, signed out before."""
        must(await self.browser.post("/logout", {}), 200, 401)
        await people.sign_in(self.browser, self._post, self.email, PASSWORD)

    async def sign_in_elsewhere(self) -> None:
        """By a browser that is not known."""
        self.browser.cookies.clear()
        await people.sign_in(self.browser, self._post, self.email, PASSWORD)

    async def mistype(self) -> None:
        """A wrong code first, then the right one."""
        self._post.forget(self.email)
        must(await self.browser.post("/auth", {"email": self.email, "password": PASSWORD}))
        code = await self._post.find(self.email, people.CODE)
        must(await self.browser.post("/verify", {"OTP": "x"}), 401)
        must(await self.browser.post("/verify", {"OTP": code}))

    async def look_around(self) -> None:
        """Guarded pages."""
        for path in ("/home", "/account", "/account/activity", "/account/sessions") * 5:
            must(await self.browser.get(path))

    async def look_in(self) -> None:
        """Pages for strangers, in a browser of its own."""
        stranger = Browser(self.browser.address)
        for path in ("/auth", "/users/magic_link", "/auth/reset", "/healthz") * 5:
            must(await stranger.get(path))
        must(await stranger.get("/home"), 401)
        await stranger.close()

    async def change_name(self) -> None:
        """A change that is written to the database and to the session."""
        must(await self.browser.post("/account", {"name": f"Ada {random.random()}", "phone": ""}))

    async def guess(self) -> None:
        """A wrong password."""
        stranger = Browser(self.browser.address)
        must(await stranger.post("/auth", {"email": self.email, "password": "not the one"}), 401)
        await stranger.close()


JOURNEYS = {
    Somebody.look_around: 10,
    Somebody.look_in: 5,
    Somebody.sign_in: 3,
    Somebody.sign_in_elsewhere: 1,
    Somebody.mistype: 1,
    Somebody.change_name: 1,
    Somebody.guess: 1,
}


def main() -> None:
    """Prints what happened."""
    arguments = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--sign-ups", type=int, default=0)
    asked = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        stage.redis_server(Path(name)) as redis_url,
        stage.postgres() as database_url,
        asyncio.Runner() as runner,
    ):
        post = Post()
        runner.run(post.open())
        env = _environment(redis_url, database_url, post.port)
        upgraded = create_app(env, instance_path=name).test_cli_runner().invoke(args=["db", "upgrade"])
        if upgraded.exit_code:
            raise RuntimeError(upgraded.output)
        with stage.gunicorn("wsgi:app", Path(name), env, workers=2) as server:
            if asked.sign_ups:
                runner.run(_sign_up_at_once(server, post, asked.sign_ups))
            if asked.minutes:
                runner.run(_soak(server, post, redis.Redis.from_url(redis_url), asked.minutes * 60))


async def _sign_up_at_once(server: stage.Server, post: Post, count: int) -> None:
    everybody = [Somebody(server.address, post) for _ in range(count)]
    before, letters = time.monotonic(), post.count
    done = await asyncio.gather(*(somebody.sign_up() for somebody in everybody), return_exceptions=True)
    seconds = time.monotonic() - before
    failures = [error for error in done if error]
    print(
        f"{count} sign-ups at once: {count - len(failures)} finished in {seconds:.0f} s, {post.count - letters} letters"
    )
    for error in failures[:5]:
        print("  failed:", repr(error))
    await asyncio.gather(*(somebody.browser.close() for somebody in everybody))


async def _soak(server: stage.Server, post: Post, client: redis.Redis, seconds: float) -> None:
    everybody = [Somebody(server.address, post) for _ in range(CLIENTS)]
    for somebody in everybody:
        await somebody.sign_up()
    times: defaultdict[str, list[float]] = defaultdict(list)
    errors: list[Exception] = []
    started = time.monotonic()

    async def live(somebody: Somebody) -> None:
        while time.monotonic() < started + WARM_UP + seconds:
            journey = random.choices(list(JOURNEYS), list(JOURNEYS.values()))[0]
            before = time.monotonic()
            try:
                await journey(somebody)
            except Exception as error:
                errors.append(error)
            times[journey.__name__].append(time.monotonic() - before)

    async def watch() -> tuple[list[float], list[float]]:
        await asyncio.sleep(WARM_UP)
        before = server.megabytes()
        times.clear()
        await asyncio.sleep(seconds - 1)
        return before, server.megabytes()

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(live(somebody) for somebody in everybody))
    before, after = await watching
    print(f"{seconds / 60:.0f} minutes, {CLIENTS} people, 2 workers: {sum(map(len, times.values()))} journeys")
    print(f"{len(errors)} errors", *(repr(error) for error in errors[:5]))
    print(f"MB of each worker at first and at last: {before} {after}")
    print(f"MB of Redis: {client.info('memory')['used_memory'] / 1e6:.1f}, {client.dbsize()} keys")
    for name, found in sorted(times.items()):
        rate = people.rate(found, seconds)
        print(f"  {name:<18} {rate.count:>7} times, middle {rate.p50_ms:>8.1f} ms, p99 {rate.p99_ms:>8.1f} ms")


def _environment(redis_url: str, database_url: str, mail_port: int) -> dict[str, str]:
    kinds = {"MAILS": "ADDRESS", "CODES": "ACCOUNT", "PASSWORDS": "ACCOUNT"}
    limits = {
        f"MAGICAUTH_LIMIT_{kind}_{per}": "100000000 per hour"
        for kind, own in kinds.items()
        for per in (f"PER_{own}", "PER_IP", "GLOBAL")
    }
    return limits | {
        "MAGICAUTH_MODE": "production",
        "SECRET_KEY": "a benchmark's key, which protects nothing at all",
        "PUBLIC_URL": "http://127.0.0.1",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(mail_port),
    }


if __name__ == "__main__":
    main()
