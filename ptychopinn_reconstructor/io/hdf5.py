"""Opening HDF5 files and reading their datasets and attributes; failures become a ScanError of one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import PtychoPINNError, ScanError, quote, shorten
from .files import detect_file_kind
from .links import check_storage, explain_missing
from .memory import require_memory
from .survey import survey_file

Layout = Literal['ptychodus', 'cxi', 'ptypy']


def open_file(path: Path, **access: Any) -> Any:
    """An HDF5 file open for reading, also while a SWMR writer appends to it; `access` as for h5py.File.

    Raises ScanError when another program is writing it, OSError when it is damaged.
    """
    import h5py

    real = path.resolve()  # HDF5 looks for linked files beside a symbolic link otherwise, where they are not
    settings = {'locking': 'best-effort', **access}  # some network file systems know no locks
    try:
        return h5py.File(real, 'r', **settings)
    except OSError as error:
        said = str(error)
    if 'already open for write' in said:
        try:  # second, since a file without a writer cannot be opened in this way
            return h5py.File(real, 'r', swmr=True, libver='latest', **settings)
        except OSError as error:
            raise ScanError(
                f'{path} is in use: another program is writing it, or has ended before it closed the file; wait, '
                f'or run h5clear -s {path.name} when no program writes it any more.'
            ) from error
    if 'lock file' in said:
        raise ScanError(f'{path} is in use: another program is writing it; try again when it has closed the file.')
    raise OSError(said)


@contextmanager
def open_hdf5(path: Path, what: str, *keys: str) -> Iterator[Any]:
    """An HDF5 file that holds the datasets `keys`, complete and with filters that are installed.

    Raises ScanError when it is in use, damaged, lacks a dataset or a file that one is linked to, or leads to what may
    not be read (see `survey_file`).
    """
    if detect_file_kind(path) != 'hdf5':
        raise ScanError(f'{path} is not an HDF5 file; pass a {what}.')
    try:
        with open_file(path) as file:
            survey_file(file, open_file)
            for key in keys:
                find_dataset(path, file, key, what)
            yield file
    except (PtychoPINNError, ImportError):
        raise
    except Exception as error:
        raise ScanError(
            f'{path} is damaged or not a {what} ({shorten(error, 160)}); copy or write it again.'
        ) from error


def list_outside(path: Path) -> list[Path]:
    """The files outside of the folder of an HDF5 file that it leads to."""
    with open_file(path) as file:
        others = survey_file(file, open_file)
    return [other for other in others if not other.is_relative_to(path.resolve().parent)]


def detect_layout(path: Path) -> Layout:
    """Whose file of a scan an HDF5 file is, by the names in it.

    Raises ScanError with the names it holds when it is none that is read.
    """
    with open_hdf5(path, 'scan file') as file:
        names = {*file}
        if 'patterns' in names or {'object', 'probe'} <= names:
            return 'ptychodus'
        if {'chunks', 'meta'} <= names:
            return 'ptypy'
        if _looks_like_cxi(file):
            return 'cxi'
        held = shorten(', '.join(sorted(names)), 300) or 'nothing'
        raise ScanError(
            f'{path} is no scan file: it holds {held}, but neither patterns '
            '(Ptychodus), entry_1 (CXI) nor chunks and meta (PtyPy); write one of these, or an NPZ file.'
        )


def is_cxi(path: Path) -> bool:
    """Whether an HDF5 file is laid out as CXI."""
    with open_hdf5(path, 'probe or object file') as file:
        return _looks_like_cxi(file)


def _looks_like_cxi(file: Any) -> bool:
    return 'cxi_version' in file or find_entry(file) is not None


def holds_object_alone(path: Path) -> bool:
    """Whether a file is an HDF5 file with an object and without patterns, such as a product of Ptychodus."""
    if not path.is_file() or detect_file_kind(path) != 'hdf5':
        return False
    with open_hdf5(path, 'scan or product') as file:
        return 'object' in file and 'patterns' not in [*file]


def find_entry(file: Any) -> str | None:
    """The name of the first CXI entry of an open file; None when it holds none."""
    import h5py

    groups = sorted(name for name in [*file] if isinstance(file.get(name), h5py.Group))
    by_name = [name for name in groups if re.fullmatch(r'entry_\d+', name)]
    by_definition = [name for name in groups if is_ptychography(file[name])]
    return next(iter([*by_name, *by_definition]), None)


def is_ptychography(entry: Any) -> bool:
    """Whether an entry says that it follows the NeXus definition of ptychography."""
    definition = entry.get('definition')
    return hasattr(definition, 'shape') and 'ptycho' in decode_text(np.ravel(definition[()])[0]).lower()


def find_dataset(path: Path, file: Any, key: str, what: str) -> Any:
    """The dataset `key` of an open file, all of whose parts can be read; ScanError with what is missing otherwise."""
    import h5py

    dataset = file.get(key)
    if dataset is None and (broken := explain_missing(file, key, open_file)):
        raise ScanError(broken)
    if not isinstance(dataset, h5py.Dataset):
        held = shorten(', '.join(file.keys()), 300) or 'none'
        raise ScanError(f'{path} is not a {what}: it has no dataset {quote(key)} (it holds: {held}).')
    check_storage(dataset, open_file)
    return dataset


def read_whole(dataset: Any) -> Any:
    """All values of a dataset; ScanError with the numbers where they need more memory than is available."""
    require_memory(
        (dataset.size or 0) * dataset.dtype.itemsize,
        f'{quote(dataset.name)} of {dataset.file.filename}',
        'copy or write it again if it should be smaller, or use a larger machine',
    )
    return dataset[()]


def read_pixel_size(path: Path, attributes: Mapping[str, Any], what: str) -> NDArray[np.float64]:
    """(height, width) in meters of the pixels of the dataset `what` with these attributes."""
    size = np.array([read_number(path, attributes, f'pixel_{side}_m') for side in ('height', 'width')])
    if not (size > 0).all():
        raise ScanError(f'The {what} of {path} has pixels of {size[0]:g} x {size[1]:g} m; both must be positive.')
    return size


def read_number(path: Path, attributes: Mapping[str, Any], key: str) -> float:
    """The value of the attribute `key`, a finite number."""
    value = np.asarray(attributes.get(key, np.nan))
    if value.size != 1 or value.dtype.kind not in 'uif' or not np.isfinite(value).all():
        raise ScanError(f"{path} is no complete Ptychodus product: its attribute '{key}' is missing or not a number.")
    return float(value.item())


def decode_text(value: Any) -> str:
    """An attribute as text, whether stored as text or bytes."""
    return value.decode('utf-8', 'replace') if isinstance(value, bytes) else str(value)
