"""Checks of probe and object arrays that several file formats share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError


def extract_object_layer(values: NDArray[Any], name: str) -> NDArray[np.complex64]:
    """One layer (H, W) complex64 of an object array, or ScanError with `name` and the shape seen."""
    layer = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
    if layer.ndim != 2 or 0 in layer.shape or layer.dtype.kind not in 'uifc':
        raise ScanError(
            f'{name} has shape {values.shape} and type {values.dtype}; expected one layer (H, W), complex: multiply '
            'several layers of one sample.'
        )
    if not np.isfinite(layer).all():
        raise ScanError(f'{name} holds NaN or infinity; hand in another object.')
    return np.ascontiguousarray(layer, dtype=np.complex64)


def project_layers(values: NDArray[Any], name: str) -> NDArray[np.complex64]:
    """The layers (L, H, W) of an object as one (H, W), their product: the projection of a thin sample.

    What that loses is said by `describe_layers`. Raises what `extract_object_layer` raises.
    """
    layers = values.ndim == 3 and 0 < values.shape[0] < min(values.shape[1:]) and values.dtype.kind in 'uifc'
    return extract_object_layer(values.prod(axis=0) if layers else values, name)


def describe_layers(count: int, name: str, spacing: float = 0.0, wavelength: float = 0.0, pixel: float = 0.0) -> str:
    """A sentence on what is lost of an object of several layers, `spacing` meters from first to last; '' for one.

    Between them light of a `wavelength` spreads over sqrt(wavelength * spacing), which a product of layers ignores;
    lengths in meters, 0 where unknown.
    """
    if count < 2:
        return ''
    text = f'{name} has {count} layers, which are read as their product, the projection of a thin sample'
    blur = math.sqrt(wavelength * spacing)
    if not (blur and pixel):
        return f'{text}: what light spreads between them is lost.'
    return (
        f'{text}: they are {spacing * 1e6:.3g} um apart in all, so that detail finer than {blur * 1e9:.3g} nm '
        f'({blur / pixel:.2g} pixels) is lost.'
    )


def drop_relaxation_axis(probe: NDArray[Any], name: str) -> NDArray[Any]:
    """A probe without its axis of orthogonal relaxation modes, of which only one is supported."""
    if probe.ndim == 4 and probe.shape[0] != 1:
        raise ScanError(
            f'{name} has {probe.shape[0]} orthogonal-probe-relaxation modes; only one is supported: drop the others.'
        )
    return probe[0] if probe.ndim == 4 else probe


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an NPY file, never unpickled; ScanError when it is pickled or damaged."""
    return np.array(map_npy(path))  # mapped first: what a header says is compared with the file before memory is taken


def map_npy(path: Path) -> NDArray[Any]:
    """The array of an NPY file, memory-mapped; ScanError when it is pickled, damaged or shorter than it says."""
    try:
        return np.asarray(np.load(path, mmap_mode='r', allow_pickle=False))
    except Exception as error:  # a header is a literal of Python, and whatever that may be
        raise ScanError(f'{path} is damaged or pickled; save it again as a plain numeric array.') from error
