"""The database's revisions, by Alembic. Development runs them by itself; production when its operator says
`flask db upgrade`. Alembic is a tenth of a process's memory, and imported only where it is used.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import click
from flask import Flask
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DatabaseError

from magicauth.extensions import db
from magicauth.models import AuditEvent, User

if sys.platform != "win32":
    import fcntl

_PACKAGE = Path(__file__).parent
_OURS = {User.__tablename__, AuditEvent.__tablename__, "alembic_version"}
# What puts files beside our revisions.
_WRITING = ("init", "revision", "migrate", "edit", "merge")


def init_app(app: Flask) -> None:
    """Adds `flask db`."""
    app.cli.add_command(_Commands(app))


def upgrade(app: Flask) -> None:
    """Brings the database to the newest revision, if it is not there; of several processes that start at once, one
    does."""
    with app.app_context():
        if _is_newest():
            return
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


def tables_are_there() -> None:
    """Raises what the database raises where it lacks a table or a column that this release reads."""
    for table in (User, AuditEvent):
        db.session.execute(select(table).limit(0))


def not_ours(_: Any, name: str | None, kind: str, __: bool, ___: Any) -> bool:
    """Alembic's `include_object` for a site's own revisions: they leave our tables alone."""
    return kind != "table" or name not in _OURS


def ours(_: Any, name: str | None, kind: str, __: bool, ___: Any) -> bool:
    """The same for our own revisions: tables of a site's are none of their business."""
    return kind != "table" or name in _OURS


class _Commands(click.Command):
    """Stands in the place of Flask-Migrate's commands until somebody asks for one of them."""

    def __init__(self, app: Flask) -> None:
        super().__init__("db", help="The database's revisions.")
        self._app = app

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] in _WRITING and db.metadata.tables.keys() - _OURS:
            words = "These revisions are magicauth's. Tables of your own have theirs: see docs/customising.md."
            raise click.ClickException(words)
        context: click.Context = _load(self._app).cli.db.make_context(info_name, args, parent, **extra)
        return context


def _is_newest() -> bool:
    # What Alembic would say: to import it takes a fifth of a start.
    newest = max(path.name for path in (_directory() / "versions").glob("[0-9]*.py")).partition("_")[0]
    try:
        return db.session.scalars(text("SELECT version_num FROM alembic_version")).all() == [newest]
    except DatabaseError:
        return False
    finally:
        db.session.remove()


def _load(app: Flask) -> Any:
    import flask_migrate

    flask_migrate.Migrate().init_app(app, db, directory=str(_directory()))
    # In the place of what that has just put there: a site may bring revisions of its own, by another Migrate.
    app.cli.add_command(_Commands(app))
    return flask_migrate


def _directory() -> Path:
    # Beside the package in a checkout, inside it when installed.
    inside = _PACKAGE / "migrations"
    return inside if inside.is_dir() else _PACKAGE.parent / "migrations"
