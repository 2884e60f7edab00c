"""What a site's own pages may expect of the app that they are added to."""

import gzip
import uuid
from urllib.parse import quote

import pytest
from flask import (
    Blueprint,
    abort,
    flash,
    get_flashed_messages,
    make_response,
    redirect,
    render_template,
    render_template_string,
    request,
    session,
)
from flask.testing import FlaskClient
from flask_babel import lazy_gettext
from instruments import later, session_id
from markupsafe import Markup
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_in, sign_up
from sqlalchemy import text
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import Conflict

from magicauth import create_app, current_user, fresh_sign_in_required, login_required, own_body
from magicauth.config import ConfigError
from magicauth.extensions import db
from magicauth.extensions import redis as client_of_redis
from magicauth.models import User


@pytest.fixture
def app(make_new_app):
    app, pages = make_new_app(), Blueprint("pages", __name__)
    # That of the tests would look for our pages' title, policy and labels.
    app.test_client_class = FlaskClient

    @pages.post("/cart")
    def add():
        session["cart"] = session.get("cart", 0) + 1
        return str(session["cart"])

    @pages.post("/said")
    def say():
        flash("Thank you.")
        return redirect("/said")

    @pages.get("/said")
    def said():
        return " ".join(get_flashed_messages())

    @pages.get("/permanent")
    def make_permanent():
        session.permanent = True
        return "yes"

    @pages.get("/later")
    @login_required
    async def later_on():
        return f"Hello, {current_user.name}"

    @pages.get("/much_later")
    @fresh_sign_in_required
    async def much_later():
        return "fresh"

    @pages.get("/report")
    def report():
        abort(404, description="No such report.")

    @pages.get("/missed")
    def missed():
        return request.args["missed"]

    @pages.get("/fragment")
    def fragment():
        return render_template_string("<p>{{ magicauth.site_name }}</p>")

    app.register_blueprint(pages)
    return app


def test_a_stranger_has_a_session_that_keeps_its_id(client):
    assert [client.post("/cart").text for _ in range(3)] == ["1", "2", "3"]
    before = session_id(client)
    assert client.post("/cart").text == "4" and session_id(client) == before
    assert not is_signed_in(client)
    client.post("/said")
    assert client.get("/said").text == "Thank you." and client.get("/said").text == ""


def test_it_ends_when_nothing_is_put_into_it_for_the_idle_time(client, redis):
    client.post("/cart")
    with later(redis, 1700):
        assert client.post("/cart").text == "2"
        with later(redis, 1801):
            assert client.post("/cart").text == "1"


def test_it_goes_along_into_a_sign_in_and_not_out_of_it(client):
    sign_up(client)
    other = other_browser(client)
    other.post("/cart")
    sign_in(other)
    assert other.post("/cart").text == "2"
    other.post("/logout")
    assert other.post("/cart").text == "1"


def test_it_does_not_go_from_one_user_to_the_next(client):
    sign_up(client)
    client.post("/cart")
    other = other_browser(client)
    sign_up(other, "eve@example.org")
    other.post("/cart")
    # In Ada's browser, whose session is replaced.
    sign_in(client, "eve@example.org")
    assert client.post("/cart").text == "1"


def test_a_permanent_session_is_decided_by_who_signs_in(client):
    assert client.get("/permanent").status_code == 200
    sign_up(client)
    answer = client.get("/permanent")
    assert answer.status_code == 200 and "magicauth=" not in answer.headers.get("Set-Cookie", "")


def test_a_guarded_view_may_be_async(client):
    assert client.get("/later", headers=JSON).status_code == 401
    sign_up(client)
    assert client.get("/later").text == "Hello, Ada Lovelace"
    assert client.get("/much_later").text == "fresh"


def test_a_refusal_says_what_the_site_says(client):
    assert client.get("/report", headers=JSON).get_json() == {"status": "FAIL", "message": "No such report."}
    page = client.get("/report").text
    assert "No such report." in page and "may be mistyped" not in page
    assert client.get("/nowhere", headers=JSON).get_json()["message"] == "Not found."


def test_a_sentence_that_its_class_makes_up_is_the_sites_own(app):
    class Sold(Conflict):
        @property
        def description(self):
            return "Sold a moment ago."

        @description.setter
        def description(self, _):
            pass

    def answer():
        raise Sold

    assert breaking(app, answer).get("/broken", headers=JSON).get_json()["message"] == "Sold a moment ago."


def test_a_field_that_its_view_misses_is_said_in_our_words(client):
    said = client.get("/missed", headers=JSON)
    assert (said.status_code, said.get_json()["message"]) == (400, "Bad Request.")


def test_flasks_test_client_looks_into_a_session_and_changes_it(client):
    with client.session_transaction() as stored:
        stored["cart"] = 6
    assert client.post("/cart").text == "7"
    sign_up(client)
    with client.session_transaction() as stored:
        assert "user_id" in stored and stored["cart"] == 7
        stored["cart"] = 10
    assert client.post("/cart").text == "11"
    assert is_signed_in(client)


def test_a_view_of_the_sites_own_takes_the_place_of_ours(app, client):
    app.view_functions["auth.sign_in.front"] = lambda: "Welcome."
    assert client.get("/").text == "Welcome."


def test_the_id_of_the_current_user_is_the_one_of_his_row(app, client):
    sign_up(client)
    with app.app_context():
        row = User.by_email(EMAIL)
    with client:
        client.get("/later")
        assert current_user.id == row.id and isinstance(current_user.id, uuid.UUID)
        assert client.get("/home", headers=JSON).get_json()["user"]["id"] == str(row.id)


# --- its settings ----------------------------------------------------------------------------------------------------


def test_its_own_settings_are_kept_and_ours_may_be_lists_and_bytes(make_new_app):
    app = make_new_app(
        REPORTS_MAX=5,
        TESTING=True,
        SECRET_KEY=b"0123456789abcdefghijklmnopqrstuvwxyz",
        SECRET_KEY_FALLBACKS=["a" * 32, "b" * 32],
    )
    assert (app.config["REPORTS_MAX"], app.testing) == (5, True)
    assert app.config["SECRET_KEY"] == "0123456789abcdefghijklmnopqrstuvwxyz"
    assert app.config["SECRET_KEY_FALLBACKS"] == ["a" * 32, "b" * 32]


@pytest.mark.parametrize("given", [b"\xff" * 32, "\udcff" * 32, [b"\xff" * 32]], ids=["bytes", "environment", "list"])
def test_a_key_that_is_no_text_is_refused_in_a_sentence(tmp_path, given):
    name = "SECRET_KEY_FALLBACKS" if isinstance(given, list) else "SECRET_KEY"
    with pytest.raises(ConfigError, match=f"{name} must be UTF-8 text"):
        create_app({name: given, "MAGICAUTH_MODE": "development"}, instance_path=tmp_path)


def test_a_misspelt_setting_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"MAGICAUTH_SIGNUP is no setting of ours \(MAGICAUTH_SIGN_UP is meant\?\)\."):
        create_app({"MAGICAUTH_MODE": "development", "MAGICAUTH_SIGNUP": "closed"}, instance_path=str(tmp_path))


def test_a_template_that_shows_no_notice_leaves_it_for_the_page_that_does(client):
    sign_up(client)
    client.post("/account", data={"name": "Ada King"})
    assert client.get("/fragment").text == "<p>magicauth</p>"
    client.open("/account", method="HEAD")
    assert "Saved." in client.get("/account").text


# --- what goes wrong in them -----------------------------------------------------------------------------------------


def breaking(app, error):
    """A page of the site's own where something goes wrong, and a client."""
    app.add_url_rule("/broken", view_func=error, endpoint="broken")
    return app.test_client()


def ask_what_is_no_sql():
    db.session.execute(text("SELEC 1"))


def ask_a_table_that_is_missing():
    db.session.execute(text("SELECT * FROM notes"))


def use_a_key_as_what_it_is_not():
    client_of_redis().set("notes", "x")
    client_of_redis().lpush("notes", "y")


def store_what_redis_cannot():
    client_of_redis().set("notes", {"x": 1})


def overtake_a_row_of_its_own():
    raise StaleDataError("UPDATE statement on table 'notes' expected to update 1 row(s); 0 were matched.")


@pytest.mark.parametrize(
    "mistake",
    [
        ask_what_is_no_sql,
        ask_a_table_that_is_missing,
        use_a_key_as_what_it_is_not,
        store_what_redis_cannot,
        overtake_a_row_of_its_own,
    ],
)
def test_a_mistake_of_the_sites_own_is_no_outage(app, caplog, mistake):
    client = breaking(app, mistake)
    sign_up(client)
    assert client.get("/broken", headers=JSON).status_code == 500
    assert "Traceback" in caplog.text and mistake.__name__ in caplog.text
    assert is_signed_in(client)


def test_where_our_tables_are_missing_the_database_is_what_is_away(app):
    client = breaking(app, ask_a_table_that_is_missing)
    with app.app_context():
        db.session.execute(text("ALTER TABLE audit RENAME TO gone"))
        db.session.commit()
        try:
            assert client.get("/broken", headers=JSON).status_code == 503
        finally:
            db.session.execute(text("ALTER TABLE gone RENAME TO audit"))
            db.session.commit()


def test_its_own_page_for_what_goes_wrong_is_shown(app):
    app.register_error_handler(500, lambda error: (f"Oh: {type(error.original_exception).__name__}", 500))
    assert breaking(app, lambda: 1 / 0).get("/broken").text == "Oh: ZeroDivisionError"


def test_under_test_and_in_the_debugger_a_mistake_is_raised(app):
    client = breaking(app, lambda: 1 / 0)
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        client.get("/broken")


# --- what they keep and say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["user_id", "name", "email", "wanted", "pending", "notice", 0, 4])
def test_what_a_session_holds_of_ours_is_not_written_over(app, name):
    def write():
        session[name] = "x"

    client = breaking(app, write)
    sign_up(client)
    assert client.get("/broken").status_code == 500
    assert client.get("/home", headers=JSON).get_json()["user"]["name"] == "Ada Lovelace"


def test_nothing_is_written_to_who_is_signed_in(app):
    @login_required
    def rename():
        with pytest.raises(AttributeError, match=r"current_user\.row\.phone"):
            current_user.phone = "1"
        current_user.row.phone = "+44 1"
        db.session.commit()
        return "done"

    client = breaking(app, rename)
    sign_up(client)
    assert client.get("/broken").text == "done"
    with app.app_context():
        assert User.by_email(EMAIL).phone == "+44 1"


def test_what_its_view_says_of_keeping_an_answer_stands_unless_it_brings_a_cookie(app):
    def answer():
        response = make_response("x")
        response.headers["Cache-Control"] = "public, max-age=600"
        response.headers["Permissions-Policy"] = "camera=(self)"
        if request.args:
            session["cart"] = 1
        return response

    client = breaking(app, answer)
    kept = client.get("/broken").headers
    assert (kept["Cache-Control"], kept["Permissions-Policy"]) == ("public, max-age=600", "camera=(self)")
    assert client.get("/broken?cart=1").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("said", "kept"), [("public, max-age=60", "no-store"), ("private, max-age=60", "")])
def test_what_was_made_of_a_session_is_kept_by_its_reader_alone(app, said, kept):
    @login_required
    def answer():
        response = make_response(current_user.name)
        response.headers["Cache-Control"] = said
        return response

    client = breaking(app, answer)
    sign_up(client)
    assert client.get("/broken").headers["Cache-Control"] == (kept or said)


def test_what_it_changed_inside_a_value_is_kept_or_refused(app, redis, full):
    @login_required
    def add():
        session.setdefault("items", []).append("x")
        session.modified = True
        return session["items"]

    client = breaking(app, add)
    sign_up(client)
    assert client.get("/broken").get_json() == ["x"]
    with later(redis, 120):
        with full():
            assert client.get("/broken").status_code == 503
        assert client.get("/broken").get_json() == ["x", "x"]


def test_who_is_told_something_reads_on_in_a_full_redis(client, full):
    sign_up(client)
    client.post("/account", data={"name": "Ada King"})
    with full():
        assert "Saved." in client.get("/account").text
    assert "Saved." in client.get("/account").text
    assert "Saved." not in client.get("/account").text


def test_who_is_signed_in_reads_on_in_a_full_redis(client, redis, full):
    sign_up(client)
    with later(redis, 61), full():
        assert client.get("/home").status_code == 200


def test_what_a_view_wrote_is_not_lost_for_what_its_page_shows_in_a_full_redis(app, full):
    @login_required
    def answer():
        session["cart"] = 1
        return render_template("account/base.html")

    client = breaking(app, answer)
    sign_up(client)
    client.post("/account", data={"name": "Ada King"})
    with full():
        assert client.get("/broken").status_code == 503
    assert client.get("/broken").status_code == 200


@pytest.mark.parametrize("said", ["private, max-age=600", "public, max-age=600"])
def test_an_answer_that_brings_or_takes_a_cookie_is_kept_by_nobody(app, said):
    def answer():
        if request.args:
            session["cart"] = 1
        else:
            session.clear()
        response = make_response("x")
        response.headers["Cache-Control"] = said
        return response

    client = breaking(app, answer)
    for path in ("/broken?fill=1", "/broken"):
        headers = client.get(path).headers
        assert "Set-Cookie" in headers and headers["Cache-Control"] == "no-store"


def test_nor_does_one_say_of_itself_what_was_said_of_the_answer(app, full):
    def answer():
        session["cart"] = 1
        response = make_response(gzip.compress(b"1,2,3"))
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Disposition"] = "attachment; filename=report.csv"
        response.headers["X-Accel-Redirect"] = "/private/report.csv"
        response.set_etag("of-the-report")
        return response

    client = breaking(app, answer)
    with full():
        refused = client.get("/broken")
    assert refused.status_code == 503 and "Nothing is lost" in refused.text
    assert set(refused.headers.keys()) == {*client.get("/nowhere").headers.keys(), "Retry-After"}


@pytest.mark.parametrize("said", ["private, max-age=600", "public, max-age=600"])
def test_nor_is_a_refusal_kept_that_takes_its_place(app, full, said):
    def answer():
        session["cart"] = 1
        response = make_response("x")
        response.headers["Cache-Control"] = said
        return response

    client = breaking(app, answer)
    with full():
        refused = client.get("/broken")
    assert (refused.status_code, refused.headers["Cache-Control"]) == (503, "no-store")


def test_what_a_view_flashes_is_on_the_next_page_of_ours_once(client):
    sign_up(client)
    client.post("/said")
    client.open("/account", method="HEAD")
    assert "Thank you." in client.get("/account").text
    assert "Thank you." not in client.get("/account").text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (Markup("Read <b>this</b>."), "Read <b>this</b>."),
        ("Read <b>this</b>.", "Read &lt;b&gt;this&lt;/b&gt;."),
        (lazy_gettext("Read this."), "Read this."),
    ],
)
def test_html_that_a_view_flashes_stays_html_and_text_stays_text(app, client, said, shown):
    @app.post("/say")
    def say():
        flash(said)
        return redirect("/auth")

    client.post("/say")
    assert shown in client.get("/auth").text
    client.post("/auth", data={"email": EMAIL})
    client.post("/say")
    assert shown in client.get("/verify").text


def test_what_a_session_cannot_hold_is_refused_and_named(app, client):
    app.testing = True

    @app.post("/object")
    def keep_object():
        session["cart"] = object()
        return ""

    with pytest.raises(TypeError, match="A session cannot hold <object"):
        client.post("/object")


@pytest.mark.parametrize(
    ("referrer", "page", "fresh_page"),
    [
        ("http://localhost/form?x=1", "/form?x=1", "/form?x=1"),
        ("http://evil.example/form", "", "/account"),
        ("http://localhost/transfer", "", "/account"),
        ("http://[", "", "/account"),
        ("", "", "/account"),
    ],
)
def test_a_button_of_its_own_leads_back_to_its_page_once_somebody_said_who_he_is(
    app, redis, referrer, page, fresh_page
):
    @app.get("/form")
    @login_required
    def form():
        return render_template("account/base.html")

    @app.post("/transfer")
    @fresh_sign_in_required
    def transfer():
        return "done"

    client = app.test_client()
    sign_up(client)
    with later(redis, 901):
        assert client.post("/transfer", headers={"Referer": referrer}).location == "/auth/fresh"
        assert client.post("/auth/fresh", data={"password": PASSWORD}).location == fresh_page
        assert ("Press the button once more" in client.get("/form").text) == bool(page)
    client.post("/logout")
    answer = client.post("/transfer", headers={"Referer": referrer})
    assert answer.location == (f"/auth?next={quote(page)}" if page else "/auth")


def test_nor_after_a_form_that_its_view_reads_itself(app, redis):
    @app.route("/upload", methods=["GET", "POST"])
    @fresh_sign_in_required
    @own_body(100_000)
    def upload():
        return render_template("account/base.html")

    client = app.test_client()
    sign_up(client)
    with later(redis, 901):
        assert client.post("/upload", data={"title": "May"}).location == "/auth/fresh"
        assert client.post("/auth/fresh", data={"password": PASSWORD}).location == "/upload"
        assert "Press the button once more" not in client.get("/upload").text


def test_after_a_page_that_was_looked_at_no_button_is_to_be_pressed_once_more(client, redis):
    sign_up(client)
    with later(redis, 901):
        assert client.get("/account/password").location == "/auth/fresh"
        assert client.post("/auth/fresh", data={"password": PASSWORD}).location == "/account/password"
        assert "Press the button once more" not in client.get("/account/password").text


@pytest.mark.parametrize(
    "name",
    [
        *("SESSION_COOKIE_SAMESITE", "PERMANENT_SESSION_LIFETIME", "SQLALCHEMY_DATABASE_URI"),
        *("MAX_CONTENT_LENGTH", "MAX_FORM_PARTS", "MAX_FORM_MEMORY_SIZE"),
    ],
)
def test_what_follows_from_settings_of_ours_is_not_given_beside_them(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"{name} is magicauth's to set"):
        create_app({"MAGICAUTH_MODE": "development", name: "x"}, instance_path=str(tmp_path))


def test_its_options_for_the_database_go_beside_ours(make_new_app):
    options = {"pool_size": 3, "hide_parameters": False, "connect_args": {"check_same_thread": False}}
    app = make_new_app(SQLALCHEMY_ENGINE_OPTIONS=options)
    with app.app_context():
        assert db.engine.pool.size() == 3 and db.engine.hide_parameters
    assert app.config["SQLALCHEMY_ENGINE_OPTIONS"]["connect_args"] == {"timeout": 2.0, "check_same_thread": False}
