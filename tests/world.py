"""All that a request could change: rows, what Redis holds, letters. And every door that an app has."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from flask import Flask


def look(app: Flask) -> dict[str, Any]:
    """Everything there is now; two looks are equal if nothing has changed between them."""
    redis = app.extensions["magicauth-redis"]
    # But for what the mail worker of this test says of itself.
    keys = sorted(key for key in redis.scan_iter() if not key.startswith(b"{magicauth-mail}:__"))
    folder = Path(app.instance_path)
    with closing(sqlite3.connect(folder / "magicauth.sqlite3")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
    letters = sorted(path.name for path in folder.glob("mailbox/*.eml"))
    return {"redis": {key: redis.dump(key) for key in keys}, "rows": rows, "letters": letters}


def doors(app: Flask) -> dict[str, set[str]]:
    """Every path with the methods that it takes."""
    found: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        found.setdefault(rule.rule.replace("<name>", "x"), set()).update(rule.methods or ())
    return found


def posts(app: Flask) -> list[str]:
    """Every path that takes a form."""
    return [path for path, methods in doors(app).items() if "POST" in methods]


def gets(app: Flask) -> list[str]:
    """Every path that can be looked at."""
    return [path for path, methods in doors(app).items() if "GET" in methods]


def database_dump(app: Flask) -> str:
    """Everything that the database holds, as SQL."""
    with closing(sqlite3.connect(app.config["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        return "\n".join(database.iterdump())


def redis_dump(redis: Any) -> list[str]:
    """Every key and value of the server, of whatever type, as text."""
    read = {
        "string": lambda key: [redis.get(key)],
        "hash": lambda key: [part for pair in redis.hgetall(key).items() for part in pair],
        "list": lambda key: redis.lrange(key, 0, -1),
        "set": lambda key: list(redis.smembers(key)),
        "zset": lambda key: redis.zrange(key, 0, -1),
    }
    found = [part for key in redis.scan_iter() for part in (key, *read[redis.type(key).decode()](key))]
    return [part.decode("utf-8", "backslashreplace") for part in found]
