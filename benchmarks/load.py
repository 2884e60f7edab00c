"""Load from another process: wrk where there is one, else threads of our own; and whole sign-ins."""

import http.client
import json
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

import redis

CLIENTS = 8
# More, so that letters on their way do not leave the server waiting.
PEOPLE_AT_ONCE = 32


@dataclass(frozen=True)
class Rate:
    """Requests per second, and the slowest of a hundred in milliseconds."""

    per_second: float
    p99_ms: float


def pages(address: str, path: str, cookie: str, seconds: float) -> Rate:
    """GETs of one page, as fast as it goes."""
    if shutil.which("wrk"):
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}s", "--latency"]
        command += ["-H", f"Cookie: {cookie}"] if cookie else []
        out = subprocess.run([*command, f"http://{address}{path}"], capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in out:
            raise RuntimeError(f"{path} is not served: {out}")
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
        return Rate(rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit])
    return _pages_by_threads(address, path, cookie, seconds)


def sign_ins(address: str, redis_url: str, emails: list[str], password: str, seconds: float) -> Rate:
    """Whole sign-ins: address (and password), the code by SMTP, the code typed."""

    def walk(client: http.client.HTTPConnection, codes: redis.Redis, email: str) -> None:
        answer, cookie = _post(client, "/auth", {"email": email} | ({"password": password} if password else {}), "")
        if answer["status"] != "SUCCESS":
            raise RuntimeError(str(answer))
        arrived = codes.brpop([f"bench:code:{email}"], timeout=10)
        answer, _ = _post(client, "/verify", {"OTP": arrived[1].decode()}, cookie)  # type: ignore[index]
        if answer.get("next") != "/home":
            raise RuntimeError(str(answer))

    return _by_threads(address, seconds, emails, redis_url, walk, PEOPLE_AT_ONCE)


def _post(
    client: http.client.HTTPConnection, path: str, fields: dict[str, str], cookie: str
) -> tuple[dict[str, Any], str]:
    headers = {"Content-Type": "application/json"} | ({"Cookie": cookie} if cookie else {})
    client.request("POST", path, json.dumps(fields), headers)
    response = client.getresponse()
    body = json.loads(response.read())
    set_cookies = response.headers.get_all("Set-Cookie") or []
    return body, next((one.split(";")[0] for one in set_cookies if one.startswith("magicauth=")), cookie)


def _pages_by_threads(address: str, path: str, cookie: str, seconds: float) -> Rate:
    def get(client: http.client.HTTPConnection, _: Any, __: str) -> None:
        client.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        response = client.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}")

    return _by_threads(address, seconds, [""] * CLIENTS, "", get)


def _by_threads(
    address: str, seconds: float, names: list[str], redis_url: str, act: Any, clients: int = CLIENTS
) -> Rate:
    times: list[float] = []
    errors: list[Exception] = []
    end = time.monotonic() + seconds

    def run(mine: list[str]) -> None:
        client = http.client.HTTPConnection(address, timeout=15)
        codes = redis.Redis.from_url(redis_url) if redis_url else None
        turn = 0
        try:
            while time.monotonic() < end:
                started = time.perf_counter()
                act(client, codes, mine[turn % len(mine)])
                times.append(time.perf_counter() - started)
                turn += 1
        except Exception as error:
            errors.append(error)
        client.close()

    threads = [threading.Thread(target=run, args=(names[number::clients],)) for number in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Rate(len(times) / (time.monotonic() - started), sorted(times)[int(len(times) * 0.99)] * 1000)
