"""The object of a network, with networks that answer what the test says: who is asked, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import small_scan

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import Interrupted
from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.scoring.halves import split_interleaved
from ptychopinn_reconstructor.reconstruction.network_object import network_object

ONE_BY_ONE = {'inference_batch_size': 1, 'sync_neighbors': 0}


@dataclass
class Flat:
    """A network whose patches are flat, of an amplitude for each pattern in turn."""

    amplitudes: NDArray[np.float64]
    asked: list[int] = field(default_factory=list)

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        values = np.asarray(self.amplitudes[len(self.asked) : len(self.asked) + len(root4)], dtype=np.complex64)
        self.asked += [len(self.asked) + i for i in range(len(root4))]
        n = backprojection.shape[-1]
        return np.broadcast_to(values[:, None, None], (len(values), n, n))


def test_a_stop_is_heard_before_the_next_batch() -> None:
    prepared = prepare_scan(small_scan(), stride=16, patch_size=16)
    network = Flat(np.ones(len(prepared)))
    config = Config().merged({'inference': ONE_BY_ONE})
    with pytest.raises(Interrupted, match='nothing is written'):
        network_object(prepared, network, config, should_stop=lambda: len(network.asked) >= 3)
    assert network.asked == [0, 1, 2]


def test_each_half_is_made_of_its_own_patterns() -> None:
    """Patches of the second half three times as bright: so is its object, and the whole lies between."""
    prepared = prepare_scan(small_scan(), stride=16, patch_size=16)
    amplitudes = np.ones(len(prepared))
    amplitudes[split_interleaved(len(prepared))[1]] = 3
    config = Config().merged({'inference': {**ONE_BY_ONE, 'split_frc': True}, 'refinement': {'wavefront': False}})
    found = network_object(prepared, Flat(amplitudes), config)
    area = scan_area(prepared.positions, prepared.layout.origin, 8)
    first, second, whole = (float(np.median(np.abs(canvas[area]))) for canvas in (*found.halves, found.canvas))
    assert second / first == pytest.approx(3, rel=0.01) and first < whole < second
