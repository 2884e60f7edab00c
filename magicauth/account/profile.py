"""`/account`: name, phone and language, and the way to everything else."""

from flask import Blueprint, Response

from magicauth import audit, guards, notices
from magicauth.errors import N_, Invalid
from magicauth.extensions import db
from magicauth.flows.sign_up import clean_profile
from magicauth.guards import current_user, login_required
from magicauth.languages import LANGUAGES
from magicauth.models import Action, as_json
from magicauth.reader import is_given, read_text
from magicauth.respond import again, go, page
from magicauth.visitor import visitor

bp = Blueprint("profile", __name__)


@bp.get("/account")
@login_required
def show() -> Response:
    return page("account/profile.html", json={"user": as_json(current_user)})


@bp.post("/account")
@login_required
@again(show)
def save() -> Response:
    row = current_user.row
    # What a program does not send stays as it is.
    typed_phone = _typed("phone", row.phone or "") if is_given("phone") else row.phone or ""
    name, phone, errors = clean_profile(_typed("name", row.name), typed_phone)
    if errors:
        raise Invalid(errors=errors)
    row.name, row.phone, row.language = name, phone or None, _language(row.language)
    if db.session.is_modified(row):
        audit.commit(Action.PROFILE_CHANGED, visitor(), row)
    guards.refresh_facts(row)
    notices.notify(N_("Saved."))
    return go("/account", "Saved.", user=as_json(row))


def _typed(name: str, stored: str) -> str:
    """The field, or what is `stored` where it comes back as the form showed it: nobody changed it here, though another
    browser may have since."""
    typed = read_text(name)
    return stored if is_given(f"shown_{name}") and typed == read_text(f"shown_{name}") else typed


def _language(chosen: str | None) -> str | None:
    code = _typed("language", chosen or "")
    if is_given("language") and not code:
        return None
    return code if code in dict(LANGUAGES) else chosen
