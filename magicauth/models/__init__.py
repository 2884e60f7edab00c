"""The tables."""

from magicauth.models.user import User, as_json, canonical_for_counting, iso, parse_email

__all__ = ["User", "as_json", "canonical_for_counting", "iso", "parse_email"]
