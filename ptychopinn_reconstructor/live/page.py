"""A page for the browser of this machine: the object, how far it can be trusted, and how late it is."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Self

from ..display.png import draw_amplitude_phase
from ..errors import OutputError
from .follow import Snapshot

HOST = '127.0.0.1'  # nobody else's machine
NAMES = (HOST, 'localhost')  # by which it may be asked for; another name would be a page of others that asks through us
HTML, JSON, PNG = 'text/html; charset=utf-8', 'application/json', 'image/png'


class Page:
    """Serves what `show` was handed last, at `address`, from threads of its own; port 0: any that is free.

    Raises OutputError when the port is taken.
    """

    def __init__(self, port: int = 0) -> None:
        html = resources.files(__package__).joinpath('page.html').read_bytes()
        self._files: dict[str, tuple[str, bytes]] = {'/': (HTML, html), '/state.json': (JSON, b'{}')}
        files = self._files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition('?')[0]
                host = self.headers.get('Host', HOST).rpartition(':')[0] or self.headers.get('Host', '')
                kind, body = files.get(path, ('', b''))
                if host not in NAMES or not kind:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header('Content-Type', kind)
                self.send_header('Content-Length', str(len(body)))
                self.send_header('Cache-Control', 'no-store')
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except OSError as error:
            raise OutputError(
                f'The page cannot be served at port {port} ({error.strerror}); choose another.'
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What to type into the browser."""
        return f'http://{HOST}:{self._server.server_address[1]}/'

    def show(self, now: Snapshot) -> None:
        """Take what there is now."""
        state = now.to_json()
        if now.overview is not None:
            amplitude, phase = draw_amplitude_phase(now.overview.object, now.overview.covered)
            self._files['/amplitude.png'], self._files['/phase.png'] = (PNG, amplitude), (PNG, phase)
        self._files['/state.json'] = (JSON, json.dumps(state, allow_nan=False).encode())

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
