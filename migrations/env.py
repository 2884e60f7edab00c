"""Runs the revisions on the app's own database."""

import logging
import time
from typing import Any

import click
from alembic import context
from flask import current_app
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from magicauth.extensions import DATABASE_CONNECT_TIMEOUT, Base

LOCK_TIMEOUT_MS = 2000

database = current_app.extensions["migrate"].db
log = logging.getLogger("magicauth.migrations")


def run() -> None:
    with _engine().connect() as connection:
        if connection.dialect.name == "postgresql":
            _wait_for_turn(connection)
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
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
    patience = {"options": f"-c lock_timeout={LOCK_TIMEOUT_MS}", "connect_timeout": DATABASE_CONNECT_TIMEOUT}
    return create_engine(database.engine.url, poolclass=NullPool, connect_args=patience)


def _wait_for_turn(connection: Connection) -> None:
    # Of several machines that start at once one migrates, and the others find it done. They ask again and again: an
    # index that is built concurrently would wait for a statement that waits for its turn.
    while not connection.scalar(text("SELECT pg_try_advisory_lock(hashtext('magicauth'))")):
        connection.rollback()
        time.sleep(0.2)
    connection.rollback()


def _tell(step: Any, **_: Any) -> None:
    done = "applied" if step.is_upgrade else "taken back"
    log.info("revision %s %s: %s", step.up_revision_id, done, step.up_revision.doc)


try:
    run()
except OperationalError as error:
    # One line for its operator, who sees no trace elsewhere either.
    raise click.ClickException(f"The database is away, or a revision waits for a lock: {error.orig}") from None
