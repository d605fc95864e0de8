"""Stopping on request: the first Ctrl-C or SIGTERM asks the job to stop cleanly, the second ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import Interrupted
from ..events import ShouldStop
from .app import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = b'\x1b[?25h'  # a progress bar hides it


def watch_parent() -> None:
    """End this process at the end of stdin, which is a pipe of whoever started it: a killed one leaves no orphan."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(INTERRUPTED)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def catch_stop_signals() -> Iterator[ShouldStop]:
    """`should_stop()` for a job that runs in the block; the handlers of before are put back afterwards.

    Raises Interrupted in place of a SystemExit that a framework raises on SIGTERM by itself.
    """
    asked = threading.Event()

    def handler(_: int, __: FrameType | None) -> None:
        if asked.is_set():
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
            os._exit(INTERRUPTED)
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield asked.is_set
    except SystemExit as error:
        if not asked.is_set():
            raise
        raise Interrupted('Stopped on request; what was complete is kept.') from error
    finally:
        for number, old in before.items():
            signal.signal(number, old)
