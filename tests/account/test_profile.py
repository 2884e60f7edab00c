"""`/account`: name, phone and language."""

import pytest
from bs4 import BeautifulSoup
from instruments import later
from pages import EMAIL, JSON, PASSWORD, is_signed_in, other_browser, sign_in

from magicauth.models import User


def profile(client):
    return client.get("/account", headers=JSON).get_json()["user"]


def test_the_page_shows_the_profile_and_leads_to_everything_else(ada):
    page = BeautifulSoup(ada.get("/account").text, "html.parser")
    assert page.find("input", {"name": "name"})["value"] == "Ada Lovelace"
    assert EMAIL in page.get_text()
    places = {link["href"] for link in page.find_all("a")}
    rest = ("password", "email", "sessions", "activity", "export", "delete")
    assert places >= {f"/account/{place}" for place in rest}
    assert set(profile(ada)) == {"id", "name", "email", "phone", "created_at", "updated_at"}


def test_what_a_program_does_not_send_stays(app, ada):
    ada.post("/account", data={"name": "Ada", "phone": "+44 20 1", "language": "de"})
    assert ada.post("/account", json={"name": "Ada King"}).get_json()["user"]["phone"] == "+44 20 1"
    assert ada.post("/account", json={"name": "Ada", "language": "xx"}).status_code == 200
    with app.app_context():
        assert User.by_email(EMAIL).language == "de"
    assert ada.post("/account", json={"name": "Ada", "phone": None, "language": ""}).get_json()["user"]["phone"] is None
    with app.app_context():
        assert User.by_email(EMAIL).language is None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stranger_is_sent_to_sign_in_and_back(client, method):
    assert client.open("/account", method=method).location == "/auth?next=/account"
    answer = client.open("/account", method=method, headers=JSON)
    assert (answer.status_code, answer.get_json()["message"]) == (401, "Sign in required.")


def test_what_is_saved_shows_at_once_and_says_so_once(ada):
    before = profile(ada)
    saved = ada.post("/account", data={"name": "  Ada King ", "phone": " +44 20 7946 "})
    assert (saved.status_code, saved.location) == (303, "/account")
    assert "Saved." in ada.get("/account").text
    assert "Saved." not in ada.get("/account").text
    after = profile(ada)
    assert (after["name"], after["phone"]) == ("Ada King", "+44 20 7946")
    assert after["updated_at"] > before["updated_at"] and after["created_at"] == before["created_at"]
    assert "Hello, Ada King" in ada.get("/home").text


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("(555) 123-4567", "(555) 123-4567"),
        ("+1 (555) 123-4567", "+1 (555) 123-4567"),
        ("+(49) 30/1234", "+(49) 30/1234"),
        ("+ 49 30 1234", "+ 49 30 1234"),
        ("\u200e030\u30001234\ufeff", "030 1234"),
        ("030\u22121234", "030-1234"),
        ("\u202a+49\u00a030\u202f1234\u202c", "+49 30 1234"),
        ("555\u2013123\u20114567", "555-123-4567"),
    ],
)
def test_a_phone_may_be_written_as_people_and_their_address_books_write_it(ada, typed, kept):
    assert ada.post("/account", json={"name": "Ada", "phone": typed}).get_json()["user"]["phone"] == kept


def test_as_json_the_answer_carries_the_user(ada):
    answer = ada.post("/account", json={"name": "Ada King", "phone": None})
    assert (answer.status_code, answer.get_json()["message"]) == (200, "Saved.")
    assert answer.get_json()["user"] == profile(ada)
    assert answer.get_json()["user"]["name"] == "Ada King"


def test_a_phone_that_is_left_out_is_removed(ada):
    ada.post("/account", data={"name": "Ada", "phone": "+1 555"})
    ada.post("/account", data={"name": "Ada", "phone": ""})
    assert profile(ada)["phone"] is None


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "Ada\nBcc: eve@example.org"}, "name"),
        ({"name": "Ada\u202egro.live"}, "name"),
        ({"name": "Ada", "phone": "call me"}, "phone"),
        ({"name": "Ada", "phone": "1" * 33}, "phone"),
        ({"name": ["Ada"]}, "name"),
        ({"name": "Ada", "phone": 5}, "phone"),
        ({"name": "Ada", "phone": "5", "language": True}, "language"),
    ],
)
def test_a_bad_form_changes_nothing(ada, form, field):
    before = profile(ada)
    answer = ada.post("/account", json=form)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (400, [field])
    assert profile(ada) == before


def test_a_bad_form_keeps_what_was_typed(ada):
    page = ada.post("/account", data={"name": "Ada King", "phone": "call me"})
    assert page.status_code == 400
    fields = BeautifulSoup(page.text, "html.parser")
    assert fields.find("input", {"name": "name"})["value"] == "Ada King"
    assert fields.find("input", {"name": "phone"})["value"] == "call me"
    assert fields.find(id="phone-error")


def test_a_name_of_markup_is_shown_as_text(ada):
    ada.post("/account", data={"name": "<script>alert(1)</script>"})
    for path in ("/account", "/home"):
        assert "<script>alert" not in ada.get(path).text


def test_a_form_cannot_change_what_it_has_no_field_for(app, ada):
    before = profile(ada)
    extra = {
        "email": "eve@example.org",
        "is_admin": "true",
        "id": "0",
        "password": "eve's own pass phrase",
        "disabled": "1",
    }
    assert ada.post("/account", data={"name": "Ada", **extra}).status_code == 303
    assert (profile(ada)["id"], profile(ada)["email"]) == (before["id"], EMAIL)
    with app.app_context():
        user = User.by_email(EMAIL)
        assert (user.is_admin, user.disabled) == (False, False)
    assert sign_in(other_browser(ada), password=PASSWORD).location == "/home"


@pytest.mark.parametrize(("picked", "kept"), [("en", "en"), ("", None), ("xx", None), ("../en", None)])
def test_only_a_language_that_there_is_can_be_chosen(ada, picked, kept):
    ada.post("/account", data={"name": "Ada", "language": picked})
    assert ada.get("/account/export.json").get_json()["user"]["language"] == kept


def test_another_browser_shows_the_new_name_within_a_minute(ada, redis):
    phone = other_browser(ada)
    sign_in(phone)
    ada.post("/account", data={"name": "Ada King"})
    with later(redis, 61):
        assert phone.get("/home", headers=JSON).get_json()["user"]["name"] == "Ada King"
        assert is_signed_in(ada)


@pytest.mark.parametrize("name", ["\u200b", "\u200d\u2060", "\u00ad", "\u2800", "\u3164"])
def test_a_name_that_nobody_can_see_is_no_name(ada, name):
    answer = ada.post("/account", json={"name": name})
    assert (answer.status_code, answer.get_json()["errors"]["name"]) == (400, ["Name required."])


def test_saving_what_is_there_already_is_no_event(ada):
    before = ada.get("/account/activity", headers=JSON).get_json()["events"]
    assert ada.post("/account", data={"name": "Ada Lovelace", "phone": ""}).location == "/account"
    assert ada.get("/account/activity", headers=JSON).get_json()["events"] == before


def test_the_form_changes_only_what_was_typed_though_another_browser_has_saved_the_rest(ada):
    phone = other_browser(ada)
    sign_in(phone)
    ada.post("/account", data={"name": "Ada King", "language": "de"})
    fields = BeautifulSoup(phone.get("/account").text, "html.parser").select("form[action='/account'] input")
    form = {field["name"]: field.get("value", "") for field in fields} | {"language": ""}
    assert form["name"] == "Ada Lovelace"
    phone.post("/account", data=form | {"phone": "+44 20 7946 0958"})
    assert (profile(phone)["name"], profile(phone)["phone"]) == ("Ada King", "+44 20 7946 0958")
    assert "Telefon" in phone.get("/account").text
    # What is typed counts, be it what stood there before; and a program says what it means.
    ada.post("/account", data=form | {"shown_name": "Ada King"})
    assert profile(ada)["name"] == "Ada Lovelace"
    phone.post("/account", json={"name": "Ada King"})
    assert profile(phone)["name"] == "Ada King"
