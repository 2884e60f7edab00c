# What `flask` on a fresh clone needs to know. What the environment says goes before this; gunicorn does not read it.
FLASK_APP=wsgi.py
MAGICAUTH_MODE=development
