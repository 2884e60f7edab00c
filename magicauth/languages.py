"""The languages of pages and letters."""

# Code and the language's own name.
LANGUAGES = [("en", "English")]
RIGHT_TO_LEFT = ("ar",)
