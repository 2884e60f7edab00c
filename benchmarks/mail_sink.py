"""A mail server that keeps nothing but the codes: `python -m benchmarks.mail_sink PORT REDIS_URL`."""

import asyncio
import re
import sys
from typing import Any

import redis
from aiosmtpd.smtp import SMTP

_CODE = re.compile(rb"^Subject: ([0-9 ]+) is your", re.MULTILINE)


class Codes:
    """Puts the code of each letter into Redis."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        """Takes a letter."""
        found = _CODE.search(envelope.content)
        if found:
            key = f"bench:code:{envelope.rcpt_tos[0]}"
            self._redis.lpush(key, found[1].replace(b" ", b""))
        return "250 OK"


async def serve(port: int, url: str) -> None:
    """Listens until it is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Codes(url)), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
