"""Reading a zip file that may be damaged, foreign or hostile (specs/checkpoint_format.md, section 2).

Nothing is extracted to disk and nothing is unpickled; whatever is wrong is one ModelFileError sentence.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import ModelFileError

MAX_MEMBER = 4 * 2**30  # bytes of one member, unpacked
MAX_RATIO = 200  # unpacked over packed size; a bundle is stored unpacked, arrays of zeros reach 1000 when packed
MAX_MEMBERS = 1000
UNPICKLING = ('.dill', '.pkl', '.pickle', '.joblib')
MAGIC = {
    b'\x80': 'a pickle',
    b'\x89HDF\r\n\x1a\n': 'an HDF5 file',
    b'\x93NUMPY': 'a NumPy array file',
    b'\x1f\x8b': 'a gzip file',
}
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """The zip file at `path` with every member's name and size checked, before any member is read.

    Raises ModelFileError when it is absent, not a zip, truncated, of a foreign kind, or when a member leaves the
    archive, is named twice, is encrypted or is absurdly large.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelFileError(_why_not_a_file(file))
    try:
        archive = zipfile.ZipFile(file)
    except DAMAGE as error:
        raise ModelFileError(_why_not_a_zip(file, error)) from error
    with archive:
        _check_names(file, archive)
        _check_kind(file, archive.namelist())
        for info in archive.infolist():
            _check_size(file, info)
        yield archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member; raises ModelFileError when it is missing or does not unpack to its declared size."""
    try:
        data = archive.read(name)
    except KeyError as error:
        raise ModelFileError(f"'{archive.filename}' lacks its member '{name}'; copy the bundle again.") from error
    except DAMAGE as error:
        raise ModelFileError(
            f"'{archive.filename}' is damaged: its member '{name}' does not unpack ({error}); copy the bundle again."
        ) from error
    if len(data) != archive.getinfo(name).file_size:
        raise ModelFileError(f"'{archive.filename}' is truncated within its member '{name}'; copy the bundle again.")
    return data


def _why_not_a_file(file: Path) -> str:
    if file.is_dir():
        return f"'{file}' is a folder, not a model bundle; hand in the model.zip in it."
    if file.exists():
        return f"'{file}' is a device or pipe, not a model bundle; hand in a model.zip."
    return f'There is no model bundle {str(file)!r}; check the path.'


def _why_not_a_zip(file: Path, error: Exception) -> str:
    try:
        with file.open('rb') as stream:
            start = stream.read(8)
    except OSError as unreadable:
        return f"The model bundle '{file}' cannot be read ({unreadable}); check its permissions."
    if start.startswith(b'PK'):
        return f"'{file}' is a truncated or damaged zip file ({error}); copy the bundle again."
    kind = next(
        (kind for magic, kind in MAGIC.items() if start.startswith(magic)), 'empty' if not start else 'no zip file'
    )
    return f"'{file}' is {kind}, not a model bundle; hand in the model.zip that training wrote."


def _check_names(file: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if len(names) > MAX_MEMBERS:
        raise ModelFileError(f"'{file}' holds {len(names)} members; a model bundle holds four: hand in the model.zip.")
    for name in names:
        if leaves_archive(name):
            raise ModelFileError(f"'{file}' has a member {name!r} whose path leaves the archive; do not use this file.")
        if names.count(name) > 1:
            raise ModelFileError(f"'{file}' holds its member {name!r} more than once; do not use this file.")


def leaves_archive(name: str) -> bool:
    """Whether a member's name is absolute, climbs out, or means a path on another system."""
    path = PurePosixPath(name)
    return path.is_absolute() or '..' in path.parts or '\\' in name or ':' in name or '\0' in name or not name


def _check_kind(file: Path, names: list[str]) -> None:
    if 'manifest.json' in names:
        return
    if any(PurePosixPath(name).name == 'data.pkl' for name in names):
        raise ModelFileError(
            f"'{file}' is a Lightning or PyTorch checkpoint (training state, for resuming), not a model bundle; "
            'hand in the model.zip that the same training wrote.'
        )
    if pickled := next((name for name in names if name.lower().endswith(UNPICKLING)), None):
        raise ModelFileError(
            f"'{file}' is an archive of the original PtychoPINN (it holds '{pickled}'), which could only be read by "
            'running code from the file; train again with this package and hand in its model.zip.'
        )
    if weights := next((name for name in names if name.lower().endswith(('.h5', '.hdf5', '.keras'))), None):
        raise ModelFileError(
            f"'{file}' is a Keras model (it holds '{weights}' and no manifest.json), not a model bundle; hand in the "
            'model.zip that training with this package wrote.'
        )
    raise ModelFileError(f"'{file}' is a zip file without manifest.json, not a model bundle; hand in the model.zip.")


def _check_size(file: Path, info: zipfile.ZipInfo) -> None:
    name, size, packed = info.filename, info.file_size, info.compress_size
    if size > MAX_MEMBER:
        raise ModelFileError(
            f"'{file}' declares {size} bytes for its member '{name}', more than {MAX_MEMBER}; do not use it."
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ModelFileError(
            f"'{file}' packs or encrypts its member '{name}' in a way that no bundle does; do not use it."
        )
    limit = packed if info.compress_type == zipfile.ZIP_STORED else MAX_RATIO * max(packed, 1)
    if size > limit or packed > file.stat().st_size:
        raise ModelFileError(
            f"'{file}' declares {size} bytes for its member '{name}' of {packed} bytes packed, "
            'an absurd ratio; do not use this file.'
        )
