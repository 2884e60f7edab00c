"""Stylesheet, script and pictures: served beside the app, compressed, without a session or a Redis command."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whitenoise import WhiteNoise
from whitenoise.compress import Compressor

# Seconds; their addresses carry a hash of what is in them (theme.py).
ASSET_LIFE = 365 * 86_400
_SOURCE = Path(__file__).parent / "static"


class _Files(WhiteNoise):  # type: ignore[misc]
    """Files with our headers on every answer: WhiteNoise's own hook leaves out those that refuse (405, 416)."""

    def __init__(
        self, *arguments: Any, our_headers: list[tuple[str, str]], is_own_host: Callable[[Any], bool], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._our_headers = our_headers
        self._is_own_host = is_own_host

    def serve(self, static_file: Any, environ: Any, start_response: Callable[..., Any]) -> Any:
        """The answer with the file; under another's name the app's, which refuses."""
        if not self._is_own_host(environ):
            return self.application(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            return start_response(status, headers + self._our_headers)

        return super().serve(static_file, environ, start)


def serve(
    wsgi_app: Callable[..., Any],
    instance: Path,
    our_headers: list[tuple[str, str]],
    is_own_host: Callable[[Any], bool],
) -> WhiteNoise:
    """The WSGI app with `/static/` in front of it. Compressed copies lie in the folder `instance`; where they cannot
    be the files go out as they are, and a proxy may compress them."""
    try:
        root = _compressed(instance)
    except OSError:
        root = _SOURCE
    return _Files(
        wsgi_app,
        root=root,
        prefix="static/",
        max_age=ASSET_LIFE,
        allow_all_origins=False,
        our_headers=our_headers,
        is_own_host=is_own_host,
    )


def _compressed(instance: Path) -> Path:
    paths = sorted(_SOURCE.iterdir())
    folder = instance / f"static-{hashlib.sha256(b''.join(path.read_bytes() for path in paths)).hexdigest()[:12]}"
    if not folder.is_dir():
        _compress(paths, instance, folder)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise PermissionError(folder)
    return folder


def _compress(paths: list[Path], instance: Path, folder: Path) -> None:
    instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".static-", dir=instance))
    compressor = Compressor(use_brotli=False, quiet=True)
    for path in paths:
        copy = shutil.copy(path, draft)
        if compressor.should_compress(path.name):
            list(compressor.compress(str(copy)))
    # Made by root, who ran a command, it is read by the site's own user.
    draft.chmod(0o755)
    for path in draft.iterdir():
        path.chmod(0o644)
    # Renamed when it is whole: another process that starts now sees all of it or nothing.
    with contextlib.suppress(OSError):
        draft.rename(folder)
    shutil.rmtree(draft, ignore_errors=True)
