"""The database's revisions, by Alembic. Development runs them by itself; production when its operator says
`flask db upgrade`. Alembic is a tenth of a process's memory, and imported only where it is used.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import click
from flask import Flask
from sqlalchemy import Connection

from magicauth.extensions import db

if sys.platform != "win32":
    import fcntl

_PACKAGE = Path(__file__).parent


def init_app(app: Flask) -> None:
    """Adds `flask db`."""
    app.cli.add_command(_Commands(app))


def upgrade(app: Flask) -> None:
    """Brings the database to the newest revision; of several processes that start at once, one does."""
    flask_migrate = _load(app)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with (Path(app.instance_path) / "migrating.lock").open("w") as lock:
        if sys.platform != "win32":
            # There development is one process.
            fcntl.flock(lock, fcntl.LOCK_EX)
        with app.app_context():
            flask_migrate.upgrade()


def revisions(connection: Connection) -> tuple[str | None, str | None, bool]:
    """The revision that the database is at, the newest of this release, and whether this release knows the first."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory(str(_directory()))
    return current, script.get_current_head(), current in {None, *(one.revision for one in script.walk_revisions())}


class _Commands(click.Command):
    """Stands in the place of Flask-Migrate's commands until somebody asks for one of them."""

    def __init__(self, app: Flask) -> None:
        super().__init__("db", help="The database's revisions.")
        self._app = app

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        _load(self._app)
        return self._app.cli.commands["db"].make_context(info_name, args, parent, **extra)


def _load(app: Flask) -> Any:
    import flask_migrate

    flask_migrate.Migrate().init_app(app, db, directory=str(_directory()))
    return flask_migrate


def _directory() -> Path:
    # Beside the package in a checkout, inside it when installed.
    inside = _PACKAGE / "migrations"
    return inside if inside.is_dir() else _PACKAGE.parent / "migrations"
