"""Signing in and up: the auth blueprint, one module for each page or step."""

from flask import Blueprint

from magicauth.auth import fresh, link, not_me, password, reset, sign_in, sign_out, sign_up, strength, verify

bp = Blueprint("auth", __name__)
for step in (sign_in, verify, link, password, strength, reset, fresh, not_me, sign_up, sign_out):
    bp.register_blueprint(step.bp)
