"""Bodies that do not end as they said: chunks that cannot be read, too many of them, a connection that broke."""

import io
import threading
from typing import Any

import httpx
import pytest
from flask import request
from flask.views import MethodView
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.unreader import IterUnreader
from pages import JSON, other_browser
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from magicauth import login_required, own_body
from magicauth.testing import sign_in

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
LIMIT = 64 * 1024
UNREADABLE = {
    "no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "longer than it says": b"5\r\nhelloXX0\r\n\r\n",
    "empty": b"\r\n\r\n",
}


def as_gunicorn_hands_it_over(client: Any, stream: Any, content_type: str, **environ: str) -> TestResponse:
    """Posts a body as gunicorn passes on every body: it alone knows where it ends."""
    overrides = {"wsgi.input": stream, "wsgi.input_terminated": True, **environ}
    return client.post("/auth", content_type=content_type, headers=JSON, environ_overrides=overrides)


def in_chunks(client: Any, body: bytes, content_type: str) -> TestResponse:
    """Posts what gunicorn makes of this chunked body."""
    stream = Body(ChunkedReader(None, IterUnreader(iter([body]))))
    return as_gunicorn_hands_it_over(client, stream, content_type, HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("content_type", ["application/json", FORM, MULTIPART])
def test_a_chunked_body_over_64_kib_is_refused_and_not_cut_to_size(client, content_type):
    # Cut to size, a form would be acted on without its last fields.
    too_big = chunk(b"email=ada@example.org&x=") + chunk(b"x" * LIMIT) + chunk(b"")
    assert in_chunks(client, too_big, content_type).status_code == 413


def test_a_chunked_body_of_64_kib_is_read(client):
    start = b"email=ada@example.org&x="
    fits = chunk(start) + chunk(b"x" * (LIMIT - len(start))) + chunk(b"")
    assert in_chunks(client, fits, FORM).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", FORM, MULTIPART])
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_chunks_that_cannot_be_read_are_a_bad_request_and_no_error_of_ours(client, caplog, body, content_type):
    assert in_chunks(client, body, content_type).status_code == 400
    assert "Exception on" not in caplog.text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [(FORM, b"email=ada@example.or"), ("application/json", b'{"email": "ada@example.org"}')],
    ids=["form", "json"],
)
def test_a_body_that_broke_off_is_not_acted_on(client, mailbox, content_type, body):
    promised = str(len(body) + 1)
    answer = as_gunicorn_hands_it_over(client, io.BytesIO(body), content_type, CONTENT_LENGTH=promised)
    assert answer.status_code == 400
    assert mailbox.all() == []


def test_a_view_of_a_site_builder_can_read_the_body_too(make_new_app):
    app = make_new_app()

    @app.post("/reports")
    def report():
        return {"form": request.form, "json": request.get_json(silent=True)}

    client = app.test_client()
    assert client.post("/reports", data={"title": "May"}).get_json() == {"form": {"title": "May"}, "json": None}
    assert client.post("/reports", json={"title": "May"}).get_json() == {"form": {}, "json": {"title": "May"}}


@pytest.fixture
def uploads(make_new_app):
    """A client of a site with a view that reads its body itself."""
    app = make_new_app()

    @app.post("/uploads")
    @own_body(max_content_length=200_000)
    @login_required
    def upload():
        if request.args:
            return {"stream": len(request.stream.read())}
        files = [len(file.read()) for file in request.files.values()]
        return {"files": files, "tags": request.form.getlist("tag"), "bytes": len(request.get_data())}

    client = app.test_client()
    sign_in(client)
    return client


def test_a_method_of_a_class_may_read_its_body_itself(make_new_app):
    class Hook(MethodView):
        @own_body(max_content_length=200_000)
        def post(self):
            return request.get_json()

        def put(self):
            return request.get_json()

    app = make_new_app()
    app.add_url_rule("/hook", view_func=Hook.as_view("hook"))
    client = app.test_client()
    assert client.post("/hook", json=[1, 2]).get_json() == [1, 2]
    assert client.put("/hook", json=[1, 2]).status_code == 400


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"data": {"a": (io.BytesIO(b"x" * 150_000), "a.png"), "tag": ["a", "b"]}}, ([150_000], ["a", "b"], 0)),
        ({"data": {"tag": ["a", "b"]}}, ([], ["a", "b"], 0)),
        ({"data": {"tag": "x" * 150_000}, "content_type": "multipart/form-data"}, ([], ["x" * 150_000], 0)),
        ({"data": {f"{number}": (io.BytesIO(b"x"), "x.txt") for number in range(150)}}, ([1] * 150, [], 0)),
        ({"data": b"x" * 200_000, "content_type": "text/csv"}, ([], [], 200_000)),
        ({"json": [1, 2]}, ([], [], 6)),
    ],
    ids=["a file and a list", "a list", "a long text", "many parts", "bytes", "JSON that is no object"],
)
def test_a_view_may_read_its_body_itself(uploads, sent, read):
    answer = uploads.post("/uploads", **sent)
    assert answer.status_code == 200
    assert tuple(answer.get_json().values()) == read


def test_it_is_guarded_and_bounded_as_any_other(uploads):
    assert uploads.post("/uploads", data=b"x" * 200_001).status_code == 413
    foreign = {"Origin": "https://evil.example"}
    assert uploads.post("/uploads", data=b"x", headers=foreign).status_code == 403
    assert other_browser(uploads).post("/uploads", data=b"x", headers=JSON).status_code == 401


@pytest.mark.parametrize("path", ["/uploads", "/uploads?stream=1"])
def test_it_may_come_in_chunks_or_break_off_as_any_other(uploads, path):
    for size, status in ((200_000, 200), (200_001, 413)):
        stream = Body(ChunkedReader(None, IterUnreader(iter([chunk(b"x" * size) + chunk(b"")]))))
        overrides = {"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
        answer = uploads.post(path, content_type="text/csv", environ_overrides=overrides)
        assert answer.status_code == status
        assert status != 200 or size in answer.get_json().values()
    for announced, status in (("7", 200), ("500", 400)):
        overrides = {"wsgi.input": io.BytesIO(b"tag=abc"), "wsgi.input_terminated": True, "CONTENT_LENGTH": announced}
        assert uploads.post(path, content_type=FORM, environ_overrides=overrides).status_code == status


def test_developments_server_refuses_a_body_that_is_too_large_at_once(app):
    # It leaves the end of a body to us: reading on would wait for ever.
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        answer = httpx.post(f"http://127.0.0.1:{server.port}/auth", content=b"x" * 70_000, headers=JSON, timeout=10)
        assert answer.status_code == 413
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
