"""`/account/export`: everything that is held about one, as JSON."""

from typing import Any

from flask import Blueprint, Response, current_app

from magicauth import audit, sessions
from magicauth.account.activity import event_as_json
from magicauth.account.sessions import session_as_json
from magicauth.guards import current_user, fresh_sign_in_required
from magicauth.models import Action, as_json
from magicauth.respond import json_file, page
from magicauth.sessions import this_session
from magicauth.visitor import visitor

# As many events as a file that a person downloads may hold.
EVENTS = 10_000

bp = Blueprint("export", __name__)


@bp.get("/account/export")
@fresh_sign_in_required
def show() -> Response:
    return page("account/export.html", json={"next": "/account/export.json"})


@bp.get("/account/export.json")
@fresh_sign_in_required
def download() -> Response:
    row = current_user.row
    of_the_site: dict[str, Any] = {}
    for answer in audit.ask(audit.before_export, row):
        of_the_site |= answer or {}
    # What cannot be written is no export, and not recorded as one.
    current_app.json.dumps(of_the_site)
    audit.commit(Action.EXPORTED, visitor(), row)
    live = sessions.listed(row.id.hex, row.session_epoch, this_session())
    return json_file(
        "magicauth-export.json",
        {
            **of_the_site,
            "user": as_json(row)
            | {"language": row.language, "is_admin": row.is_admin, "has_password": row.password_hash is not None},
            "sessions": [session_as_json(one) for one in live],
            "activity": [event_as_json(event) for event in audit.events_of(row.id, None, EVENTS)],
        },
    )
