"""Several scan files in one process, each with a folder of its own; those of a folder as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, Interrupted, PtychoPINNError, ScanError
from ..events import ShouldStop
from ..result import Verdict

SUFFIXES = ('.npz', '.h5', '.hdf5', '.hdf', '.cxi', '.nxs', '.ptyd')
SETTLED = 2.0  # seconds in which a file that arrives must not have grown
POLL = 0.5  # seconds between two looks at a folder


@dataclass(frozen=True)
class Outcome:
    """What is kept of a scan of many: its metrics but for those of each pattern, and its verdict."""

    metrics: Mapping[str, Any]
    verdict: Verdict | None


@dataclass(eq=False)
class Outcomes:
    """Of each file the outcomes of its scans, or the sentence with which it failed."""

    done: dict[Path, list[Outcome]] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    def run(self, files: Iterable[Path], work: Callable[[Path], list[Outcome]]) -> None:
        """Do the work for each file; one that fails leaves the others, a stop ends all."""
        for file in files:
            try:
                self.done[file] = work(file)
            except Interrupted as error:
                count = len(self.done)
                raise Interrupted(f'{error} Of {count} scans before, the results are written.') from error
            except PtychoPINNError as error:
                self.failed[file] = str(error)

    @property
    def verdicts(self) -> list[Verdict | None]:
        """Those of all results."""
        return [outcome.verdict for outcomes in self.done.values() for outcome in outcomes]

    def collect(self) -> dict[str, Any]:
        """metrics.json of all: `scans` by their files, `failed` with a sentence each."""
        scans = {str(file): [outcome.metrics for outcome in outcomes] for file, outcomes in self.done.items()}
        return {'scans': scans, 'failed': {str(file): error for file, error in self.failed.items()}}

    def format(self) -> Iterator[str]:
        """A line for each scan."""
        for file, outcomes in self.done.items():
            for outcome in outcomes:
                word = 'not judged' if outcome.verdict is None else outcome.verdict.word
                yield f'{file}: residual {outcome.metrics["residual"]:.4g}, {word}'
        for file, error in self.failed.items():
            yield f'{file}: failed: {error}'

    def refuse_failed(self) -> None:
        """PtychoPINNError where files have failed."""
        if self.failed:
            file, error = next(iter(self.failed.items()))
            total = len(self.done) + len(self.failed)
            raise PtychoPINNError(f'{len(self.failed)} of {total} scans failed, the first ({file}) with: {error}')


def name_folders(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """A folder within `folder` for each file, of its name; InputError where two are called alike."""
    found: dict[Path, Path] = {}
    for file in files:
        name = folder / file.stem
        if name in found.values():
            first = next(other for other, taken in found.items() if taken == name)
            raise InputError(f'{first} and {file} would both be written to {name}; give them to two commands.')
        found[file] = name
    return found


def watch_folder(folder: Path, results: Path, should_stop: ShouldStop) -> Iterator[Path]:
    """Scan files of a folder, oldest first, then those that arrive, once they do not grow; until asked to stop.

    Left out are those with metrics in a folder of their name in `results`, written since. ScanError when `folder` is
    no folder.
    """
    if not folder.is_dir():
        raise ScanError(f'{folder} is no folder; name the one in which scan files arrive.')
    told: dict[Path, tuple[int, int]] = {}  # size and time of change
    while not should_stop():
        ready = []
        for file in folder.iterdir():
            state = _look_at(file)
            if state is None or told.get(file) == state or time.time() - state[1] / 1e9 < SETTLED:
                continue
            metrics = results / file.stem / 'metrics.json'
            if metrics.exists() and metrics.stat().st_mtime_ns > state[1]:
                told[file] = state
                continue
            ready.append((state[1], file, state))
        if not ready:
            time.sleep(POLL)
        for _, file, state in sorted(ready):
            if should_stop():
                return
            told[file] = state
            yield file


def _look_at(file: Path) -> tuple[int, int] | None:
    """Size and time of change of a scan file; None: it is none, or gone."""
    if file.suffix.lower() not in SUFFIXES or file.name.startswith('.'):
        return None
    try:
        state = file.stat()
    except OSError:
        return None
    return (state.st_size, state.st_mtime_ns) if state.st_size else None
