"""What a site's own code is named, reads and raises does not break our pages and letters."""

import pytest
from flask import abort, flash, g, render_template_string, request, send_file, session
from flask.testing import FlaskClient
from instruments import failing, redis_commands, session_id
from jinja2 import StrictUndefined
from markupsafe import escape
from pages import JSON, PASSWORD, is_signed_in, other_browser, sign_in, sign_up, sign_up_by_mail
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Conflict, ServiceUnavailable, TooManyRequests, Unauthorized

from magicauth import challenges, create_app, current_user, login_required
from magicauth.audit import signal
from magicauth.config import ConfigError
from magicauth.extensions import db
from magicauth.models import Action
from magicauth.theme import Ours

# All that our templates know.
NAMES = ["wrong", *(name for name in vars(Ours) if not name.startswith("_")), "site_name", "passwords", "sign_up"]
BASIC = WWWAuthenticate("basic", {"realm": "files"})


@pytest.fixture
def app(make_new_app):
    app = make_new_app()
    app.test_client_class = FlaskClient
    return app


def walk(app):
    """Signs up by a letter, out, and in again by another; looks at every page on the way."""
    browser = app.test_client()
    for path in ("/auth", "/users/magic_link", "/auth/reset", "/nowhere"):
        assert browser.get(path).status_code in (200, 404)
    assert sign_up_by_mail(browser).location == "/home"
    for path in ("/home", "/account", "/account/sessions", "/account/activity", "/account/email", "/account/delete"):
        assert browser.get(path).status_code == 200
    browser.post("/logout")
    assert browser.post("/auth", data={"email": "ada@"}).status_code == 400
    assert sign_in(browser).location == "/home"
    return browser


# --- templates -------------------------------------------------------------------------------------------------------


def test_filters_and_functions_of_our_names_do_not_stand_in_the_place_of_ours(app):
    def broken(*_, **__):
        raise RuntimeError

    for name in NAMES:
        app.add_template_filter(broken, name)
        app.add_template_global(broken, name)
    walk(app)


def test_variables_of_our_names_mean_what_the_sites_view_says(app):
    @app.get("/pumps")
    def pumps():
        page = "{% extends 'base.html' %}{% block title %}Pumps{% endblock %}{% block main %}{{ asset }}{% endblock %}"
        return render_template_string(page, **dict.fromkeys(NAMES, "pump 7"))

    answer = app.test_client().get("/pumps", headers={"Accept-Language": "de"})
    assert answer.status_code == 200
    assert '<html lang="de" dir="ltr">' in answer.text and "Entwicklungs" in answer.text
    assert "pump 7" in answer.text


def test_files_of_its_own_may_be_called_as_those_that_ours_import(redis, redis_url, tmp_path, new_apps):
    for name in ("macros.html", "notices.html", "bare.html"):
        (tmp_path / name).write_text("{% macro mine() %}mine{% endmacro %}")
    app = create_app(
        {"MAGICAUTH_MODE": "development", "MAGICAUTH_MAIL_WORKER": "external", "REDIS_URL": redis_url},
        instance_path=str(tmp_path / "instance"),
        template_folder=str(tmp_path),
    )
    new_apps.append(app)
    client = app.test_client()
    sign_up(client)
    assert [client.get(path).status_code for path in ("/account", "/auth/reset", "/nowhere")] == [200, 200, 404]


def test_a_site_may_be_strict_about_what_its_templates_know(make_new_app):
    app = make_new_app()
    app.test_client_class, app.jinja_env.undefined = FlaskClient, StrictUndefined
    walk(app)


@pytest.mark.parametrize("name", ["message", "context", "number", "singular", "plural", "self"])
def test_a_sentence_may_name_its_values_as_it_likes(app, name):
    page = f"{{{{ _('a %({name})s', {name}=7) }}}} {{{{ ngettext('%({name})s', '%({name})ss', 2, {name}='note') }}}}"
    with app.test_request_context():
        assert render_template_string(page) == "a 7 notes"


# --- context processors ----------------------------------------------------------------------------------------------


def test_a_context_processor_that_wants_a_request_stops_no_letter(app):
    @app.context_processor
    def cart():
        return {"cart": session.get("cart", 0), "here": request.path}

    walk(app)


def test_one_that_fails_makes_a_page_that_says_so(app, caplog):
    @app.context_processor
    def broken():
        raise RuntimeError("a mistake of the site's")

    client = app.test_client()
    for path, status in (("/auth", 500), ("/nowhere", 404)):
        answer = client.get(path, headers={"Accept-Language": "de"})
        assert answer.status_code == status
        assert f'data-refused="{status}"' in answer.text and '<html lang="de" dir="ltr">' in answer.text
        assert "default-src" in answer.headers["Content-Security-Policy"]
    assert "a mistake of the site's" in caplog.text
    assert client.get("/auth", headers=JSON).status_code == 200


@pytest.mark.parametrize("error", [OperationalError("", {}, Exception("gone")), RedisConnectionError("gone")])
def test_one_that_asks_what_is_away_makes_a_503(app, error):
    @app.context_processor
    def count():
        raise error

    for path in ("/auth", "/nowhere"):
        answer = app.test_client().get(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert "<h1>" in answer.text and "gone" not in answer.text


def test_one_that_asks_for_a_table_that_is_none_is_a_mistake_on_every_page(app):
    @app.context_processor
    def count():
        return {"count": db.session.scalar(text("SELECT 1 FROM nowhere"))}

    for path, status in (("/auth", 500), ("/nowhere", 404)):
        answer = app.test_client().get(path)
        assert (answer.status_code, "Retry-After" in answer.headers) == (status, False)


def test_what_a_site_does_after_each_request_may_ask_who_is_signed_in_while_redis_is_away(app):
    @app.after_request
    def note(response):
        response.headers["X-Reader"] = current_user.name if current_user else "-"
        return response

    client = app.test_client()
    sign_up(client)
    with failing(app, "GET"):
        answer = client.get("/healthz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


# --- g and session ---------------------------------------------------------------------------------------------------


def test_what_a_site_keeps_in_g_is_not_taken_for_ours(app):
    names = ["current_user", "user", "visitor", "refusal", "fields", "pending", "started", "hangs", "request_id"]

    @app.before_request
    def keep():
        for name in names:
            setattr(g, name, "robot")

    @app.get("/guarded")
    @login_required
    def guarded():
        return g.current_user

    assert app.test_client().get("/guarded").location == "/auth?next=/guarded"
    assert walk(app).get("/guarded").text == "robot"


@pytest.mark.parametrize("name", ["user_id", "epoch", "created", "seen", "auth_time", "pending", "wanted"])
def test_what_a_session_holds_of_ours_is_not_taken_out(app, name):
    @app.post("/take")
    def take():
        with pytest.raises(ValueError, match=f"{name}.*is magicauth's own"):
            session.pop(name)
        with pytest.raises((ValueError, KeyError)):
            del session[name]
        return "kept"

    client = app.test_client()
    sign_up(client)
    if name in ("pending", "wanted"):
        with client.session_transaction() as kept:
            kept.keep(**{name: {"path": "/account", "typed": {}, "sent": False, "until": 0}})
    assert client.post("/take").text == "kept"
    assert is_signed_in(client)


def test_a_session_that_is_cleared_is_signed_out(app):
    @app.post("/clear")
    def clear():
        session.clear()
        return "cleared"

    client = app.test_client()
    sign_up(client)
    other = other_browser(client)
    other.set_cookie("magicauth", client.get_cookie("magicauth").value)
    client.post("/clear")
    assert not is_signed_in(client) and not is_signed_in(other)


def test_what_is_put_into_it_then_is_under_another_id_and_a_strangers(app):
    @app.post("/leave")
    def leave():
        assert current_user.name
        session.clear()
        flash("Bye.")
        return render_template_string("{{ current_user.name or 'nobody' }}") + (" still" if current_user else "")

    client = app.test_client()
    sign_up(client)
    before = session_id(client)
    assert client.post("/leave").text == "nobody"
    assert session_id(client) not in ("", before)
    assert not is_signed_in(client)
    client.set_cookie("magicauth", before)
    assert not is_signed_in(client)


def test_to_clear_what_is_empty_changes_nothing(app):
    @app.post("/clear")
    def clear():
        session.clear()
        return "cleared"

    client = app.test_client()
    client.set_cookie("magicauth", "A" * 43)
    assert "Set-Cookie" not in client.post("/clear").headers


@pytest.mark.parametrize("action", [Action.SIGNED_IN, Action.SIGNED_UP])
def test_what_is_put_into_a_session_when_somebody_comes_in_is_his(app, action):
    seen = []

    def welcome(_, user):
        seen.append((user.email, current_user.email))
        session["welcomed"] = user.email

    @app.get("/welcomed")
    def welcomed():
        return session.get("welcomed", "")

    client, email = app.test_client(), "grace@example.org"
    sign_up(client)
    sign_up(other_browser(client), email)
    with signal(action).connected_to(welcome):
        if action == Action.SIGNED_UP:
            email = "new@example.org"
            sign_up(client, email)
        else:
            sign_in(client, email)
    assert seen == [(email, email)]
    assert client.get("/welcomed").text == email


# --- errors ----------------------------------------------------------------------------------------------------------


class Odd(Conflict):
    """One of a site's own."""

    def get_headers(self, *arguments, **options):
        return [*super().get_headers(*arguments, **options), ("X-Odd", "yes")]


@pytest.mark.parametrize("breaks", [False, True], ids=["page", "bare page"])
def test_what_a_site_says_of_an_error_is_text(app, breaks):
    said = "<img src=x> 100% of %(it)s"

    @app.get("/full")
    def full():
        abort(409, description=said)

    @app.context_processor
    def process():
        return {"x": 1 / 0} if breaks else {}

    client = app.test_client()
    answer = client.get("/full")
    assert answer.status_code == 409
    assert escape(said) in answer.text and "<img" not in answer.text
    assert ("<strong>" in answer.text) == (not breaks)
    assert client.get("/full", headers=JSON).get_json()["message"] == said


@pytest.mark.parametrize("headers", [{}, JSON], ids=["page", "JSON"])
@pytest.mark.parametrize(
    ("error", "header"),
    [
        (TooManyRequests(retry_after=30), ("Retry-After", "30")),
        (ServiceUnavailable(retry_after=30), ("Retry-After", "30")),
        (Unauthorized(www_authenticate=BASIC), ("WWW-Authenticate", "Basic realm")),
        (Odd(), ("X-Odd", "yes")),
    ],
    ids=lambda value: getattr(value, "code", None) and str(value.code),
)
def test_an_error_keeps_the_headers_that_belong_to_it(app, error, header, headers):
    @app.get("/raise")
    def raise_it():
        raise error

    answer = app.test_client().get("/raise", headers=headers)
    assert answer.status_code == error.code
    assert answer.headers[header[0]].startswith(header[1])
    assert answer.mimetype == ("application/json" if headers else "text/html")
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_several_headers_of_a_name_are_kept(app):
    @app.get("/raise")
    def raise_it():
        raise Unauthorized(www_authenticate=[BASIC, WWWAuthenticate("digest", {"realm": "files"})])

    said = app.test_client().get("/raise").headers.getlist("WWW-Authenticate")
    assert [one.split()[0] for one in said] == ["Basic", "Digest"]


def test_of_an_account_that_was_made_a_site_is_told_though_redis_went_away_then(app):
    made, client = [], app.test_client()
    with app.app_context():
        token = challenges.issue("sign_up", "ada@example.org").token
    form = {"token": token, "name": "Ada", "password": PASSWORD}
    with signal(Action.SIGNED_UP).connected_to(lambda _, user: made.append(user.email)), failing(app, "EVALSHA"):
        assert client.post("/users/signup", data=form).status_code == 503
    assert made == ["ada@example.org"]


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), RuntimeError("a mistake")])
def test_a_site_is_told_once_whatever_goes_wrong_after_the_view(app, error):
    made = []

    @app.after_request
    def stumble(response):
        if request.path == "/users/signup" and response.status_code < 400:
            raise error
        return response

    with signal(Action.SIGNED_UP).connected_to(lambda _, user: made.append(user.email)):
        assert sign_up(app.test_client()).status_code in (500, 503)
    assert made == ["ada@example.org"]


def test_an_error_after_the_view_has_the_headers_that_every_answer_has(app):
    wrong = []

    @app.after_request
    def stumble(response):
        if request.path == "/auth" and not wrong:
            wrong.append(response.status_code)
            raise RuntimeError("a mistake")
        return response

    client = app.test_client()
    sign_up(client)
    client.post("/logout")
    # A right password gives its place back, after the view as well.
    answer = client.post("/auth", data={"email": "ada@example.org", "password": PASSWORD})
    assert (wrong, answer.status_code) == ([303], 500)
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-store"


def test_a_part_of_a_file_that_is_none_is_told_how_long_the_file_is(app, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)

    @app.get("/file")
    def file():
        return send_file(tmp_path / "file", mimetype="text/plain", conditional=True)

    answer = app.test_client().get("/file", headers={"Range": "bytes=500-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */100")


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_of_its_own_are_served_beside_ours(redis, redis_url, tmp_path, new_apps):
    (tmp_path / "site.css").write_text("p { color: red }")
    (tmp_path / "app.css").write_text("not ours")
    app = create_app(
        {"MAGICAUTH_MODE": "development", "MAGICAUTH_MAIL_WORKER": "external", "REDIS_URL": redis_url},
        instance_path=str(tmp_path / "instance"),
        static_folder=str(tmp_path),
    )
    new_apps.append(app)
    with app.test_request_context():
        assert render_template_string("{{ url_for('static', filename='site.css') }}") == "/static/site.css"
    client = app.test_client()
    with redis_commands(redis) as commands, client.get("/static/site.css") as theirs:
        assert theirs.text == "p { color: red }"
    assert commands == []
    with client.get("/static/app.css") as ours:
        assert "not ours" not in ours.text
    assert client.get("/static/nothing.css").status_code == 404
    assert client.get("/static/%2e%2e/instance/secret_key").status_code == 404


@pytest.mark.parametrize("folder", ["template_folder", "static_folder"])
def test_a_folder_that_is_none_is_said_at_the_start(tmp_path, folder):
    with pytest.raises(ConfigError, match=f"{folder} is .*nowhere, which is no folder"):
        create_app({"MAGICAUTH_MODE": "development"}, instance_path=str(tmp_path), **{folder: "nowhere"})
