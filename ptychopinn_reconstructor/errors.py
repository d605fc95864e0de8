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
    """Root of every error this package raises on purpose.

    By itself: a list of scans or jobs of which some have failed; the sentence names the first, and what went wrong
    with it. Whoever calls this package catches this class to catch all of them.
    """

    exit_code = 1

    def __init__(self, message: str = '') -> None:
        super().__init__(message if len(message) <= MAX_MESSAGE else shorten(message, MAX_MESSAGE))


class InputError(PtychoPINNError):
    """Something handed in by the user is unusable.

    By itself: what no kind below names, such as two scans that would be written to one folder.
    """

    exit_code = 2


class ScanError(InputError):
    """A scan, probe or object file or array does not fulfill the data contract.

    The file is not there, is damaged or still written, lacks a key, or holds what cannot be: negative counts, positions
    in another unit, a mask that hides the beam, an array of another shape. The sentence names file or key, the value
    seen and the remedy; docs/how-to/files.md says what each kind of file must hold, docs/how-to/faults.md what is
    behind a value that looks wrong.
    """


class SeveralScansError(ScanError):
    """A file holds several scans, told apart by the numbers `indexes`, and none was chosen.

    Commands take each of them in turn; in Python pass `scan_index`, or read all with `io.read_scans`. Where the numbers
    mean something else, `as_is` takes the file for one scan.
    """

    def __init__(self, message: str, indexes: tuple[int, ...]) -> None:
        super().__init__(message)
        self.indexes = indexes


class ConfigError(InputError):
    """A configuration value or combination is unknown, out of range or not supported.

    A name that is mistyped, a value of the wrong kind, or a setting that has no effect with the others, which is
    refused rather than ignored. specs/settings.md lists all with their defaults and where they apply; `--print-config`
    prints what a command would use.
    """


class ModelFileError(InputError):
    """A model file or checkpoint cannot be opened, or does not fit the data.

    It is no model, damaged, of a later version, or made for patterns of another size; or a training is to be resumed
    where there is none. `ptychopinn inspect MODEL` shows what a model holds. A damaged file is never used in part: take
    another copy, or the last checkpoint of its training (`--resume`).
    """


class BackendError(InputError):
    """The selected backend is unknown or not installed.

    The sentence has the line for pip, and the backends that are installed; `ptychopinn doctor` lists them with their
    devices. Another one is never taken in its place.
    """


class DeviceError(InputError):
    """The selected device is not there.

    The sentence names those that are. A GPU that is missing is one that the framework does not see: its build is for
    CPUs, or the driver does not fit it.
    """


class OutputError(InputError):
    """An output file or folder cannot be written.

    No permission, no space, a folder that holds another training, a disk that is gone. What was there before is as it
    was: files are written under another name, and renamed when they are complete.
    """


class TrainingError(PtychoPINNError):
    """Training failed, on a loss that is not finite.

    A learning rate that is too high, or patterns that hold something else than counts. The last good checkpoint is
    kept, and `--resume` goes on from it, with a smaller `--learning-rate`.
    """


class VerificationError(PtychoPINNError):
    """A model's self-test does not reproduce its recorded output.

    The network computes something else here than where it was trained: a faulty framework or device, or a file that was
    changed. Do not use its results; try `--device cpu`, and another backend.
    """


class VerdictError(PtychoPINNError):
    """A result is bad, and no bad one was wanted; its files are written.

    Only with `--strict`. docs/how-to/read-the-verdict.md says what follows from each reason.
    """

    exit_code = 3


class Interrupted(PtychoPINNError):
    """The job was stopped on request; what it had written is complete and resumes.

    By Ctrl-C, SIGTERM or the Stop of a window. The sentence has the command that goes on.
    """

    exit_code = 130
