"""Runs the revisions on the app's own database."""

import logging
import time
from typing import Any

import click
from alembic import context
from alembic.migration import MigrationContext
from flask import current_app
from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from magicauth.errors import reason_of
from magicauth.extensions import DATABASE_CONNECT_TIMEOUT, Base
from magicauth.migrating import ours

LOCK_TIMEOUT_MS = 2000

database = current_app.extensions["migrate"].db
log = logging.getLogger("magicauth.migrations")


def run() -> None:
    with _engine().connect() as connection:
        if connection.dialect.name == "postgresql":
            _refuse_other_encodings(connection)
            _wait_for_turn(connection)
        if found := _of_a_newer_release(connection):
            # While it is rolled out, or after it was taken back, this one serves on.
            log.warning("the database is at %s, which a newer release has made: nothing to do", found)
            return
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
            include_object=ours,
            render_as_batch=connection.dialect.name == "sqlite",
            on_version_apply=_tell,
        )
        with context.begin_transaction():
            context.run_migrations()


def _engine() -> Engine:
    if database.engine.dialect.name == "sqlite":
        return database.engine
    # Without the time-outs of requests: a revision may take longer. One that waits for a lock gives up, to be run
    # again: every request would wait behind it.
    patience = {
        "options": f"-c lock_timeout={LOCK_TIMEOUT_MS}",
        "connect_timeout": DATABASE_CONNECT_TIMEOUT,
        "client_encoding": "utf8",
    }
    return create_engine(database.engine.url, poolclass=NullPool, connect_args=patience)


def _refuse_other_encodings(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    # Of SQL_ASCII PostgreSQL converts nothing, and keeps what we send: UTF-8.
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise click.ClickException(
            f"A database of encoding {encoding} cannot hold every name: "
            "dump it, and restore it into one made with ENCODING 'UTF8'."
        )


def _wait_for_turn(connection: Connection) -> None:
    # Of several machines that start at once one migrates, and the others find it done. They ask again and again: an
    # index that is built concurrently would wait for a statement that waits for its turn.
    is_told = False
    while not connection.scalar(text("SELECT pg_try_advisory_lock(hashtext('magicauth'))")):
        connection.rollback()
        if not is_told:
            log.warning("another migration is under way; waiting for its end")
            is_told = True
        time.sleep(0.2)
    connection.rollback()


def _of_a_newer_release(connection: Connection) -> str | None:
    """The revision that the database is at, where it has our tables, this release does not know it, and is asked to
    upgrade to its newest."""
    current = MigrationContext.configure(connection).get_current_revision()
    is_ours = inspect(connection).has_table("users") and inspect(connection).has_table("audit")
    # Else Alembic would take the transaction that this began for one of its caller's.
    connection.rollback()
    is_known = current in {None, *(one.revision for one in context.script.walk_revisions())}
    return None if is_known or not is_ours or not _is_upgrade() else current


def _is_upgrade() -> bool:
    command = click.get_current_context(silent=True)
    if command is None or command.info_name != "upgrade":
        return False
    return command.params.get("revision") == "head" and not command.params.get("sql")


def _tell(step: Any, **_: Any) -> None:
    if step.is_stamp:
        return
    done = "applied" if step.is_upgrade else "taken back"
    log.info("revision %s %s: %s", step.up_revision_id, done, step.up_revision.doc)


try:
    run()
except OperationalError as error:
    # One line for its operator, who sees no trace elsewhere either.
    raise click.ClickException(f"The database is away, or a revision waits for a lock: {reason_of(error)}") from None
