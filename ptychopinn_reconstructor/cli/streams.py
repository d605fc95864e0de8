"""Standard streams that a command can rely on, whatever it was started with."""

from __future__ import annotations

import errno
import io
import os
import sys

ANY_NAME = 'backslashreplace'  # of a file: one that is no text is printed nevertheless
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # why a stream takes no more


def prepare_streams() -> None:
    """Open the null device in place of closed standard streams, and let the others print every name of a file.

    The next file that is opened would get the number of a closed stream, and what a library prints would be written
    into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
        stream = getattr(sys, name)
        if stream is None:
            devnull = open(os.devnull, mode, encoding='utf-8', errors=ANY_NAME)  # noqa: SIM115 - closed with the process
            setattr(sys, name, devnull)
        elif mode == 'w' and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ANY_NAME)
