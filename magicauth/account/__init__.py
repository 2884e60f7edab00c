"""For those signed in: the account blueprint. Every page here is guarded."""

from flask import Blueprint

from magicauth.account import home, users

bp = Blueprint("account", __name__)
for part in (home, users):
    bp.register_blueprint(part.bp)
