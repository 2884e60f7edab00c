"""What a request costs a contestant in commands, round trips and statements."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks import people
from benchmarks.people import Browser
from benchmarks.run import Run

# So many that what a worker without letters asks by itself, taken off by its time, makes no difference.
PAGES, SIGN_INS = 400, 40


def count(run: Run, name: str) -> None:
    """Redis commands, round trips and SQL of each request."""
    contestant = run.contestants[name]
    with run.serving(name, BENCHMARK_COUNTS="1") as server:
        browser = Browser(server.address)
        cookies = dict(pair.split("=", 1) for pair in run.cookies[name].split("; "))

        async def guarded() -> None:
            browser.cookies = dict(cookies)
            people.must(await browser.get("/home"))

        async def anonymous() -> None:
            browser.cookies = {}
            people.must(await browser.get(contestant.sign_in_page))

        async def sign_in() -> None:
            assert contestant.sign_in is not None
            await contestant.sign_in(browser, run.post, "user0@example.com")

        async def costs(act: Callable[[], Awaitable[None]]) -> dict[str, float]:
            times = SIGN_INS if act is sign_in else PAGES
            await act()
            before, started = await totals(), time.monotonic()
            for _ in range(times):
                await act()
            after, seconds = await totals(), time.monotonic() - started
            await asyncio.sleep(seconds)
            idle = await totals()
            return {what: round((2 * after[what] - before[what] - idle[what]) / times, 1) + 0 for what in after}

        async def totals() -> dict[str, int]:
            await run.post.quiet(0.2)
            stats = run.redis.info("stats")
            statements = people.must(await browser.get("/benchmark/statements")).body
            return {
                "Redis commands with those of scripts": stats["total_commands_processed"],
                "Redis round trips": stats["total_reads_processed"],
                "SQL": int(statements),
            }

        acts = {"guarded page": guarded}
        acts |= {"sign-in page": anonymous} if contestant.sign_in_page else {}
        acts |= {"sign-in": sign_in} if contestant.sign_in else {}
        for act_name, act in acts.items():
            for what, figure in run.runner.run(costs(act)).items():
                run.note(f"{act_name}, {what}", name, figure)
        run.runner.run(browser.close())
