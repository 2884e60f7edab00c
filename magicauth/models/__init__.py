"""The tables."""

from magicauth.models.audit import WORDS, Action, AuditEvent
from magicauth.models.columns import iso
from magicauth.models.user import User, as_json

__all__ = ["WORDS", "Action", "AuditEvent", "User", "as_json", "iso"]
