"""Running jobs as the host does, in a thread of their own, and seeing what they leave behind."""

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

from .scans import positions_of

Output = TypeVar('Output')
Result = TypeVar('Result')
GUARD = 300.0  # seconds after which a job counts as hanging


@dataclass
class Heard(Generic[Output]):
    """What a job has yielded, and the progress goal at each time, the first one before the job."""

    goals: list[int] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


def in_thread(function: Callable[[], Result]) -> Result:
    """Run a function in a thread that is not the main one; its result, or its exception."""
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
    """Run a job to its end, asking for its goal as the host does: before it, and at each output."""

    def run() -> Heard[Output]:
        heard: Heard[Output] = Heard([goal()])
        for output in job():
            heard.outputs.append(output)
            heard.goals.append(goal())
        return heard

    return in_thread(run)


@dataclass(frozen=True)
class Workplace:
    """Folders of one job: where it reads, where it may write, where it may write while it runs, and where not."""

    root: Path

    def __post_init__(self) -> None:
        for folder in (self.input, self.output, self.scratch, self.elsewhere):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def input(self) -> Path:
        """Training data."""
        return self.root / 'input'

    @property
    def output(self) -> Path:
        """Where a training leaves its model."""
        return self.root / 'output'

    @property
    def scratch(self) -> Path:
        """For temporary files."""
        return self.root / 'scratch'

    @property
    def elsewhere(self) -> Path:
        """The current folder, which is nobody's."""
        return self.root / 'elsewhere'

    @contextlib.contextmanager
    def inhabited(self) -> Iterator[None]:
        """The current folder and that of temporary files are those of this place."""
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.elsewhere):
            patch.setenv('TMPDIR', str(self.scratch))
            patch.setattr(tempfile, 'tempdir', str(self.scratch))
            yield

    def left_behind(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What is otherwise than `before`, an earlier `state`, by name."""
        now = self.state()
        return {name: value for name, value in now.items() if value != before[name]}

    def state(self) -> dict[str, Any]:
        """Child processes, and files outside the output folder."""
        folders = {'input': self.input, 'scratch': self.scratch, 'current folder': self.elsewhere}
        return {'child processes': children(), **{name: files_of(folder) for name, folder in folders.items()}}


def files_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with a hash of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        for path in sorted(folder.rglob('*'))
    }


def children() -> set[int]:
    """Process ids of the children of this process; none are seen where there is no /proc."""
    found = set()
    for stat in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(')')[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def fingerprint(parameters: ReconstructInput) -> str:
    """A hash of every array that is handed in."""
    product = parameters.product
    arrays: list[NDArray[Any]] = [
        parameters.diffraction_patterns,
        parameters.bad_pixels,
        product.probes.get_array(),
        product.object_.get_array(),
        positions_of(product),
    ]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f'{array.dtype}{array.shape}'.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
