"""What the detector counts beside diffraction, found by the engine before a training, so that no network learns it."""

from __future__ import annotations

from dataclasses import replace

from ..config import Config
from ..errors import Interrupted
from ..events import Notice, Previews, ShouldStop
from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.background import suspected_background
from ..physics.engine.refine import refine
from ..physics.prepare import PreparedScan
from ..reconstruction.initial_object import flat_canvas
from ..reconstruction.refinement import refinement_options

PASSES = 6  # in which the engine finds a background to a few percent


def find_background(
    prepared: PreparedScan, config: Config, previews: Previews, should_stop: ShouldStop, arrays: Arrays = NUMPY
) -> tuple[PreparedScan, tuple[Notice, ...]]:
    """The scan with the background of its patterns and the power of the beam in each, where a background is suspected.

    `refinement.background` is obeyed. Raises Interrupted when stopped.
    """
    wanted = config.refinement.background
    if wanted == 'off' or config.model.model_type == 'supervised':
        return prepared, ()
    if wanted == 'auto' and suspected_background(prepared) is None:
        return prepared, ()
    asked = {'passes': PASSES, 'probe': False, 'positions': False, 'modes': 0}
    section = config.refinement.model_copy(update=asked)
    options = refinement_options(section, prepared, start='empty', seed=config.training.seed)
    found = refine(prepared, flat_canvas(prepared), options, arrays=arrays, emit=previews.emit, should_stop=should_stop)
    if found.stopped:
        raise Interrupted('Stopped before the background was found; nothing is written.')
    if found.background is None:
        return prepared, ()
    text = (
        f'A background of {found.background.mean():.2g} counts a pixel was found before the training and is part of '
        'what the network is asked to predict (refinement.background).'
    )
    known = replace(prepared, background=found.background, intensity=found.intensity)
    if prepared.gauge.choice == 'from_counts':  # its power is what the background leaves of the counts
        known = replace(known, gauge=prepared.gauge._replace(probe=found.probe))
    return known, (Notice('background', text),)
