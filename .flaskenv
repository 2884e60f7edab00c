# What `flask run` on a fresh clone needs to know. Production sets its own environment and does not read this file.
FLASK_APP=wsgi.py
MAGICAUTH_MODE=development
