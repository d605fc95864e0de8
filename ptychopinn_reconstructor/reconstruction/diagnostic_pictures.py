"""How far a result can be trusted, as pictures, and as bytes from which another process draws them."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..io.curves import draw_frc_figure
from ..io.maps import draw_change_map, draw_coverage_map, draw_residual_map, draw_uncertainty_map
from ..physics.residual import PER_PATTERN, Residual
from ..physics.scoring.frc import FRC
from .diagnostics import Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAPS = ('uncertainty', 'learned_change')  # that a result may have or not
CURVES = ('frequency', 'curve', 'half_bit')  # of a ring correlation; its other fields are numbers


def pictures(reliability: Reliability) -> dict[str, Figure]:
    """The pictures of what is known, by their names (PICTURES).

    Maps show the part of the canvas that the object is shown of, so that they can be laid over each other.
    """
    size, area = reliability.pixel_size, reliability.area
    coverage = reliability.coverage[area]
    places = reliability.positions + reliability.origin - [side.start for side in area]
    figures = {'residual_map': draw_residual_map(reliability.misfit.per_pattern, places, coverage, pixel_size=size)}
    if reliability.uncertainty is not None:
        refined = reliability.source == 'result'
        label = 'radius of 90 % (transmission)' if refined else f'standard deviation of the {reliability.source}'
        figures['uncertainty'] = draw_uncertainty_map(
            reliability.uncertainty[area], coverage, label=label, pixel_size=size
        )
    if reliability.learned_change is not None:
        figures['learned_change'] = draw_change_map(reliability.learned_change[area], coverage, pixel_size=size)
    figures['coverage'] = draw_coverage_map(coverage, places, pixel_size=size)
    if reliability.split is not None:
        curves = {'half against half': reliability.split.to_json()['curve']}
        figures['split_frc'] = draw_frc_figure(curves, title='two halves of the patterns')
    return figures


def to_bytes(reliability: Reliability) -> bytes:
    """All of it as an NPZ file, for `from_bytes`; nothing is pickled."""
    misfit = reliability.misfit
    arrays: dict[str, NDArray[Any]] = {name: getattr(misfit, name) for name in PER_PATTERN}
    arrays |= {'positions': reliability.positions, 'coverage': reliability.coverage}
    plain = {name: getattr(reliability, name) for name in ('origin', 'pixel_size', 'source', 'outside', 'from_network')}
    for name in MAPS:
        if (values := getattr(reliability, name)) is not None:
            arrays[name] = values
    if reliability.split is not None:
        arrays |= {name: getattr(reliability.split, name) for name in CURVES}
        numbers = {field.name: getattr(reliability.split, field.name) for field in fields(FRC)}
        plain['split'] = {name: float(value) for name, value in numbers.items() if name not in CURVES}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, plain=np.array(json.dumps(plain)), **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Reliability:
    """What `to_bytes` was given."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = dict(file)
    plain = json.loads(str(arrays['plain']))
    split = plain.get('split')
    return Reliability(
        misfit=Residual(**{name: arrays[name] for name in PER_PATTERN}),
        positions=arrays['positions'],
        origin=tuple(plain['origin']),
        pixel_size=plain['pixel_size'] and tuple(plain['pixel_size']),
        coverage=arrays['coverage'],
        **{name: arrays.get(name) for name in MAPS},
        source=plain['source'],
        split=None if split is None else FRC(**{name: arrays[name] for name in CURVES}, **split),
        outside=tuple(plain['outside']),
        from_network=plain['from_network'],
    )
