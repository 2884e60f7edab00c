"""Journeys in a real browser. A package, because its modules are named after the journeys that others walk over HTTP."""
