"""Counts SQL statements, where BENCHMARK_COUNTS is set: `/benchmark/statements` tells how many there were."""

import os
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

App = TypeVar("App")
_CONNECT = sqlite3.connect
_statements: list[str] = []


def counted(app: App) -> App:
    """An app with `wsgi_app`, whatever it talks to SQLite with."""
    if not os.environ.get("BENCHMARK_COUNTS"):
        return app
    serve = app.wsgi_app  # type: ignore[attr-defined]

    def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] != "/benchmark/statements":
            return serve(environ, start_response)
        body = str(len(_statements)).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    app.wsgi_app = wsgi_app  # type: ignore[attr-defined]
    return app


def _note(statement: str) -> None:
    if statement.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
        _statements.append(statement)


def _connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    connection = _CONNECT(*arguments, **options)
    connection.set_trace_callback(_note)
    return connection


if os.environ.get("BENCHMARK_COUNTS"):
    # Before anybody connects.
    sqlite3.connect = sqlite3.dbapi2.connect = _connect  # type: ignore[assignment]
