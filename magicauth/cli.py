"""`flask users | sessions | mail | audit | doctor`."""

from flask import Flask


def init_app(app: Flask) -> None:
    """Registers the commands."""
