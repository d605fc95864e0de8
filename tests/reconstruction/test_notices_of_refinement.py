"""What a refinement had to undo is told."""

from __future__ import annotations

import numpy as np
from engine_cases import Case

from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine
from ptychopinn_reconstructor.reconstruction.notices import refinement_notices


def test_a_start_that_was_dropped_is_told() -> None:
    prepared = Case(1e5, noise=True).prepared()
    start = np.full(prepared.layout.shape, 9, np.complex64)
    (notice,) = refinement_notices(refine(prepared, start, RefineOptions.for_scan(1)))
    assert notice.code == 'start_dropped' and 'explained the patterns less than an empty one' in notice.text
    assert refinement_notices(refine(prepared, Case(1e5, noise=True).truth, RefineOptions.for_scan(1))) == ()


def test_passes_that_were_undone_are_counted() -> None:
    nothing = np.ones((4, 4), np.complex64)
    (notice,) = refinement_notices(Refined(nothing, nothing[None], (0.2, 0.1, 0.4), taken_back=1))
    assert notice.code == 'passes_taken_back' and notice.text.startswith('1 of 3 passes')


def test_a_scan_that_was_mapped_as_a_whole_is_told() -> None:
    nothing, angle = np.ones((4, 4), np.complex64), np.radians(2.0)
    matrix = 0.98 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    (notice,) = refinement_notices(Refined(nothing, nothing[None], (0.2,), affine=matrix))
    assert notice.code == 'scan_aligned' and 'scaled by 0.9800 and turned by 2.00 degrees' in notice.text
