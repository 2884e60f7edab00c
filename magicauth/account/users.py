"""`/users`: everybody who has an account, for administrators; never a password hash."""

import base64
import binascii
import uuid

from flask import Blueprint, Response
from sqlalchemy import select

from magicauth.errors import N_, Invalid
from magicauth.extensions import db
from magicauth.guards import admin_required
from magicauth.models import User, as_json
from magicauth.reader import read_query
from magicauth.respond import page

PAGE_SIZE = 50
_PAGE_SIZE_MOST = 200

bp = Blueprint("users", __name__)


@bp.get("/users")
@admin_required
def users() -> Response:
    limit = _limit(read_query("limit"))
    after = _after(read_query("after"))
    # By the key that the index has: the last page costs what the first does.
    query = select(User).order_by(User.id).limit(limit + 1)
    found = list(db.session.scalars(query.where(User.id > after) if after else query))
    shown, more = found[:limit], len(found) > limit
    following = f"/users?limit={limit}&after={_cursor(shown[-1].id)}" if more else None
    return page(
        "account/users.html",
        json={"users": [as_json(user) for user in shown], "next": following},
        users=shown,
        next=following,
    )


def _limit(text: str) -> int:
    if not text:
        return PAGE_SIZE
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Invalid(errors={"limit": [N_("Must be a whole number from 1 to 200.")]})
    return min(int(text), _PAGE_SIZE_MOST)


def _after(cursor: str) -> uuid.UUID | None:
    if not cursor:
        return None
    try:
        return uuid.UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error):
        raise Invalid(errors={"after": [N_("Must be what `next` said.")]}) from None


def _cursor(user_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(user_id.bytes).rstrip(b"=").decode()
