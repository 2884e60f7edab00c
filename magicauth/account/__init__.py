"""For those signed in: the account blueprint. All is guarded here but the way back from a changed address."""

from flask import Blueprint

from magicauth.account import activity, deletion, email, export, home, password, profile, sessions, users

bp = Blueprint("account", __name__)
for part in (home, profile, password, email, sessions, activity, export, deletion, users):
    bp.register_blueprint(part.bp)
