"""Named float32 arrays as a safetensors member of a bundle, framework free (specs/checkpoint_format.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError

MAX_HEADER = 16 * 2**20  # bytes


def encode(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file of real arrays, as float32 little-endian."""
    from safetensors.numpy import save

    return save({name: np.asarray(tensor, dtype='<f4', order='C') for name, tensor in tensors.items()})


def split(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A complex array as its real and imaginary part: the format's own complex type is younger than many readers."""
    return {f'{name}_real': array.real, f'{name}_imag': array.imag}


def decode(file: Path, member: str, data: bytes) -> dict[str, NDArray[np.float32]]:
    """The arrays of a safetensors member; raises ModelFileError unless all are finite float32."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header = int.from_bytes(data[:8], 'little')
    if len(data) < 8 or header > min(MAX_HEADER, len(data) - 8):
        raise ModelFileError(
            f"The member '{member}' of '{file}' declares a header of {header} bytes; do not use this file."
        )
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(
            f"The member '{member}' of '{file}' is not a safetensors file ({error}); copy it again."
        ) from error
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise ModelFileError(
                f"'{name}' in '{member}' of '{file}' is {tensor.dtype} instead of float32; do not use this file."
            )
        if not np.isfinite(tensor).all():
            raise ModelFileError(
                f"'{name}' in '{member}' of '{file}' holds NaN or infinity; use an earlier checkpoint."
            )
    return {name: tensor.copy() for name, tensor in tensors.items()}


def joined(
    file: Path,
    member: str,
    tensors: Mapping[str, NDArray[np.float32]],
    pairs: tuple[str, ...],
    real: tuple[str, ...] = (),
) -> dict[str, NDArray[Any]]:
    """The `real` arrays as they are, the `pairs` as complex64; raises ModelFileError unless exactly these are there."""
    expected = {*real, *(f'{name}_{part}' for name in pairs for part in ('real', 'imag'))}
    if set(tensors) != expected:
        raise ModelFileError(
            f"The member '{member}' of '{file}' holds {sorted(tensors)} instead of {sorted(expected)}."
        )
    arrays: dict[str, NDArray[Any]] = {name: tensors[name] for name in real}
    for name in pairs:
        if tensors[f'{name}_real'].shape != tensors[f'{name}_imag'].shape:
            raise ModelFileError(
                f"'{name}' in '{member}' of '{file}' has real and imaginary parts of different shapes."
            )
        arrays[name] = np.empty(tensors[f'{name}_real'].shape, np.complex64)
        arrays[name].real, arrays[name].imag = tensors[f'{name}_real'], tensors[f'{name}_imag']
    return arrays
