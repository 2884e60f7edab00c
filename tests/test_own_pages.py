"""What a site's own pages may expect of the app that they are added to."""

import uuid

import pytest
from flask import Blueprint, abort, flash, get_flashed_messages, redirect, render_template_string, session
from flask.testing import FlaskClient
from instruments import later, session_id
from pages import EMAIL, JSON, is_signed_in, other_browser, sign_in, sign_up

from magicauth import create_app, current_user, fresh_sign_in_required, login_required
from magicauth.config import ConfigError
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

    @pages.get("/fragment")
    def fragment():
        return render_template_string("<p>{{ site_name }}</p>")

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


def test_a_misspelt_setting_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"MAGICAUTH_SIGNUP is no setting of ours \(MAGICAUTH_SIGN_UP is meant\?\)\."):
        create_app({"MAGICAUTH_MODE": "development", "MAGICAUTH_SIGNUP": "closed"}, instance_path=str(tmp_path))


def test_a_template_that_shows_no_notice_leaves_it_for_the_page_that_does(client):
    sign_up(client)
    client.post("/account", data={"name": "Ada King"})
    assert client.get("/fragment").text == "<p>magicauth</p>"
    client.open("/account", method="HEAD")
    assert "Saved." in client.get("/account").text
