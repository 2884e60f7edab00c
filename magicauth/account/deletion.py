"""`/account/delete`: deleting the account, for good."""

from flask import Blueprint, Response

from magicauth import guards, notices
from magicauth.flows import deletion
from magicauth.guards import current_user, fresh_sign_in_required
from magicauth.reader import read
from magicauth.respond import again, go, page
from magicauth.visitor import visitor

bp = Blueprint("deletion", __name__)


@bp.get("/account/delete")
@fresh_sign_in_required
def ask() -> Response:
    return page("account/deletion.html")


@bp.post("/account/delete")
@fresh_sign_in_required
@again(ask)
def delete() -> Response:
    row = current_user.row
    deletion.confirm(row, read("email"))
    deletion.delete(row, visitor(), by_owner=True)
    guards.end_session()
    notices.bid_farewell("deleted")
    return go("/auth", "Account deleted.")
