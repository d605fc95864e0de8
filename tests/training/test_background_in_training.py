"""A background of the patterns is found before a training, and the network is asked for what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.events import Previews, ignore, never
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.detector import find_background

COUNTS = 3.0


def hidden(counts: float = COUNTS) -> Scan:
    scan = small_scan(positions=100, photons=1e5)
    more = np.random.default_rng(1).poisson(counts, scan.diffraction.shape)
    return replace(scan, diffraction=np.asarray(scan.diffraction) + more, object=None)


def found(scan: Scan, **changes: Any) -> tuple[float | None, int]:
    prepared = prepare_scan(scan, mode='absolute')
    known, notices = find_background(prepared, short_config(**changes), Previews(ignore, None), never)
    return None if known.background is None else float(known.background.mean()), len(notices)


def test_a_background_is_found_where_there_is_one() -> None:
    mean, notices = found(hidden())
    assert mean == pytest.approx(COUNTS, rel=0.1) and notices == 1


def test_none_is_looked_for_where_there_is_none_or_none_is_wanted() -> None:
    assert found(small_scan(positions=100, photons=1e5)) == (None, 0)
    assert found(hidden(), refinement__background='off') == (None, 0)


@pytest.mark.usefixtures('backend_name')
def test_the_loss_of_a_training_knows_it(tmp_path: Path) -> None:
    """With the background in the prediction the same steps end nearer to the counts, on the training's own scale."""
    losses = {}
    for wanted in ('auto', 'off'):
        config = short_config(training__nepochs=3, refinement__background=wanted)
        result = pp.train([hidden()], config, tmp_path / wanted)
        losses[wanted] = result.trained.losses[-1][1]
        assert ('background' in [notice.code for notice in result.notices]) == (wanted == 'auto')
    assert losses['auto'] < 0.9 * losses['off']
