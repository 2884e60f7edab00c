"""How fast a contestant is: its pages, whole sign-ins, its start, its memory."""

import asyncio
import contextlib
import functools
from typing import Any

import msgspec

from benchmarks import load, people, stage
from benchmarks.people import PASSWORD, PEOPLE, Browser, Rate
from benchmarks.post import Post
from benchmarks.run import Run
from magicauth import session_data


def measure(run: Run, rounds: int, *, sign_ins: bool) -> None:
    """All contestants are up and measured in turns, so that whatever else the machine does falls on all of them."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(run.serving(name)) for name in run.contestants}
        for name, server in servers.items():
            run.note("seconds to the first answer", name, server.seconds)
            load.page(run.runner, server.address, "/home", run.runner.run(_cookie(run, name, server.address)), 1)
        for _ in range(rounds):
            for name, server in servers.items():
                rate = load.page(run.runner, server.address, "/home", run.cookies[name], run.seconds)
                run.note_rate("guarded page", name, rate)
            for name, server in servers.items():
                if page := run.contestants[name].sign_in_page:
                    run.note_rate("sign-in page", name, load.page(run.runner, server.address, page, "", run.seconds))
            for name, server in servers.items():
                run.note("MB of a worker", name, max(server.megabytes()))
                if sign_ins and run.contestants[name].sign_in:
                    _measure_sign_ins(run, name, server)


async def _cookie(run: Run, name: str, address: str) -> str:
    """Of somebody who is signed in. The limit believes magicauth's; stock Flask-Session is told what stands in it."""
    browser = Browser(address)
    sign_in = run.contestants[name].sign_in
    if sign_in is not None:
        await sign_in(browser, run.post, "user0@example.com")
    elif name == "Flask-Session":
        facts = msgspec.json.encode(session_data.decode(run.session_bytes))
        people.must(await browser.get(f"/sign-in/{facts.hex()}"))
    else:
        browser.cookies = {"magicauth": run.session_id}
    await browser.close()
    of_session = browser.cookies.keys() & {"magicauth", "session", "sessionid"}
    run.cookies[name] = "; ".join(f"{cookie}={browser.cookies[cookie]}" for cookie in of_session)
    return run.cookies[name]


def _measure_sign_ins(run: Run, name: str, server: stage.Server) -> None:
    sign_in = run.contestants[name].sign_in
    assert sign_in is not None
    kinds: dict[str, tuple[str, Any, bool]] = {"sign-in": ("user", sign_in, True)}
    if sign_in is people.sign_in:
        with_password = functools.partial(people.sign_in, password=PASSWORD)
        kinds["sign-in, unknown browser"] = ("user", sign_in, False)
        kinds["sign-in with password"] = ("locked", with_password, True)
    for what, (who, act, known) in kinds.items():
        rate, cpu = run.runner.run(_sign_ins(run.post, server, who, act, run.seconds, known=known))
        run.note_rate(what, name, rate)
        run.note(f"{what}, CPU milliseconds", name, cpu)
    run.note("MB of a worker after sign-ins", name, max(server.megabytes()))


async def _sign_ins(
    post: Post, server: stage.Server, who: str, act: Any, seconds: float, *, known: bool
) -> tuple[Rate, float]:
    """As many whole sign-ins as the server takes, and the milliseconds of CPU that each costs it; by browsers that
    have signed in before, or by new ones."""

    async def task(number: int) -> None:
        if not known:
            browsers[number].cookies.clear()
        await act(browsers[number], post, f"{who}{number}@example.com")

    browsers = [Browser(server.address) for _ in range(PEOPLE)]
    await asyncio.gather(*(task(number) for number in range(PEOPLE)))
    await post.quiet()
    before = server.cpu_seconds()
    rate = await people.all_busy([functools.partial(task, number) for number in range(PEOPLE)], seconds)
    # Letters of warning that still wait are part of the work.
    await post.quiet()
    for browser in browsers:
        await browser.close()
    return rate, (server.cpu_seconds() - before) * 1000 / rate.count
