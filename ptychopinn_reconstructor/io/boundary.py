"""The boundary of every reader: whatever goes wrong inside it becomes the reader's own error, one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, PtychoPINNError, ScanError, shorten

REMEDY = 'copy or write it again'


@contextmanager
def bound_errors(
    path: str | Path, kind: type[InputError] = ScanError, *, what: str = '', remedy: str = REMEDY
) -> Iterator[None]:
    """A block that reads the file at `path`, in which any exception is turned into `kind`.

    Files of others bring libraries to exceptions that nobody foresees. Our own errors pass, and a package that is not
    installed is not the file's fault.
    """
    name = what or str(path)
    try:
        yield
    except (PtychoPINNError, ImportError):
        raise
    except MemoryError as error:
        raise kind(f'{name} does not fit into memory ({shorten(error) or "MemoryError"}); {remedy}.') from error
    except OSError as error:
        reason = error.strerror or shorten(error, 160)
        raise kind(f'{name} cannot be read ({reason}); check the path and its permissions, or {remedy}.') from error
    except Exception as error:
        raise kind(f'{name} is damaged ({type(error).__name__}: {shorten(error, 160)}); {remedy}.') from error
