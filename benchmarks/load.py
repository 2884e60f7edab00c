"""Load on one page from another process: wrk where there is one, else browsers of our own."""

import asyncio
import re
import shutil
import subprocess

from benchmarks.people import Browser, Rate, all_busy, must

CLIENTS = 8


def page(runner: asyncio.Runner, address: str, path: str, cookie: str, seconds: float) -> Rate:
    """GETs of one page, as fast as it goes."""
    if shutil.which("wrk"):
        return _by_wrk(address, path, cookie, seconds)
    return runner.run(_by_browsers(address, path, cookie, seconds))


def _by_wrk(address: str, path: str, cookie: str, seconds: float) -> Rate:
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}s", "--latency"]
    command += ["-H", f"Cookie: {cookie}"] if cookie else []
    out = subprocess.run([*command, f"http://{address}{path}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise RuntimeError(f"{path} is not served: {out}")
    units = {"us": 0.001, "ms": 1, "s": 1000}
    milliseconds = {
        part: float(value) * units[unit] for part, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", out)
    }
    count = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    return Rate(per_second, milliseconds["50"], milliseconds["99"], count)


async def _by_browsers(address: str, path: str, cookie: str, seconds: float) -> Rate:
    browsers = [Browser(address) for _ in range(CLIENTS)]
    for browser in browsers:
        browser.cookies = dict(pair.split("=", 1) for pair in cookie.split("; ") if pair)

    async def get(browser: Browser) -> None:
        must(await browser.get(path))

    rate = await all_busy([lambda browser=browser: get(browser) for browser in browsers], seconds)  # type: ignore[misc]
    for browser in browsers:
        await browser.close()
    return rate
