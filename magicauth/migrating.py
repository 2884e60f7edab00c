"""Development migrates its database by itself; production does when its operator says `flask db upgrade`."""

import fcntl
import logging
from pathlib import Path

import flask_migrate
from flask import Flask


def upgrade(app: Flask) -> None:
    """Brings the database to the newest revision; of several processes that start at once, one does."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with (Path(app.instance_path) / "migrating.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with app.app_context():
            flask_migrate.upgrade()
