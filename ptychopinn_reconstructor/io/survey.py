"""What an HDF5 file leads to, looked at before any of its values are read (specs/security.md).

A file may name others: by links, as sources of virtual datasets, as external storage. HDF5 opens whatever stands there:
a pipe, for ever; a virtual dataset that is its own source, until the process crashes; any file as raw values. Followed
are links and virtual datasets into other HDF5 files, wherever they are, and raw storage in the file's own folder.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ScanError, quote
from .links import Open, check_raw_storage, list_candidates

Node = tuple[int, int]  # number of an open file and address of an object in it, whatever name it is reached by
MAX_NUMBERED = 100_000  # files of a virtual dataset whose sources are told apart by their numbers


@dataclass
class _Survey:
    """Walks through files and their virtual datasets; each only once."""

    open_file: Open
    files: dict[Path, Any] = field(default_factory=dict)
    safe: set[Node] = field(default_factory=set)

    def open(self, path: Path) -> Any | None:
        """An HDF5 file by its real path, opened once; None where it cannot be opened, which is told when it is used."""
        if path not in self.files:
            try:
                self.files[path] = self.open_file(path)
            except (OSError, ScanError):
                self.files[path] = None
        return self.files[path]

    def walk(self, file: Any) -> None:
        """Look at all links and datasets of an open file, and of the files that they lead to."""
        import h5py

        links: list[tuple[str, Any]] = []  # an exception in h5py's visits would not arrive as itself
        datasets: list[str] = []

        def keep_link(name: str, link: Any) -> None:
            if isinstance(link, h5py.ExternalLink):
                links.append((name, link))

        def keep_dataset(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                datasets.append(name)

        file.visititems_links(keep_link)
        file.visititems(keep_dataset)
        for name, link in links:
            self.enter(list_candidates(link.filename, file), f'{_name(file)} links {quote(name)} to')
        for name in datasets:
            self.check(file[name], ())

    def enter(self, candidates: list[Path], what: str) -> Any | None:
        """The open file of the first of some paths, looked at; None where there is none."""
        for path in candidates:
            if not path.exists():
                continue
            if not stat.S_ISREG(path.stat().st_mode):
                raise ScanError(f'{what} {path}, which is no regular file but a folder, pipe or device; mend the link.')
            real = path.resolve()
            new = real not in self.files
            file = self.open(real)
            if new and file is not None:
                self.walk(file)
            return file
        return None

    def check(self, dataset: Any, ancestors: tuple[Node, ...]) -> None:
        """Raise ScanError where a dataset is its own source, or one that no file may have."""
        node = _node(dataset)
        where = f'{quote(dataset.name)} of {_name(dataset.file)}'
        if node in ancestors:
            raise ScanError(f'{where} is a virtual dataset that is made of itself; write it again with its own parts.')
        if node in self.safe:
            return
        check_raw_storage(dataset, where)
        if dataset.is_virtual:
            for part in self.find_sources(dataset, where):
                self.check(part, (*ancestors, node))
        self.safe.add(node)

    def find_sources(self, dataset: Any, where: str) -> Iterator[Any]:
        """The datasets that a virtual one is made of, of those that are there."""
        import h5py

        for file_name, key in sorted({(s.file_name, s.dset_name) for s in dataset.virtual_sources()}):
            for number in range(MAX_NUMBERED) if '%b' in file_name + key else range(1):
                name, part_key = (text.replace('%b', str(number)) for text in (file_name, key))
                other = dataset.file
                if name != '.':
                    other = self.enter(list_candidates(name, other), f'{where} is a virtual dataset made of')
                part = None if other is None else other.get(part_key)
                if isinstance(part, h5py.Dataset):
                    yield part
                else:
                    break


def survey_file(file: Any, open_file: Open) -> list[Path]:
    """Real paths of the other files that an open file leads to.

    Raises ScanError where it leads to what is no regular file, to raw storage outside of its folder, or in a circle.
    """
    path = Path(file.filename).resolve()
    survey = _Survey(open_file, {path: file})
    try:
        survey.walk(file)
        return [other for other, opened in survey.files.items() if other != path and opened is not None]
    finally:
        for other, opened in survey.files.items():
            if other != path and opened is not None:
                opened.close()


def _node(dataset: Any) -> Node:
    import h5py

    info = h5py.h5o.get_info(dataset.id)
    return int(info.fileno), int(info.addr)


def _name(file: Any) -> str:
    return str(file.filename)
