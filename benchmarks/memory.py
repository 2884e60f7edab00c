"""What Redis holds: bytes of a session and of an open challenge, and whether many sessions make a page slower."""

import contextlib
from pathlib import Path

import redis

from benchmarks import load, people, stage
from benchmarks.people import Browser
from benchmarks.run import Run

SESSIONS = (1_000, 100_000, 1_000_000)
# Beside a session stands its user's index. Made in Redis itself, or it would take minutes.
_FILL = """
for n = ARGV[1], ARGV[2] do
  redis.call('SET', string.format('magicauth:session:%043d', n), ARGV[3], 'EX', 1800)
  local index = string.format('magicauth:sessions-of:%032d', n)
  redis.call('ZADD', index, ARGV[4], string.format('%043d', n))
  redis.call('EXPIRE', index, 2635200)
end"""
_AT_ONCE = 10_000


def measure(run: Run, rounds: int) -> None:
    """Every figure."""
    run.runner.run(_one_of_each(run))
    _many_sessions(run, rounds)


async def _one_of_each(run: Run) -> None:
    with run.serving("magicauth") as server:
        browser = Browser(server.address)
        people.must(await browser.post("/auth", {"email": "user1@example.com"}))
        await browser.close()
        await run.post.quiet()
    challenges = [run.redis.memory_usage(key) or 0 for key in run.redis.scan_iter("magicauth:challenge:*", 1000)]
    run.note("bytes of Redis", "an open challenge", max(challenges))


def _many_sessions(run: Run, rounds: int) -> None:
    with contextlib.ExitStack() as servers:
        urls = {count: servers.enter_context(stage.redis_server(_folder(run, count))) for count in SESSIONS}
        for count, url in urls.items():
            client = redis.Redis.from_url(url)
            before = client.info("memory")["used_memory"]
            for first in range(1, count + 1, _AT_ONCE):
                last = min(first + _AT_ONCE - 1, count)
                client.eval(_FILL, 0, first, last, run.session_bytes, 1_900_000_000)
            used = client.info("memory")["used_memory"] - before
            run.note("bytes of Redis", f"a session with its index, all told, of {count}", used / count)
            client.set(run.session_key, run.session_bytes)
        for name, key in (
            ("a session", f"magicauth:session:{1:043d}"),
            ("its index", f"magicauth:sessions-of:{1:032d}"),
        ):
            run.note("bytes of Redis", name, client.memory_usage(key) or 0)
        up = {count: servers.enter_context(run.serving("magicauth", REDIS_URL=url)) for count, url in urls.items()}
        cookie = f"magicauth={run.session_id}"
        for server in up.values():
            load.page(run.runner, server.address, "/home", cookie, 1)
        for _ in range(rounds):
            for count, server in up.items():
                rate = load.page(run.runner, server.address, "/home", cookie, run.seconds)
                run.note_rate("guarded page beside others", f"{count} sessions", rate)


def _folder(run: Run, count: int) -> Path:
    folder = run.folder / str(count)
    folder.mkdir()
    return folder
