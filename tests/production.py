"""An app as production runs it: a public name on https, its own cookies, SMTP, and no mailbox."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from pages import Browser
from werkzeug.test import TestResponse

PUBLIC_URL = "https://id.example.org"
# In the form that create_app wants; REDIS_URL comes from the stage, DATABASE_URL from the test's own folder.
SETTINGS = {
    "MAGICAUTH_MODE": "production",
    "SECRET_KEY": "the key of the tests, 32 or more characters",
    "PUBLIC_URL": PUBLIC_URL,
    "MAIL_SERVER": "127.0.0.1",
}


class PublicBrowser(Browser):
    """A browser that comes by the public name."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{"base_url": self.application.config["PUBLIC_URL"], **kwargs})


def production(make_new_app: Callable[..., Flask], folder: Path, **settings: Any) -> Flask:
    """The app, with the tables that `flask db upgrade` makes."""
    database = f"sqlite:///{folder / 'production.sqlite3'}"
    app = make_new_app(**{**SETTINGS, "DATABASE_URL": database, **settings})
    upgraded = app.test_cli_runner().invoke(args=["db", "upgrade"])
    assert upgraded.exit_code == 0, upgraded.output
    app.test_client_class = PublicBrowser
    return app
