"""Who is compared, and what the measurements share."""

import asyncio
import contextlib
import importlib.util
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
from flask import Flask

from benchmarks import people, stage
from benchmarks.people import PASSWORD, PEOPLE, Browser, Rate
from benchmarks.post import Post
from magicauth import create_app, guards
from magicauth.crypto import digest
from magicauth.extensions import db
from magicauth.models import User
from magicauth.models.columns import new_id
from magicauth.passwords import hash_password


@dataclass(frozen=True)
class Contestant:
    """What is compared: the app that gunicorn loads ("" is ours, by granian), its pages, and how one signs in to it."""

    app: str
    sign_in_page: str = ""
    sign_in: Callable[[Browser, Post, str], Awaitable[None]] | None = None
    needs: str = "flask"


CONTESTANTS = {
    "bare Flask": Contestant("benchmarks.contestants:bare()", "/auth"),
    "Flask-Session": Contestant("benchmarks.contestants:flask_session()"),
    "Flask-Security": Contestant(
        "benchmarks.flask_security_app:app()",
        "/us-signin",
        people.sign_in_to_flask_security,
        "flask_security",
    ),
    "django-allauth": Contestant(
        "benchmarks.django_allauth_app:app()", "/accounts/login/code/", people.sign_in_to_django_allauth, "allauth"
    ),
    "magicauth": Contestant("benchmarks.contestants:magicauth()", "/auth", people.sign_in),
    "magicauth, granian": Contestant("", "/auth", people.sign_in, "granian"),
}


class Run:
    """The servers that all contestants share, and what was measured."""

    def __init__(
        self, folder: Path, redis_url: str, runner: asyncio.Runner, post: Post, seconds: float, only: list[str]
    ) -> None:
        self.folder, self.runner, self.post, self.seconds = folder, runner, post, seconds
        self.contestants = {name: CONTESTANTS[name] for name in only or CONTESTANTS if _is_there(name)}
        self.redis = redis.Redis.from_url(redis_url)
        self.figures: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        many = "100000000 per hour"
        self.env = {
            "MAGICAUTH_MODE": "production",
            "SECRET_KEY": "a benchmark's key, which protects nothing at all",
            "PUBLIC_URL": "http://127.0.0.1",
            "DATABASE_URL": f"sqlite:///{folder / 'magicauth.sqlite3'}",
            "REDIS_URL": redis_url,
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": str(post.port),
            "MAGICAUTH_LIMIT_MAILS_PER_IP": many,
            "MAGICAUTH_LIMIT_MAILS_GLOBAL": many,
            "BENCHMARK_FOLDER": str(folder),
        }
        self.cookies: dict[str, str] = {}
        app = create_app(self.env, instance_path=str(folder))
        _make_people(app)
        self.session_id = _sign_in(app)
        self.session_key = f"magicauth:session:{digest(self.session_id)}"
        self.session_bytes = bytes(self.redis.get(self.session_key))  # type: ignore[arg-type]

    @contextlib.contextmanager
    def serving(self, name: str, **more: str) -> Iterator[stage.Server]:
        """The contestant, on a core of its own."""
        app = self.contestants[name].app
        serve = (
            stage.gunicorn(app, self.folder, self.env | more) if app else stage.granian(self.folder, self.env | more)
        )
        with serve as server:
            yield server

    def note(self, what: str, name: str, figure: float) -> None:
        """Keeps a figure of a round."""
        self.figures[what][name].append(figure)

    def note_rate(self, what: str, name: str, rate: Rate) -> None:
        """The same of a rate."""
        self.note(f"{what}, a second", name, rate.per_second)
        self.note(f"{what}, p99 in ms", name, rate.p99_ms)


def _is_there(name: str) -> bool:
    found = importlib.util.find_spec(CONTESTANTS[name].needs) is not None
    if not found:
        print(f"{name} is left out: it is not installed (pip install -e '.[dev,bench]').")
    return found


def _make_people(app: Flask) -> None:
    hashed = {"user": None, "locked": hash_password(PASSWORD)}
    with app.app_context():
        User.metadata.create_all(db.engine)
        for number in range(PEOPLE):
            for who, password_hash in hashed.items():
                email = f"{who}{number}@example.com"
                db.session.add(
                    User(id=new_id(), canonical_email=email, email=email, name="Ada", password_hash=password_hash)
                )
        db.session.commit()


def _sign_in(app: Flask) -> str:
    """Signs somebody in past the pages; the session's id. What it holds is as long as most are."""
    browser = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0"}
    with app.test_request_context("/", headers=browser, environ_base={"REMOTE_ADDR": "198.51.100.7"}):
        guards.start_session(User.by_email("user0@example.com"), ["email"])  # type: ignore[arg-type]
        app.process_response(app.make_response(""))
        return str(guards.this_session().sid)
