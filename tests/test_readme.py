"""What the README says is run, as it is written there."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.cli import FlaskGroup
from pages import JSON, sign_up

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's examples in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(redis_url: str, redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Development's settings, with stores of the test's own."""
    settings = {
        "MAGICAUTH_MODE": "development",
        "REDIS_URL": redis_url,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'readme.sqlite3'}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **settings}


def test_the_guarded_page_of_the_readme_works_as_it_stands_there(environment, capsys):
    page, hook = blocks("python")
    example: dict[str, Any] = {"__name__": __name__}
    exec(page, example)
    exec(hook, example)
    app = example["app"]
    try:
        client = app.test_client()
        sent = client.get("/reports")
        assert (sent.status_code, sent.location) == (303, "/auth?next=/reports")
        assert client.get("/reports", headers=JSON).get_json()["message"] == "Sign in required."
        sign_up(client, name="Ada Lovelace")
        assert app.test_client().get("/reports").status_code == 303
        assert "Welcome, Ada Lovelace" in capsys.readouterr().out
        with client.get("/reports") as shown:
            assert shown.text == "Reports for Ada Lovelace"
    finally:
        app.extensions["magicauth-outbox"].stop_worker()
        with app.app_context():
            app.extensions["sqlalchemy"].engine.dispose()


def test_every_flask_command_of_the_readme_runs(environment, monkeypatch):
    # In this process, where each would load everything anew; test_cli.py starts some as a shell does.
    monkeypatch.setenv("FLASK_APP", "wsgi")
    monkeypatch.setenv("FLASK_SKIP_DOTENV", "1")
    commands = [line for block in blocks("sh") for line in block.splitlines() if "/flask " in line]
    ran = 0
    for line in commands:
        words = line.partition("#")[0].split()
        if "run" in words or "&&" in words:
            continue
        done = CliRunner().invoke(FlaskGroup(), words[1:])
        # The account that the first one makes is there for the others.
        assert done.exit_code == 0, (line, done.output, done.exception)
        ran += 1
    assert ran >= 8


def test_the_folders_and_documents_of_the_readme_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)|src=\"([^\"]+)\"", README):
        assert (ROOT / "".join(target)).exists(), target


def test_the_commands_that_ci_runs_are_the_readmes():
    ci = (ROOT / ".ci" / "run").read_text()
    assert ".venv/bin/python -m pytest" in README and ".venv/bin/python -m pytest" in ci
    assert "make check" in README and "make lint" in ci
