"""Differences between the supported releases of Ptychodus, 1.6 and 1.7."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.io import save_ptychopinn_training_data
from ptychodus.api.object import ObjectGeometry, ObjectPosition
from ptychodus.api.probe_positions import ProbePositionSequence
from ptychodus.api.product import ProductMetadata
from ptychodus.api.reconstruct import ReconstructInput

KNOWN = frozenset(field.name for field in fields(ProductMetadata))
KNOWS_NEAR_FIELD = 'far_field' in KNOWN  # 1.6 knows far field only
OLD_NAMES = {'photon_energy_eV': 'probe_energy_eV', 'mass_attenuation_m2_per_kg': 'mass_attenuation_m2_kg'}


def is_far_field(metadata: ProductMetadata) -> bool:
    """Whether the patterns of a product are far field."""
    return bool(getattr(metadata, 'far_field', True))


def make_metadata(**values: Any) -> ProductMetadata:
    """Metadata of a product from values by their names in 1.7."""
    return ProductMetadata(**{name if name in KNOWN else OLD_NAMES[name]: value for name, value in values.items()})


def list_indexes(positions: ProbePositionSequence) -> NDArray[np.int64]:
    """Scan indexes (n,) of positions."""
    if hasattr(positions, 'get_indexes'):
        return np.asarray(positions.get_indexes(), dtype=np.int64)
    return np.array([position.index for position in positions], dtype=np.int64)


def map_to_pixels(geometry: ObjectGeometry, positions: ProbePositionSequence) -> NDArray[np.float64]:
    """Positions (n, 2) [row, column] in pixels of the object, by the host's own mapping."""
    if hasattr(geometry, 'map_probe_positions_to_object_x_px'):
        x = geometry.map_probe_positions_to_object_x_px(positions)
        y = geometry.map_probe_positions_to_object_y_px(positions)
        return np.stack([y, x], axis=1).astype(np.float64)
    points = [geometry.map_coordinates_probe_to_object(position) for position in positions]
    return np.array([[point.y_px, point.x_px] for point in points], dtype=np.float64)


def map_to_meters(
    geometry: ObjectGeometry, indexes: NDArray[np.int64], positions: NDArray[np.float64]
) -> ProbePositionSequence:
    """Positions of the host from pixels (n, 2) [row, column] of the object: the inverse of `map_to_pixels`."""
    places = (ObjectPosition(int(index), float(x), float(y)) for index, (y, x) in zip(indexes, positions, strict=True))
    return ProbePositionSequence([geometry.map_coordinates_object_to_probe(place) for place in places])


def export_training_data(path: Path, parameters: ReconstructInput) -> None:
    """Write a scan as 1.7 exports it for PtychoPINN; 1.6 would leave out the bad pixels, and modes of the probe."""
    if 'inpaint_bad_pixels' in signature(save_ptychopinn_training_data).parameters:
        save_ptychopinn_training_data(path, parameters)
        return
    product, patterns = parameters.product, parameters.diffraction_patterns
    bad_pixels = cast('NDArray[np.bool_] | None', parameters.bad_pixels)
    rows, columns = map_to_pixels(product.object_.get_geometry(), product.probe_positions).T
    np.savez(
        path,
        xcoords=columns,
        ycoords=rows,
        xcoords_start=columns,
        ycoords_start=rows,
        diff3d=patterns,
        bad_pixels=np.zeros(patterns.shape[1:], dtype=bool) if bad_pixels is None else bad_pixels,
        probeGuess=product.probes.get_probe_no_opr().get_array(),
        objectGuess=product.object_.get_layer(0),
        scan_index=np.zeros(len(patterns), dtype=int),
    )
