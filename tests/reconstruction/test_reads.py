"""How often all patterns of a scan are read: each time costs a pass over what may be larger than any memory."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import small_scan

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.events import Previews, ignore, never
from ptychopinn_reconstructor.physics.arrays import NumpyArrays
from ptychopinn_reconstructor.physics.inspection.inspect import mend_scan
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction.finish import finish
from ptychopinn_reconstructor.reconstruction.network_object import network_object
from ptychopinn_reconstructor.reconstruction.reconstruct import refine_scan, run_info
from ptychopinn_reconstructor.reconstruction.refinement import refinement_options
from ptychopinn_reconstructor.reconstruction.report import StageTimes
from ptychopinn_reconstructor.reconstruction.usable_scan import make_usable
from ptychopinn_reconstructor.scan import PatternsOnDemand, Scan

LARGE = 'ptychopinn_reconstructor.physics.inspection.corrected.IN_MEMORY_BYTES'
PATTERNS = 900  # beside which the samples that are looked at, of up to 512, are less than a reading


class Counting(PatternsOnDemand):
    """Patterns that count how often they are read."""

    def __init__(self, patterns: NDArray[Any]) -> None:
        super().__init__(patterns.dtype, patterns.shape)
        self.patterns, self.times = patterns, np.zeros(len(patterns), int)

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        np.add.at(self.times, wanted, 1)
        return self.patterns[wanted]

    def readings(self) -> int:
        """How often the pattern was read that was read least, since the last time."""
        least = int(self.times.min())
        self.times[:] = 0
        return least


class Ones:
    """A network whose patches are all one."""

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        n = backprojection.shape[-1]
        return np.ones((len(root4), n, n), np.complex64)


def counting_scan(**others: Any) -> tuple[dict[str, Any], Counting]:
    """The fields of a scan as a reader finds them in a file."""
    scan = small_scan(positions=PATTERNS)
    patterns = Counting(np.array(scan.diffraction))
    given = {entry.name: getattr(scan, entry.name) for entry in fields(scan)}
    return {**given, 'diffraction': patterns, 'object': None, 'counted': None, **others}, patterns


def test_a_scan_is_read_twice_until_it_can_be_used() -> None:
    """Once for what its values say, once for single hits; what is changed beside the patterns reads none."""
    given, patterns = counting_scan()
    scan, notices = mend_scan(**given)
    assert (notices, patterns.readings()) == ((), 2)
    assert scan.probe is not None
    replace(scan, positions=scan.positions + 1).with_probe(2 * scan.probe)
    make_usable(scan, Config().data)
    assert patterns.readings() == 0
    dimmed = replace(scan, count_unit=0.5)
    assert (dimmed.mean_counts, patterns.readings()) == (scan.mean_counts / 2, 1)


def test_what_is_mended_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LARGE, 0)
    given, patterns = counting_scan()
    patterns.patterns[:, 20, 3] = 60_000
    patterns.patterns[40, 5, 25] = 50_000
    scan, notices = mend_scan(**given)
    assert [notice.code for notice in notices] == ['hot_pixels', 'single_hits']
    assert patterns.readings() == 2
    counts = np.concatenate([scan.counts(block).sum(axis=(1, 2), dtype=float) for block in scan.blocks()])
    np.testing.assert_array_equal(scan.pattern_counts, counts)


def test_values_that_are_none_are_read_once_more() -> None:
    given, patterns = counting_scan()
    patterns.patterns = patterns.patterns.astype(np.int32)
    patterns.dtype = patterns.patterns.dtype
    patterns.patterns[:, 4, 4] = -1
    scan, notices = mend_scan(**given)
    assert [notice.code for notice in notices] == ['impossible_values']
    assert patterns.readings() == 3 and scan.bad_pixels is not None and scan.bad_pixels[4, 4]


def test_other_patterns_are_counted_anew() -> None:
    scan = small_scan(positions=25)
    brighter = replace(scan, diffraction=2 * np.asarray(scan.diffraction))
    assert brighter.mean_counts == 2 * scan.mean_counts
    masked = np.zeros((scan.n_pixels,) * 2, bool)
    masked[scan.n_pixels // 2 :] = True
    assert replace(scan, bad_pixels=masked).mean_counts < scan.mean_counts
    same = replace(scan, diffraction=scan.diffraction[:])
    assert same.counted is scan.counted


def test_a_refinement_reads_once_a_pass_once_a_wavefront_and_once_for_the_fit() -> None:
    given, patterns = counting_scan()
    scan = Scan(**{**given, 'as_is': True})
    assert patterns.readings() == 1
    refine_scan(scan, Config().merged({'refinement': {'passes': 5, 'modes': 1}}))
    assert (
        patterns.readings() == 5 + 1 + 2
    )  # and for the error bars; of so few passes only the last is followed by a wavefront


def test_a_default_reconstruction_reads_fourteen_times() -> None:
    """Two readings of the input, one by the network and one for its wavefront; five passes, of which three are followed
    by a wavefront; error bars and fit."""
    given, patterns = counting_scan()
    config, times, arrays = Config(), StageTimes(), NumpyArrays()
    scan, _ = make_usable(mend_scan(**given)[0], config.data)
    prepared = prepare_scan(scan)
    start = network_object(prepared, Ones(), config, times=times)
    assert patterns.readings() == 4
    options = refinement_options(config.refinement, prepared, start='network')
    run = run_info(prepared, 'torch', 'cpu', 'pinn', 'scan')
    finish(prepared, start, options, run, times, previews=Previews(ignore, None), should_stop=never, arrays=arrays)
    assert (options.passes, patterns.readings()) == (5, 10)
