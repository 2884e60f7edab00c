"""For machines and developers: the ops blueprint, and the mailbox that only development has."""

from flask import Blueprint

from magicauth.ops import dev_mailbox, health, metrics

bp = Blueprint("ops", __name__)
for part in (health, metrics):
    bp.register_blueprint(part.bp)

development_bp = dev_mailbox.bp
