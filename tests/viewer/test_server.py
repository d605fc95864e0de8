"""`ptychopinn show`: a page for this machine alone, without code from elsewhere, as a browser shows it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsers import BROWSER, visit
from command_line import assert_refused, run
from scans import small_scan

from ptychopinn_reconstructor.io import write_npz, write_product
from ptychopinn_reconstructor.result import Reconstruction

bokeh = pytest.importorskip('bokeh', reason='bokeh, of the extra viewer, is not installed')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan with its object, and a product that is noisier."""
    folder = tmp_path_factory.mktemp('show')
    scan = small_scan()
    write_npz(folder / 'scan.npz', scan)
    write(folder, 0.05)
    return folder


def write(folder: Path, noise: float) -> None:
    scan = small_scan()
    assert scan.object is not None and scan.probe is not None
    random = np.random.default_rng(0).normal(size=(2, *scan.object.shape))
    values = (scan.object * (1 + noise * (random[0] + 1j * random[1]))).astype(np.complex64)
    write_product(folder / 'product.h5', Reconstruction(values, (0.0, 0.0), scan.probe, scan.positions, (2e-8, 2e-8)))


@pytest.fixture(scope='module')
def address(folder: Path) -> Iterator[str]:
    """Where a running viewer says that it is."""
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', 'show', str(folder), str(folder / 'scan.npz')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r'shown at (http://localhost:\d+/) until', process.stdout.readline())
        assert found is not None
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 0


def fetch(address: str, host: str | None = None) -> str:
    request = urllib.request.Request(address, headers={} if host is None else {'Host': host})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return str(answer.read().decode())


def test_the_page_is_for_this_machine_alone(address: str) -> None:
    assert 'All pictures are linked' in fetch(address)
    port = address.rstrip('/').rpartition(':')[2]
    for host in ('elsewhere.example', f'elsewhere.example:{port}', f'localhost.example:{port}'):
        with pytest.raises(urllib.error.HTTPError, match='404'):
            fetch(address, host)


def open_socket(address: str, origin: str) -> str:
    """What a page of this origin gets to hear first."""
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    token = re.search(r'"token":"([^"]+)"', fetch(address))
    assert token is not None
    where = f'{address.replace("http", "ws", 1)}ws'

    async def connect() -> str:
        request = HTTPRequest(where, headers={'Origin': origin}, connect_timeout=300, request_timeout=300)
        socket = await websocket_connect(request, subprotocols=['bokeh', token[1]])
        return str(await socket.read_message())

    return asyncio.run(connect())


def test_pages_of_other_origins_are_refused(address: str) -> None:
    """The data come through a socket: a page of another origin cannot open it, whatever it knows of ours."""
    assert 'ACK' in json.loads(open_socket(address, address.rstrip('/')))['msgtype']
    for origin in ('http://elsewhere.example', 'http://localhost:1', 'null'):
        with pytest.raises(Exception, match='403'):
            open_socket(address, origin)


def test_no_code_comes_from_elsewhere(address: str) -> None:
    page = fetch(address)
    scripts = re.findall(r'<script[^>]*src="([^"]+)"', page)
    assert scripts and all(source.startswith(('static/', '/static/', address)) for source in scripts)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None and page.index('Content-Security-Policy') < page.index('<script')
    named = re.findall(r'(?:ws|http|https)://[^ ;]+', policy[1])
    assert "default-src 'self'" in policy[1] and {*named} == {'ws://localhost:*', 'ws://127.0.0.1:*'}


def test_bad_input_is_refused_in_one_sentence(tmp_path: Path, folder: Path, address: str) -> None:
    assert_refused(run('show', str(tmp_path / 'none.h5')), ('none.h5',))
    port = address.rstrip('/').rpartition(':')[2]
    assert_refused(run('show', str(folder), '--port', port), (port, 'choose another'))


# Drawn, and a moment later: what is laid out in several rounds has come to rest.
READY = (
    'window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle && '
    '(window.since ||= Date.now()) + 1500 < Date.now()'
)
PICTURES = '[...Bokeh.documents[0]._all_models.values()].filter(one => one.frame_height)'
SQUARE = f'{PICTURES}.every(one => one.inner_width === one.frame_width && one.inner_height === one.frame_height)'
WIDE = 'document.documentElement.scrollWidth <= innerWidth'


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='no browser is installed (chromium)')
@pytest.mark.parametrize(('width', 'dark'), [(1400, False), (460, True)])
def test_a_browser_shows_the_results(address: str, tmp_path: Path, width: int, dark: bool) -> None:
    """Without an error on the console, no wider than the window; all pictures have one pair of axes, so that they move
    together."""
    linked = f'new Set({PICTURES}.map(one => one.x_range.id)).size'
    shown = visit(
        address,
        tmp_path,
        width=width,
        height=1300,
        dark=dark,
        ready=READY,
        look=[WIDE, linked, f'{PICTURES}.length', SQUARE],
    )
    assert shown.errors == []
    assert shown.values == [True, 1, 3, True]
    assert (shown.picture.mean() < 110) == dark
    assert len(np.unique(shown.picture.reshape(-1, 3), axis=0)) > 400
