"""Conversion of Ptychodus' input to a scan, and of a result to a Ptychodus product.

Positions are mapped with the host's own functions: x to columns, y to rows, to the pixel grid of the product's object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.object import Object, ObjectCenter, ObjectGeometry
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructInput

from ..errors import ScanError
from ..events import Notice
from ..io.ptychodus import fresnel_number_of_product
from .releases import is_far_field, list_indexes, map_to_meters, map_to_pixels

SAME_WEIGHT = 1e-6  # difference of two weights of a probe's mode that are the same
SAME_PIXEL = 1e-3  # relative difference of two pixel sizes that are the same


@dataclass(frozen=True, eq=False)
class HostScan:
    """Arrays of the host's scan, not copied, and notices for the user about them."""

    patterns: NDArray[Any]
    bad_pixels: NDArray[np.bool_] | None
    product: Product
    geometry: ObjectGeometry
    notices: tuple[Notice, ...]

    @classmethod
    def of(cls, parameters: ReconstructInput, *, by_engine: bool = False) -> HostScan:
        """Scan of the host's input; ScanError for patterns that are not square.

        And for the near field, unless the engine is to take it alone, `by_engine`.
        """
        product, patterns = parameters.product, parameters.diffraction_patterns
        name = product.metadata.name
        if not (by_engine or is_far_field(product.metadata)):
            raise ScanError(
                f'The product {name!r} is near field (see its metadata), which no network takes; check '
                "'Start from the object' and press Infer: the engine refines it alone."
            )
        if patterns.ndim != 3 or patterns.shape[1] != patterns.shape[2]:
            raise ScanError(
                f'The patterns of {name!r} have shape {patterns.shape[1:]}; they must be square: crop them on loading.'
            )
        return cls(patterns, parameters.bad_pixels, product, _find_geometry(product), tuple(_check_product(product)))

    @property
    def positions(self) -> NDArray[np.float64]:
        """Scan positions (n, 2) [row, column] in pixels of the object."""
        return map_to_pixels(self.geometry, self.product.probe_positions)

    def arrays(self) -> dict[str, Any]:
        """Arrays for `handover.write_arrays`."""
        return {
            'diffraction': self.patterns,
            'positions': self.positions,
            'probe': np.asarray(self.product.probes.get_probe_no_opr().get_array()),
            'object': self._object_array(),
            'bad_pixels': self.bad_pixels,
            'pattern_indexes': list_indexes(self.product.probe_positions),
        }

    def _object_array(self) -> NDArray[np.complex64] | None:
        array = self.product.object_.get_array()
        return np.asarray(array.prod(axis=0), dtype=np.complex64) if array.size else None

    def description(self) -> dict[str, Any]:
        """Fields of a Scan that are no arrays."""
        geometry = self.geometry
        return {
            'domain': 'counts',
            'pixel_size': [float(geometry.pixel_height_m), float(geometry.pixel_width_m)],
            'fresnel_number': self._find_fresnel_number(),
            'on_object_grid': bool(self.product.object_.get_array().size),
            'metadata': {'name': str(self.product.metadata.name)},
        }

    def _find_fresnel_number(self) -> list[float] | None:
        metadata, geometry = self.product.metadata, self.geometry
        if is_far_field(metadata):
            return None
        size = float(geometry.pixel_height_m), float(geometry.pixel_width_m)
        distances = float(metadata.detector_distance_m), float(metadata.focus_object_distance_m)
        number = fresnel_number_of_product(size, float(metadata.photon_energy_eV), *distances)
        if number is None:
            raise ScanError(
                f'The product {metadata.name!r} is near field, but its photon energy or detector distance is not set, '
                'which the Fresnel number follows from; set both in its metadata.'
            )
        return list(number)

    def require_object(self) -> None:
        """Raise ScanError if the product has no object."""
        if self._object_array() is None:
            raise ScanError(
                f'The product {self.product.metadata.name!r} has no object to start from; initialize it, or uncheck '
                "'Start from the object'."
            )

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return sum(int(array.nbytes) for array in self.arrays().values() if array is not None)

    def make_object(self, values: NDArray[np.complex64], origin: Sequence[float]) -> Object:
        """Host object of a result (H, W), on the host's canvas where it fits, else on its own.

        `origin` (2,) array coordinates of the host's object pixel (0, 0).
        """
        return place_on_host_canvas(values, origin, self.geometry)

    def make_separate_object(self, values: NDArray[np.complex64]) -> Object:
        """Host object of values (H, W) unrelated to the scan, about the same center."""
        geometry = self.geometry
        return Object(values.astype(complex), geometry.get_pixel_geometry(), geometry.get_center())

    def make_product(
        self,
        object_: Object,
        *,
        probe: NDArray[np.complex64] | None = None,
        positions: NDArray[np.float64] | None = None,
        losses: Iterable[Sequence[float]] = (),
        comment: str = '',
    ) -> Product:
        """Product of the host with the object replaced, and probe and positions too where given.

        `probe` (modes, N, N), `positions` (n, 2) [row, column] in pixels of the object.
        """
        metadata, probes, places = self.product.metadata, self.product.probes, self.product.probe_positions
        if comment:
            comments = '\n'.join(filter(None, [metadata.comments, comment]))
            metadata = dataclasses.replace(metadata, comments=comments)
        if probe is not None:
            probes = ProbeSequence(probe[None].astype(complex), None, probes.get_pixel_geometry())
        if positions is not None:
            places = map_to_meters(self.geometry, list_indexes(places), positions)
        return Product(
            metadata=metadata,
            probe_positions=places,
            probes=probes,
            object_=object_,
            losses=[LossValue(int(epoch), float(value)) for epoch, value in losses],
        )


def place_on_host_canvas(values: NDArray[np.complex64], origin: Sequence[float], geometry: ObjectGeometry) -> Object:
    """Host object on the canvas of `geometry` where that contains it, otherwise on its own canvas and center."""
    from ..physics.geometry import place_on_canvas

    pixel = geometry.get_pixel_geometry()
    try:
        shape = (geometry.height_px, geometry.width_px)
        array = place_on_canvas(values, (float(origin[0]), float(origin[1])), shape, (0.0, 0.0))
        return Object(array.astype(complex), pixel, geometry.get_center())
    except ScanError:
        middle = [(size - 1) / 2 - float(start) for size, start in zip(values.shape, origin, strict=True)]
        own = [(size - 1) / 2 for size in shape]
        center = ObjectCenter(
            x_m=geometry.center_x_m + (middle[1] - own[1]) * geometry.pixel_width_m,
            y_m=geometry.center_y_m + (middle[0] - own[0]) * geometry.pixel_height_m,
        )
        return Object(values.astype(complex), pixel, center)


def _find_geometry(product: Product) -> ObjectGeometry:
    """Geometry of the product's object; an empty one on the probe's grid if there is no object yet."""
    try:
        return product.object_.get_geometry()
    except ValueError:  # the host's way of saying that there is none
        pass
    try:
        pixel = product.probes.get_pixel_geometry()
    except ValueError as error:
        raise ScanError(
            f'The product {product.metadata.name!r} has no pixel size; set the photon energy, the detector distance '
            "and the detector's pixel size, which it follows from."
        ) from error
    return ObjectGeometry(0, 0, pixel.width_m, pixel.height_m, 0.0, 0.0)


def _check_product(product: Product) -> Iterable[Notice]:
    probes, obj = product.probes, product.object_
    weights = probes.get_opr_weights_or_none()
    if probes.num_coherent_modes > 1 or (weights is not None and np.ptp(weights, axis=0).max() > SAME_WEIGHT):
        text = (
            f'The probe of {product.metadata.name!r} varies from position to position (orthogonal probe relaxation, '
            f'{probes.num_coherent_modes} coherent modes); its first mode is used for all positions.'
        )
        yield Notice('varying_probe', text)
    elif weights is not None:  # as Pty-Chi writes them, all alike
        text = (
            f'The probe of {product.metadata.name!r} is from Pty-Chi, which normalizes probe and object: the amplitude '
            'of the object is relative to that, no longer the transmission.'
        )
        yield Notice('normalized_probe', text)
    if obj.num_layers > 1:
        text = (
            f'The object of {product.metadata.name!r} has {obj.num_layers} layers; it is taken as their product, the '
            'projection of a thin object, and the result is one layer: what light spreads on its way through is lost.'
        )
        yield Notice('object_layers', text)
    try:
        ours, theirs = probes.get_pixel_geometry(), obj.get_pixel_geometry()
    except ValueError:
        return
    pairs = ((ours.width_m, theirs.width_m), (ours.height_m, theirs.height_m))
    if any(abs(a - b) > SAME_PIXEL * abs(b) for a, b in pairs):
        raise ScanError(
            f'The probe has pixels of {ours.width_m:.4g} m but the object of {theirs.width_m:.4g} m; '
            'make the object anew from the probe (Object > Initialize), so that both have the same.'
        )
