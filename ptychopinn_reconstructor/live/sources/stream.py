"""A stream of frames over ZMQ, as Eiger sends them, with positions beside it."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from ...errors import BackendError, PtychoPINNError, ScanError
from .eiger import POSITIONS, Codec
from .source import MOST, Arrival, Source, to_pixels, warn

QUEUE = 1000  # messages that wait here while others are worked on; then the sender waits, or its own queue fills
WARNINGS = 5  # of messages that cannot be read


class Stream(Source):
    """PULL sockets connected to endpoints: `frames`, which may send positions too, and `positions` where there is one.

    Of several series the first is taken; it is over when it ends, or another begins.
    """

    def __init__(self, frames: str, positions: str | None = None, pixel_size: float | None = None) -> None:
        try:
            import zmq
        except ImportError as error:
            text = 'A ZMQ stream needs pyzmq, which is not installed; pip install ptychopinn-reconstructor[live].'
            raise BackendError(text) from error
        self._zmq, self.pixel_size = zmq, pixel_size
        self._context, self._poller = zmq.Context(), zmq.Poller()
        self._sockets = [self._connect(one) for one in dict.fromkeys([frames, positions]) if one is not None]
        self._series: Any = None
        self._codec: Codec | None = None
        self.unreadable = 0

    def _connect(self, endpoint: str) -> Any:
        socket = self._context.socket(self._zmq.PULL)
        socket.setsockopt(self._zmq.RCVHWM, QUEUE)
        try:
            socket.connect(endpoint)
        except self._zmq.ZMQError as error:
            raise ScanError(f'{endpoint} is no endpoint ({error}); pass tcp://HOST:PORT.') from error
        self._poller.register(socket, self._zmq.POLLIN)
        return socket

    def close(self) -> None:
        """Disconnect."""
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()

    def poll(self, seconds: float) -> list[Arrival]:
        """The messages that wait, up to 64 of each endpoint."""
        found: list[Arrival] = []
        for socket, _ in self._poller.poll(round(1000 * seconds)):
            for _ in range(MOST):
                try:
                    parts = socket.recv_multipart(self._zmq.NOBLOCK)
                except self._zmq.Again:
                    break
                found += self._take(parts)
        return found

    def _take(self, parts: list[bytes]) -> list[Arrival]:
        try:
            return self._read(parts)
        except (PtychoPINNError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self.unreadable += 1
            if self.unreadable <= WARNINGS:
                warn(f'A message cannot be read: {error}')
            return []

    def _read(self, parts: list[bytes]) -> list[Arrival]:
        head = json.loads(parts[0])
        kind = head['htype']
        if kind == POSITIONS:
            places = to_pixels(np.array(head['positions']), head.get('unit', 'pixel'), self.pixel_size)
            return [Arrival(np.array(head['index'], dtype=np.int64).ravel(), positions=places, sent=head.get('sent'))]
        if not kind.startswith(('dheader', 'dimage', 'dseries_end')):
            return []
        if self._series is None:
            self._series = head['series']
        if head['series'] != self._series:
            self.over = True
            return []
        if kind.startswith('dimage'):
            return [self._read_image(head, parts)]
        self.over = self.over or kind.startswith('dseries_end')
        return []

    def _read_image(self, head: dict[str, Any], parts: list[bytes]) -> Arrival:
        about = json.loads(parts[1])
        width, height = about['shape']
        wanted = ((height, width), about['type'], about['encoding'])
        if self._codec is None or (self._codec.shape, self._codec.dtype.name, self._codec.encoding) != wanted:
            self._codec = Codec(*wanted)
        frame = self._codec.decode(parts[2])
        sent = json.loads(parts[3]).get('sent') if len(parts) > 3 else None
        return Arrival(np.array([head['frame']], dtype=np.int64), patterns=frame[None], sent=sent or time.time())
