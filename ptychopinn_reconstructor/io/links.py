"""Datasets whose values lie outside of their HDF5 file, or need a compression filter: what of it is missing.

HDF5 fills what a virtual dataset lacks with a constant, and reports a broken link as an absent name; neither may pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ScanError, quote

Open = Callable[[Path], Any]
LARGE = 2**30  # bytes of a dataset from which its declared size is compared with what is stored
MAX_PACKING = 10_000  # times that any filter makes values smaller


def explain_missing(file: Any, key: str, open_file: Open) -> str:
    """One sentence about the broken link on the way to `key`; empty when no link is broken.

    `open_file` opens a linked file for reading.
    """
    import h5py

    group, parts = file, [part for part in key.split('/') if part]
    for i, part in enumerate(parts):
        link = group.get(part, getlink=True) if part in [*group] else None  # plain `in` skips broken links
        rest = '/'.join(parts[i + 1 :])
        if isinstance(link, h5py.ExternalLink):
            return _explain_external(group, part, link, rest, open_file)
        if isinstance(link, h5py.SoftLink):
            target = f'{link.path}/{rest}'.rstrip('/')
            where = file if link.path.startswith('/') else group
            return explain_missing(where, target, open_file) or _sentence(group, part, quote(link.path), 'that name')
        group = group.get(part)
        if not isinstance(group, h5py.Group):
            return ''
    return ''


def _explain_external(group: Any, name: str, link: Any, rest: str, open_file: Open) -> str:
    target, key = _locate(link.filename, group.file), f'{link.path}/{rest}'.rstrip('/')
    if not target.exists():
        return _sentence(group, name, f'{quote(link.path)} of {target}', 'that file')
    with _open_linked(target, group.file, open_file) as other:
        if other.get(key) is not None:  # it opens by itself, so the link fails for the mode it was opened in
            return f'{target} is in use: another program is writing it; try again when it has closed the file.'
        nested = explain_missing(other, key, open_file)
        return nested or _sentence(group, name, f'{quote(link.path)} of {target}', 'that name')


def _open_linked(target: Path, file: Any, open_file: Open) -> Any:
    try:
        return open_file(target)
    except OSError as error:
        raise ScanError(f'{target}, to which {file.filename} links, is damaged ({error}); copy it again.') from error


def _sentence(group: Any, name: str, target: str, what: str) -> str:
    broken = f'{group.file.filename} links {quote(name)} to {target}'
    return f'{broken}, but {what} is not there; copy it there or mend the link.'


def list_candidates(name: str, file: Any) -> list[Path]:
    """Where HDF5 looks for a file named in another one: as it is if absolute, beside that file, in the folder.

    Where an absolute one is not there, the last part of its name is looked for in the others.
    """
    beside = Path(file.filename).parent / name  # an absolute name replaces the folder
    return list(
        dict.fromkeys([beside, Path(file.filename).parent / Path(name).name, Path(name), Path(Path(name).name)])
    )


def _locate(name: str, file: Any) -> Path:
    candidates = list_candidates(name, file)
    return next((path for path in candidates if path.exists()), candidates[0])


def check_storage(dataset: Any, open_file: Open) -> None:
    """Check that all that a dataset consists of is there: filters, sources of a virtual dataset, external storage.

    Raises ScanError that names what is missing.
    """
    where = f'{quote(dataset.name)} of {dataset.file.filename}'
    _check_filters(dataset, where)
    check_raw_storage(dataset, where, complete=True)
    _check_size(dataset, where)
    if dataset.is_virtual:
        _check_sources(dataset, where, open_file)


def check_raw_storage(dataset: Any, where: str, *, complete: bool = False) -> None:
    """Raise ScanError where the raw values of a dataset lie outside of the folder of its file, or in no regular file.

    So any file could be read as patterns. With `complete` also where a raw file is not there, or too short.
    """
    folder = Path(dataset.file.filename).resolve().parent
    for name, offset, size in dataset.external or ():
        path = Path(name)  # HDF5 looks in the working folder, wherever the file lies
        if not path.exists():
            if complete:
                raise ScanError(f'The values of {where} lie in {path.absolute()}, which is not there; copy it there.')
            continue
        if not path.resolve().is_relative_to(folder) or not path.is_file():
            raise ScanError(
                f'The values of {where} lie in {path.absolute()}, which is no file in the folder of the scan; copy it '
                'there, and write the dataset again.'
            )
        wanted = math.prod(dataset.shape) * dataset.dtype.itemsize if len(dataset.external) == 1 else size
        if complete and path.stat().st_size < offset + wanted:
            raise ScanError(
                f'The values of {where} lie in {path.absolute()}, which holds {path.stat().st_size} bytes and not '
                f'{offset + wanted}; copy it again.'
            )


def _check_size(dataset: Any, where: str) -> None:
    """Raise ScanError where a dataset declares far more values than its file can hold, whatever packs them.

    HDF5 makes values up where none were written.
    """
    declared = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    if declared > LARGE and not dataset.is_virtual and not dataset.external:
        stored = dataset.id.get_storage_size()
        if declared > MAX_PACKING * stored:
            raise ScanError(
                f'{where} declares {declared / 2**30:,.1f} GiB of values but holds {stored / 2**20:,.1f} MiB; write it '
                'again with all its values.'
            )


def _check_filters(dataset: Any, where: str) -> None:
    import h5py

    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code, *_ in filters):
        with suppress(ImportError):
            import_module('hdf5plugin')  # imported late, since it loads every filter there is
    for code, _, _, name in filters:
        if not h5py.h5z.filter_avail(code):
            known = name.decode('utf-8', 'replace').split(';')[0]
            raise ScanError(
                f'{where} is compressed by the filter {code} ({known}), which is not installed; '
                'install hdf5plugin, or write the file again with another compression.'
            )


def _check_sources(dataset: Any, where: str, open_file: Open) -> None:
    covered = np.zeros(dataset.shape[:1], bool)
    for source in dataset.virtual_sources():
        _check_source(dataset, where, source, open_file)
        covered[_entries_of(source)] = True
    if not covered.all():
        first = int(np.argmin(covered))
        raise ScanError(
            f'{where} is a virtual dataset in which no file provides {int((~covered).sum())} of its {len(covered)} '
            f'entries (the first is {first}); write it again with all its files.'
        )


def _entries_of(source: Any) -> slice:
    """The entries along the first axis that a source provides; all for one without a limit, which ends with it."""
    try:
        low, high = source.vspace.get_select_bounds()
    except (RuntimeError, ValueError):
        return slice(None)
    return slice(low[0], high[0] + 1)


def _check_source(dataset: Any, where: str, source: Any, open_file: Open) -> None:
    if '%b' in source.file_name:
        return _check_numbered(dataset, where, source)
    if source.file_name == '.':
        return _check_extent(dataset.file.get(source.dset_name), where, source, dataset.file.filename, open_file)
    path = _locate(source.file_name, dataset.file)
    if not path.exists():
        raise ScanError(f'{where} is a virtual dataset that lacks a part: {path} is not there; copy it there.')
    with _open_linked(path, dataset.file, open_file) as other:
        _check_extent(other.get(source.dset_name), where, source, str(path), open_file)


def _check_numbered(dataset: Any, where: str, source: Any) -> None:
    """Files named by their numbers end at the first that is lacking; those behind it would be left out silently."""
    _, steps, *_ = source.vspace.get_regular_hyperslab()
    number = -(-dataset.shape[0] // steps[0])
    lacking = _locate(source.file_name.replace('%b', str(number)), dataset.file)
    begin, _, end = Path(source.file_name).name.partition('%b')
    names = [path.name for path in lacking.parent.glob('*') if path.name.startswith(begin) and path.name.endswith(end)]
    numbers = [name[len(begin) : len(name) - len(end)] for name in names]
    if any(text.isdigit() and int(text) > number for text in numbers):
        raise ScanError(f'{where} is a virtual dataset that lacks a part: {lacking} is not there; copy it there.')


def _check_extent(part: Any, where: str, source: Any, path: str, open_file: Open) -> None:
    limited = _entries_of(source).stop is not None
    wanted = source.src_space.shape if limited else ()  # empty where all of the source is meant
    if part is None or (
        np.less(part.shape, wanted).any() if wanted else limited and part.size < source.vspace.get_select_npoints()
    ):
        held = 'is not there' if part is None else f'holds {part.shape}, less than what is wanted of it'
        raise ScanError(f'{where} is a virtual dataset that lacks a part: {quote(source.dset_name)} of {path} {held}.')
    check_storage(part, open_file)
