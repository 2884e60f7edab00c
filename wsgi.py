"""What WSGI servers and the `flask` command import."""

from magicauth import create_app

app = create_app()
