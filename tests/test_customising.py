"""What docs/customising.md says is run, as it is written there; and colours of a site's own that all can read."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from flask import Flask, render_template_string
from flask.testing import FlaskClient
from instruments import close, delivering, quiet_app, redis_commands, sql_statements
from pages import EMAIL, JSON, Browser, sign_up
from production import production

from magicauth.colours import ACCENT, DARK, LIGHT, READABLE, colours, contrast
from magicauth.testing import sign_in as sign_in_for_test

ROOT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"^```(?:python|html)\n((?:# |{# )(\S+).*?)^```", re.MULTILINE | re.DOTALL)
OWN_PAGE = """
{% block title %}Open{% endblock %}
{% block main %}<p>{{ "nobody" if current_user is none else current_user.email }}</p>{% endblock %}
"""
CSS = (ROOT / "magicauth" / "static" / "app.css").read_text()


def page_of(client: FlaskClient, path: str, status: int = 200) -> Tag:
    answer = client.get(path)
    assert answer.status_code == status
    return BeautifulSoup(answer.text, "html.parser")


def places(page: Tag) -> list[str]:
    """The bar's entries."""
    return [link.get_text() for link in page.select("header nav a")]


# --- the example -----------------------------------------------------------------------------------------------------


@pytest.fixture
def example(redis: Any, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The site of the document, in files of its own."""
    for content, name in EXAMPLE.findall((ROOT / "docs" / "customising.md").read_text()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("MAGICAUTH_MODE", "development")
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wsgi", raising=False)
    app: Flask = importlib.import_module("wsgi").app
    app.test_client_class = Browser
    yield app
    for name in ("reports", "wsgi", "test_reports"):
        sys.modules.pop(name, None)
    app.extensions["magicauth-outbox"].stop_worker()
    close(app)


def test_the_example_of_the_document_is_a_site(example, tmp_path):
    client = example.test_client()
    assert client.get("/reports").location == "/auth?next=/reports"
    sign_up(client, name="Ada Lovelace")
    page = page_of(client, "/reports")
    assert page.h1.get_text() == "Reports for Ada Lovelace"
    assert page.title.get_text() == "Reports · magicauth"
    assert [item.get_text() for item in page.select("main li")] == ["Spring", "Summer"]
    assert page.select_one("header [aria-current=page]").get_text() == "Reports"
    assert page.select_one("header form[action='/logout']")
    for path, status in (("/home", 200), ("/account", 200), ("/nowhere", 404)):
        assert places(page_of(client, path, status)) == ["Home", "Account", "Sessions", "Activity", "Reports"]
    assert (tmp_path / "instance" / "magicauth.sqlite3").exists()


def test_tables_of_its_own_have_revisions_of_their_own(redis_url, tmp_path):
    text = (ROOT / "docs" / "customising.md").read_text()
    (tables,) = re.findall(r"^```python\n(from magicauth.extensions .*?)^```", text, re.MULTILINE | re.DOTALL)
    (migrate,) = re.findall(r"^Migrate\(.*\)$", text, re.MULTILINE)
    # In a process of its own: what is mapped once is mapped for all tests.
    script = f"""
from pathlib import Path
from flask_migrate import Migrate
from magicauth import create_app
from magicauth.migrating import not_ours
from magicauth.models import User
{tables}
Note.user = db.relationship(User, backref="notes")
HERE = Path({str(tmp_path)!r})
settings = {{"MAGICAUTH_MODE": "development", "REDIS_URL": {redis_url!r}}}
app = create_app(settings, instance_path=str(HERE / "instance"))
{migrate}
commands = ("notes init", "notes migrate", "notes upgrade", "notes downgrade", "notes upgrade")
for command in (*commands, "db upgrade", "db migrate", "db check"):
    done = app.test_cli_runner().invoke(args=command.split())
    with app.app_context():
        print(">", command, done.exit_code, *sorted(db.inspect(db.engine).get_table_names()))
app.test_cli_runner().invoke(args=["users", "create", "ada@example.org"])
with app.app_context():
    user = User.by_email("ada@example.org")
    db.session.add(Note(user=user, text="secret"))
    db.session.commit()
app.test_cli_runner().invoke(args=["users", "delete", "ada@example.org", "--yes"])
with app.app_context():
    print("> left", db.session.scalars(db.select(Note)).all(), User.by_email("ada@example.org"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith(">")] == [
        "> notes init 0 alembic_version audit users",
        "> notes migrate 0 alembic_version audit notes_version users",
        "> notes upgrade 0 alembic_version audit note notes_version users",
        "> notes downgrade 0 alembic_version audit notes_version users",
        "> notes upgrade 0 alembic_version audit note notes_version users",
        "> db upgrade 0 alembic_version audit note notes_version users",
        "> db migrate 1 alembic_version audit note notes_version users",
        "> db check 0 alembic_version audit note notes_version users",
        "> left [] None",
    ], done.stderr


def test_the_tests_of_the_document_pass(example):
    tests = importlib.import_module("test_reports")
    tests.test_a_stranger_is_sent_to_sign_in(example.test_client())
    tests.test_the_page_greets_its_reader(example.test_client())


def test_signing_in_for_a_test_makes_of_an_account_what_the_test_wants(app, client):
    sign_in_for_test(client)
    assert client.get("/users").status_code == 403
    sign_in_for_test(client, is_admin=True, name="Ada King")
    assert client.get("/users").status_code == 200
    assert client.get("/home", headers=JSON).get_json()["user"]["name"] == "Ada King"


def test_within_a_context_of_the_tests_own_every_client_is_who_it_is(app):
    with app.app_context():
        ada, stranger = app.test_client(), app.test_client()
        sign_in_for_test(ada)
        assert ada.post("/account", data={"name": ""}).status_code == 400
        assert [client.get("/home").status_code for client in (ada, stranger, ada)] == [200, 303, 200]
        assert stranger.get("/auth").status_code == 200


@pytest.mark.parametrize(("columns", "error"), [({"nmae": "Ada"}, TypeError), ({"disabled": True}, ValueError)])
def test_what_it_cannot_make_of_an_account_it_says(client, columns, error):
    with pytest.raises(error):
        sign_in_for_test(client, **columns)
    assert client.get("/home").status_code == 303


def test_it_signs_in_where_cookies_have_a_prefix_too(make_new_app, tmp_path):
    client = production(make_new_app, tmp_path).test_client()
    sign_in_for_test(client)
    assert client.get("/home").status_code == 200


def test_the_examples_page_of_ours_keeps_its_ways_out(example):
    page = page_of(example.test_client(), "/users/magic_link/sent")
    assert page.h1.get_text() == "A letter is on its way"
    assert "It comes from reports@example.org." in page.get_text()
    assert {link.get_text(): link["href"] for link in page.select("main a")} == {
        "Try another address": "/users/magic_link",
        "Sign in": "/auth",
    }


def test_the_blocks_that_the_document_names_are_those_there_are(app):
    named = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "customising.md").read_text(), re.MULTILINE))
    there = {block for name in ("base.html", "account/base.html") for block in app.jinja_env.get_template(name).blocks}
    assert named == there - {"shell", "marks", "page"}


# --- who reads it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "bar"), [("base.html", []), ("account/base.html", ["Home", "Account", "Sessions", "Activity"])]
)
def test_a_template_that_is_given_nothing_knows_who_is_signed_in_without_sql(redis, redis_url, tmp_path, template, bar):
    with quiet_app(redis_url, tmp_path) as app:

        @app.get("/open")
        def anybody() -> str:
            return render_template_string(f"{{% extends '{template}' %}}{OWN_PAGE}")

        client = app.test_client()
        for reader, entries, expected in (("nobody", [], []), (EMAIL, bar, ["GET"])):
            with redis_commands(redis) as commands, sql_statements(app) as statements:
                page = page_of(client, "/open")
            assert (page.main.p.get_text(), places(page)) == (reader, entries)
            assert bool(page.find("form", {"action": "/logout"})) == bool(entries)
            assert (commands, statements) == (expected, [])
            with delivering(app):
                sign_up(client)


def test_a_refusal_keeps_the_bar_of_who_is_signed_in_and_leads_home(client):
    for path, status, way in (("/nowhere", 404, "/"), ("/auth/link", 400, "/auth")):
        page = page_of(client, path, status)
        assert ([link["href"] for link in page.select("main a")], places(page)) == ([way], [])
    sign_up(client)
    for path, status in (("/nowhere", 404), ("/users", 403), ("/auth/link", 400)):
        page = page_of(client, path, status)
        assert {link.get_text(): link["href"] for link in page.select("main a")} == {"Home": "/home"}
        assert places(page) == ["Home", "Account", "Sessions", "Activity"]
        assert page.find("form", {"action": "/logout"}) and "sign-in page" not in page.main.get_text()


def test_a_page_that_asks_who_reads_it_while_redis_is_away_is_a_503(tmp_path):
    with quiet_app("redis://127.0.0.1:1", tmp_path) as app:
        client = app.test_client()
        assert client.get("/nowhere").status_code == 404
        client.set_cookie("magicauth", "A" * 43)
        answer = client.get("/nowhere")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


# --- colours ---------------------------------------------------------------------------------------------------------

ACCENTS = [
    *("#ffd43b", "#ffff00", "#ffffff", "#000000", "#3b5bdb", "#808080", "#767676", "#ff0000", "#00ff00", "#0000ff"),
    *("#ff00ff", "#00ffff", "#fa5252", "#12b886", "#f8f9fa", "#101010", ACCENT),
]


@pytest.mark.parametrize("accent", ACCENTS)
def test_whatever_the_accent_buttons_and_links_can_be_read(accent):
    found = colours(accent)
    assert contrast(found.on_accent, accent) >= READABLE
    assert found.on_accent in ("#000000", "#ffffff") and found.hover != found.on_accent
    assert all(contrast(found.light_link, behind) >= READABLE for behind in (*LIGHT, found.light_tint))
    assert all(contrast(found.dark_link, behind) >= READABLE for behind in (*DARK, found.dark_tint))


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#777777", "#ffffff", 4.48),
        ("#ffd43b", "#ffffff", 1.43),
        ("#123456", "#123456", 1),
    ],
)
def test_contrast_is_wcags(one, other, ratio):
    assert contrast(one, other) == contrast(other, one) == pytest.approx(ratio, abs=0.01)


def test_an_accent_that_can_be_read_is_the_links_colour_as_it_is():
    assert colours("#3b5bdb").light_link == "#3b5bdb" and colours("#ffd43b").dark_link == "#ffd43b"


def test_the_colours_are_measured_on_the_backgrounds_that_pages_have():
    of_page = {name: re.findall(rf"^ +--{name}: (#\w+);", CSS, re.MULTILINE) for name in ("page", "surface", "sunken")}
    assert [tuple(six_digits(pair[scheme]) for pair in of_page.values()) for scheme in (0, 1)] == [LIGHT, DARK]
    assert f"--accent: {ACCENT};" in CSS


def six_digits(colour: str) -> str:
    return colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])


def test_the_accents_stylesheet_sets_text_and_links_for_light_and_dark(make_app):
    css = make_app(MAGICAUTH_ACCENT="#ffd43b").test_client().get("/accent.css").text
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    assert "--accent: #ffd43b;" in light and "--on-accent: #000000;" in light
    links = [re.search(r"--link: (#\w{6});", part)[1] for part in (light, dark)]
    assert links == [colours("#ffd43b").light_link, "#ffd43b"]


def test_the_accents_stylesheet_is_fetched_once_for_each_accent(make_app):
    def address(accent: str) -> str:
        return re.search(r"/accent\.css\?v=\w+", make_app(MAGICAUTH_ACCENT=accent).test_client().get("/auth").text)[0]

    one, other = address("#ffd43b"), address("#3b5bdb")
    assert one != other
    kept = make_app(MAGICAUTH_ACCENT="#ffd43b").test_client().get(one)
    assert "--accent: #ffd43b;" in kept.text
    assert kept.headers["Cache-Control"] == "public, max-age=31536000"
    assert not kept.headers.getlist("Set-Cookie")
    # By a process that has not heard of the new one yet.
    assert make_app(MAGICAUTH_ACCENT="#3b5bdb").test_client().get(one).headers["Cache-Control"] == "no-store"
    assert make_app().test_client().get(one).headers["Cache-Control"] == "no-store"


def test_a_client_may_be_signed_in_so_that_it_must_say_again_who_it_is(client):
    sign_in_for_test(client, fresh=False)
    assert client.get("/home").status_code == 200
    assert client.get("/account/email").location == "/auth/fresh"
