"""A headless Chromium, asked through its debugging protocol: what it shows of a page, and what its console says."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
PATIENCE = 240.0  # seconds until something is there, on a machine that has other things to do


@dataclass
class Visit:
    """What a page has become: a picture (H, W, 3), the values of expressions, and the errors on its console."""

    picture: NDArray[np.uint8]
    values: list[Any]
    errors: list[str] = field(default_factory=list)


def visit(
    address: str, profile: Path, *, width: int, height: int, dark: bool, ready: str, look: Sequence[str]
) -> Visit:
    """Open a page in a window of this size, wait until the expression `ready` is true, and evaluate those of `look`."""
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0', f'--user-data-dir={profile}']
    with subprocess.Popen([str(BROWSER), *options, 'about:blank'], stderr=subprocess.DEVNULL) as process:
        try:
            return asyncio.run(_visit(address, _find_socket(profile), (width, height), dark, ready, look))
        finally:
            process.kill()


def _find_socket(profile: Path) -> str:
    """Where the browser takes commands: it writes that into its profile once it is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        lines = _read_lines(profile / 'DevToolsActivePort')
        if len(lines) == 2:
            return f'ws://127.0.0.1:{lines[0]}{lines[1]}'
        time.sleep(0.1)
    raise TimeoutError('the browser does not start')


def _read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class _Session:
    """One page of a browser; the errors that its console has told so far."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.errors, self._number, self.name = socket, list[str](), 0, ''

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._number += 1
        session = {'sessionId': self.name} if self.name else {}
        await self.socket.write_message(json.dumps({'id': self._number, 'method': method, 'params': params, **session}))
        while True:
            message = json.loads(await self.socket.read_message())
            if message.get('id') == self._number:
                assert 'error' not in message, message
                return dict(message['result'])
            self._note(message.get('method', ''), message.get('params', {}))

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == 'Runtime.exceptionThrown':
            self.errors.append(str(params['exceptionDetails']))
        elif event == 'Log.entryAdded' and params['entry']['level'] == 'error':
            self.errors.append(f'{params["entry"]["text"]} {params["entry"].get("url", "")}')
        elif event == 'Runtime.consoleAPICalled' and params['type'] == 'error':
            self.errors.append(str(params['args']))

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression on the page."""
        answer = await self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        return answer['result'].get('value')


async def _visit(
    address: str, socket: str, size: tuple[int, int], dark: bool, ready: str, look: Sequence[str]
) -> Visit:
    from tornado.websocket import websocket_connect

    session = _Session(await websocket_connect(socket, max_message_size=2**28))
    target = (await session.call('Target.createTarget', url='about:blank'))['targetId']
    session.name = (await session.call('Target.attachToTarget', targetId=target, flatten=True))['sessionId']
    for domain in ('Page', 'Runtime', 'Log'):
        await session.call(f'{domain}.enable')
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    await session.call('Emulation.setEmulatedMedia', features=[scheme])
    width, height = size
    await session.call(
        'Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False
    )
    await session.call('Page.navigate', url=address)
    end = time.monotonic() + PATIENCE
    while not await session.evaluate(ready):
        if time.monotonic() > end:
            raise TimeoutError(f'{address} is not ready: {session.errors}')
        await asyncio.sleep(0.2)
    values = [await session.evaluate(expression) for expression in look]
    shot = await session.call('Page.captureScreenshot', format='png')
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot['data']))).convert('RGB'))
    return Visit(picture, values, session.errors)
