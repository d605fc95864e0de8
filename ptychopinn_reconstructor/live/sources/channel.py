"""PV Access: a channel of images (NTNDArray) and one of positions, monitored by pvapy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import BackendError, ScanError
from .source import MOST, Arrival, Source, to_pixels, warn

QUEUE = 1000  # updates that the client keeps of each channel
REQUEST = f'record[queueSize={QUEUE}]field()'
PAUSE = 0.005  # seconds


class Channels(Source):
    """A channel of images, whose `uniqueId` is the index, and one of positions.

    A structure of positions has `index`, `row` and `column`, arrays of the same length, and may have `unit`. Compressed
    images are unpacked by pvapy, which needs its own packages for that.
    """

    def __init__(self, images: str, positions: str | None, pixel_size: float | None = None) -> None:
        try:
            import pvaccess
            from pvapy.utility.adImageUtility import AdImageUtility
        except ImportError as error:
            text = f'A channel of PV Access needs pvapy ({error}); pip install ptychopinn-reconstructor[pva].'
            raise BackendError(text) from error
        if positions is None:
            raise ScanError(f'The channel {images} has images alone; name the channel of the positions (positions=).')
        self.pixel_size, self._reshape = pixel_size, AdImageUtility.reshapeNtNdArray
        self._came: deque[Arrival] = deque()
        self._channels = []
        for name, read in ((images, self._read_image), (positions, self._read_positions)):
            channel = pvaccess.Channel(name)
            channel.subscribe('live', self._listen_with(read))
            channel.startMonitor(REQUEST)
            self._channels.append(channel)

    def _listen_with(self, read: Callable[[Any], Arrival]) -> Callable[[Any], None]:
        """What a thread of pvapy calls with each update, whose values the next update may write over."""

        def listen(update: Any) -> None:
            try:
                self._came.append(read(update))
            except Exception as error:  # of a structure that may be any
                warn(f'An update cannot be read: {error}')

        return listen

    def poll(self, seconds: float) -> list[Arrival]:
        """The updates that have come, up to 64."""
        end = time.monotonic() + seconds
        while not self._came and time.monotonic() < end:
            time.sleep(PAUSE)
        return [self._came.popleft() for _ in range(min(MOST, len(self._came)))]

    def _read_image(self, update: Any) -> Arrival:
        number, image, *_ = self._reshape(update)
        return Arrival(np.array([number], dtype=np.int64), patterns=np.array(image)[None], sent=time.time())

    def _read_positions(self, update: Any) -> Arrival:
        values = update.get()
        places = np.stack([np.asarray(values['row']), np.asarray(values['column'])], axis=1)
        known = to_pixels(places, values.get('unit', 'pixel'), self.pixel_size)
        return Arrival(np.array(values['index'], dtype=np.int64), positions=known, sent=time.time())

    def close(self) -> None:
        """Stop listening."""
        for channel in self._channels:
            channel.stopMonitor()
            channel.unsubscribe('live')
