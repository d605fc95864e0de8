"""Where patterns and positions of a scan come from while it is taken.

What a transport needs is imported when a source of its kind is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import ConfigError
from .source import Source

STREAM, CHANNEL = ('tcp://', 'ipc://'), 'pva:'


def open_source(
    name: str, *, positions: str | None = None, pixel_size: float | None = None, keys: Mapping[str, str] | None = None
) -> Source:
    """The source of this name: 'tcp://HOST:PORT' of a ZMQ stream, 'pva:CHANNEL', a growing HDF5 file, or a folder.

    `positions` is a further stream or channel, which positions come from; `pixel_size` of an object pixel in meters
    turns positions that are lengths into pixels; `keys` are the datasets of an HDF5 file (see `growing_file`).

    Raises ConfigError when it takes no such argument, ScanError when it cannot be opened.
    """
    if name.startswith((*STREAM, CHANNEL)):
        if keys:
            raise ConfigError(f'{name} has no datasets; leave out the keys {", ".join(keys)}.')
        if name.startswith(STREAM):
            from .stream import Stream

            return Stream(name, positions, pixel_size)
        from .channel import Channels

        second = None if positions is None else positions.removeprefix(CHANNEL)
        return Channels(name.removeprefix(CHANNEL), second, pixel_size)
    if positions is not None:
        raise ConfigError(f'The positions of {name} are beside its patterns; leave out {positions}.')
    path = Path(name)
    if path.is_dir():
        if keys:
            raise ConfigError(f'{name} is a folder, which has no datasets; leave out the keys {", ".join(keys)}.')
        from .folder import Folder

        return Folder(path, pixel_size)
    from .growing_file import GrowingFile

    return GrowingFile(path, pixel_size, keys or {})
