"""The tables."""

from magicauth.models.audit import WORDS, Action, AuditEvent
from magicauth.models.user import User, as_json, canonical_for_counting, iso, parse_email

__all__ = ["WORDS", "Action", "AuditEvent", "User", "as_json", "canonical_for_counting", "iso", "parse_email"]
