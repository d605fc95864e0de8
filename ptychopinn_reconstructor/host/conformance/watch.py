"""Running jobs as the host does, in a separate thread, and detecting what they leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from ptychodus.api.reconstruct import ReconstructInput

from .scans import list_positions

Output = TypeVar('Output')
Result = TypeVar('Result')
GUARD = 300.0  # seconds after which a job counts as hanging


@dataclass
class Heard(Generic[Output]):
    """Outputs of a job, with the progress goal before it and at each output."""

    goals: list[int] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


def run_in_thread(function: Callable[[], Result]) -> Result:
    """Result of a function run in a thread other than the main one; its exception is raised here."""
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(GUARD)
    if thread.is_alive():
        pytest.fail(f'The job has not ended after {GUARD:.0f} s.')
    if errors:
        raise errors[0]
    return results[0]


def listen(goal: Callable[[], int], job: Callable[[], Iterator[Output]]) -> Heard[Output]:
    """Outputs of a complete job, with the goal before it and at each output, as the host asks for it."""

    def run() -> Heard[Output]:
        heard: Heard[Output] = Heard([goal()])
        for output in job():
            heard.outputs.append(output)
            heard.goals.append(goal())
        return heard

    return run_in_thread(run)


@dataclass(frozen=True)
class Workplace:
    """Folders of one job: input, output, scratch, and the current folder, where it must not write."""

    root: Path

    def __post_init__(self) -> None:
        for folder in (self.input, self.output, self.scratch, self.elsewhere):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def input(self) -> Path:
        """Folder of the training data."""
        return self.root / 'input'

    @property
    def output(self) -> Path:
        """Folder where a training writes its model."""
        return self.root / 'output'

    @property
    def scratch(self) -> Path:
        """Folder for temporary files."""
        return self.root / 'scratch'

    @property
    def elsewhere(self) -> Path:
        """Current folder of the job, where it must not write."""
        return self.root / 'elsewhere'

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Context with this place's current folder and folder for temporary files."""
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.elsewhere):
            patch.setenv('TMPDIR', str(self.scratch))
            patch.setattr(tempfile, 'tempdir', str(self.scratch))
            yield

    def find_leftovers(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Differences from `before`, an earlier `state`, by name."""
        now = self.state()
        return {name: value for name, value in now.items() if value != before[name]}

    def state(self) -> dict[str, Any]:
        """Child processes, and files outside the output folder."""
        folders = {'input': self.input, 'scratch': self.scratch, 'current folder': self.elsewhere}
        return {'child processes': list_children(), **{name: hash_files(folder) for name, folder in folders.items()}}


def hash_files(folder: Path) -> dict[str, str]:
    """Hashes of all files below a folder, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        for path in sorted(folder.rglob('*'))
    }


def list_children() -> set[int]:
    """Process ids of this process's children; empty where there is no /proc."""
    found = set()
    for stat in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(')')[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def hash_arrays(parameters: ReconstructInput) -> str:
    """Hash of all arrays of an input."""
    product = parameters.product
    arrays: list[NDArray[Any]] = [
        parameters.diffraction_patterns,
        parameters.bad_pixels,
        product.probes.get_array(),
        product.object_.get_array(),
        list_positions(product),
    ]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f'{array.dtype}{array.shape}'.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
