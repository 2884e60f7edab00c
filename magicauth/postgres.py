"""PostgreSQL's connection, with a bound on how long an answer may take."""

import time
from collections.abc import Generator
from typing import Any

import psycopg

# The server keeps the time of a statement (statement_timeout), unless it is the server that hangs.
_ANSWER_TIMEOUT = 6.0


class Connection(psycopg.Connection[Any]):
    """psycopg's, which would wait for ever for a server that hangs and holds the connection: every thread of every
    process, one after the other, until none is left for the pages that need no database."""

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """What the server answers, or OperationalError."""
        return super().wait(self._in_time(gen), *arguments, **options)

    def _in_time(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        end = time.monotonic() + _ANSWER_TIMEOUT
        try:
            step = next(steps)
            while True:
                # psycopg goes on when something came, and ten times a second when nothing does.
                came = yield step
                if time.monotonic() > end:
                    self.close()
                    raise psycopg.OperationalError("the database does not answer")
                step = steps.send(came)
        except StopIteration as done:
            return done.value
