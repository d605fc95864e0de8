"""Serving a document of Bokeh on this machine alone, until asked to stop."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import ConfigError, OutputError
from ..events import ShouldStop

if TYPE_CHECKING:
    from bokeh.document import Document

HOST = '127.0.0.1'  # nobody else's machine
NAMES = ('localhost', HOST)  # by which it may be asked for; another name is a page of others that asks through us
ASK_SECONDS = 0.2


def check_viewer() -> None:
    """Raise ConfigError, which says how to install it, where Bokeh is missing."""
    if find_spec('bokeh') is None:
        raise ConfigError(
            'The viewer needs bokeh, which is not installed; install it with: '
            "pip install 'ptychopinn-reconstructor[viewer]'."
        )


def serve(
    fill: Callable[[Document], None], port: int, *, announce: Callable[[str], None], should_stop: ShouldStop
) -> None:
    """Serve what `fill` puts into the document of each visitor; `announce` is told the address once.

    Port 0: any that is free. Requests under another name than this machine's, and pages of other origins, are refused.
    Raises OutputError when the port is taken.
    """
    from bokeh.application import Application
    from bokeh.application.handlers import FunctionHandler
    from bokeh.server.server import BaseServer
    from bokeh.server.tornado import BokehTornado
    from bokeh.server.util import bind_sockets
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop, PeriodicCallback
    from tornado.routing import HostMatches, Rule, RuleRouter

    try:
        sockets, bound = bind_sockets(HOST, port)
    except OSError as error:
        raise OutputError(f'The page cannot be served at port {port} ({error.strerror}); choose another.') from error
    loop = IOLoop.current()
    # The origin of the page, which is checked before any data are sent, is one of these addresses or refused.
    pages = BokehTornado(
        {'/': Application(FunctionHandler(fill))}, extra_websocket_origins=[f'{name}:{bound}' for name in NAMES]
    )
    named = HostMatches(f'({"|".join(map(re.escape, NAMES))})$')
    http = HTTPServer(RuleRouter([Rule(named, pages)]))
    http.add_sockets(sockets)
    server = BaseServer(loop, pages, http)
    server.start()
    PeriodicCallback(lambda: loop.stop() if should_stop() else None, 1000 * ASK_SECONDS).start()
    announce(f'http://{NAMES[0]}:{bound}/')
    try:
        loop.start()
    finally:
        server.stop()
        http.stop()
