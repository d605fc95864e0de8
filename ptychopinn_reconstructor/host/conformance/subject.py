"""Description of the reconstructor under test for the checks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from ptychodus.api.reconstruct import ReconstructInput, TrainableReconstructor

FORMS = ('pair', 'exported', 'layout', 'selected')


def _nothing(selected: ReconstructInput) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True, eq=False)
class Instance:
    """A reconstructor as in a newly started host, without a model, and what the host does around it.

    `training_on(input)` is entered while a training runs, with the scan that is selected in the host; `stop` is what
    the host's Stop does to a running job, None where only closing the iterator ends it.
    """

    reconstructor: TrainableReconstructor
    training_on: Callable[[ReconstructInput], AbstractContextManager[object]] = _nothing
    stop: Callable[[], None] | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """The reconstructor under test and what may be expected of it.

    Parameters
    ----------
    library
        Name of its library, the first half of the algorithm's key.
    make
        `make(scratch, quick)` returns a new instance. It may write to the folder `scratch` while a job runs. A quick
        one trains as shortly as it can; the other one so long that the object of the simulated scan can be recognized.
    training_forms
        What it trains on, of FORMS: train_data.npz with test_data.npz, files that it has exported, the host's standard
        layout, the scan that is selected in the host.
    likeness
        Smallest coherence of its object with the true one, means removed; 1 is the same object.
    largest_shift
        Largest shift of its object against the true one, in pixels along each axis.
    repeatability
        Largest difference between two objects of one model and scan, relative to the largest amplitude.
    modes
        Whether it takes probes with several incoherent modes.
    far_field_only
        Whether it refuses near-field products.
    logger
        The logger of its library, on which errors must appear; empty: not checked.
    not_imported
        Modules that the calling process must not import, such as its framework.
    """

    library: str
    make: Callable[[Path, bool], Instance]
    training_forms: frozenset[str]
    likeness: float = 0.8
    largest_shift: float = 0.25
    repeatability: float = 1e-6
    modes: bool = True
    far_field_only: bool = True
    logger: str = ''
    not_imported: tuple[str, ...] = ()
