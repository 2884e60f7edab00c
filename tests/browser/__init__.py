"""Journeys in a real browser. A package, because its modules are named as those are that walk them over HTTP."""
