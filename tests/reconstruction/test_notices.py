"""What is said of the power of a probe."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.notices import power_notice
from ptychopinn_reconstructor.scan import Scan


@pytest.fixture(scope='module')
def scan() -> Scan:
    return simulate(n=64, positions=64, step=8, photons=1e5, object='cells', seed=1)


@pytest.mark.parametrize(
    ('factor', 'words'),
    [
        (1.0, 'it is trusted.'),
        (0.8, 'which no object passes'),
        (2**0.5, 'the probe is too strong'),
        (0.5**0.5, 'The amplitude of the object is relative.'),
        (1e-3, 'not in sqrt(counts) at all'),
        (100.0, 'not in sqrt(counts) at all'),
    ],
)
def test_what_is_implausible_is_said(scan: Scan, factor: float, words: str) -> None:
    """A probe of the true power is trusted without a doubt; others with one, or rescaled."""
    assert scan.probe is not None
    text = power_notice(prepare_scan(scan.with_probe(scan.probe * np.float32(factor)))).text
    assert text.endswith(words) if factor == 1 else words in text
