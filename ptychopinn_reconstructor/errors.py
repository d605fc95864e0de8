"""The exception tree: every error that a user can cause is one sentence with the value seen and the remedy.

`exit_code` is what the command line returns: 2 for bad input, 1 for a failure, 3 for a bad result that was asked to be
good, 130 when interrupted.
"""

import reprlib

MAX_QUOTE = 80  # characters of a value in a message: files of others may hold any
MAX_MESSAGE = 2000  # characters of a message, however many names it lists

_bounded = reprlib.Repr()
_bounded.maxstring = _bounded.maxother = _bounded.maxlong = MAX_QUOTE


def quote(value: object) -> str:
    """A value as messages show it: its repr, the middle left out where it is longer than MAX_QUOTE characters."""
    try:
        return shorten(_bounded.repr(value))
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, and what is nested as deep
        return f'a value of type {type(value).__name__}'


def shorten(value: object, limit: int = MAX_QUOTE) -> str:
    """A value as text on one line, the middle left out where it is longer than `limit` characters."""
    text = str(value)
    if len(text) > limit:
        text = f'{text[: limit * 2 // 3]} ... {text[-(limit - limit * 2 // 3 - 5) :]}'
    return ' '.join(text.split())


class PtychoPINNError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code = 1

    def __init__(self, message: str = '') -> None:
        super().__init__(message if len(message) <= MAX_MESSAGE else shorten(message, MAX_MESSAGE))


class InputError(PtychoPINNError):
    """Something handed in by the user is unusable."""

    exit_code = 2


class ScanError(InputError):
    """A scan, probe or object file or array does not fulfill the data contract."""


class SeveralScansError(ScanError):
    """A file holds several scans, told apart by the numbers `indexes`, and none was chosen."""

    def __init__(self, message: str, indexes: tuple[int, ...]) -> None:
        super().__init__(message)
        self.indexes = indexes


class ConfigError(InputError):
    """A configuration value or combination is unknown, out of range or not supported."""


class ModelFileError(InputError):
    """A model file or checkpoint cannot be opened, or does not fit the data."""


class BackendError(InputError):
    """The selected backend is unknown or not installed."""


class DeviceError(InputError):
    """The selected device is not there."""


class OutputError(InputError):
    """An output file or folder cannot be written."""


class TrainingError(PtychoPINNError):
    """Training failed, for example on a loss that is not finite."""


class VerificationError(PtychoPINNError):
    """A model's self-test does not reproduce its recorded output."""


class VerdictError(PtychoPINNError):
    """A result is bad, and no bad one was wanted; its files are written."""

    exit_code = 3


class Interrupted(PtychoPINNError):
    """The job was stopped on request; what it had written is complete and resumes."""

    exit_code = 130
