"""The bytes of a model file: a safetensors file with its manifest in the metadata, checked before it is parsed.

See specs/checkpoint_format.md. Nothing is unpickled; whatever is wrong is one ModelFileError sentence.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from ..errors import ModelFileError, quote, shorten
from .entry import Count, Entry
from .foreign import describe_foreign, describe_no_file

MAX_FILE = 4 * 2**30  # bytes
MAX_HEADER = 16 * 2**20  # bytes; the losses of 100,000 epochs take 3 MB
MAX_TENSORS = 10_000
METADATA, MANIFEST, DIGEST = '__metadata__', 'manifest', 'sha256'
ITEM = 4  # bytes of a float32
WEIGHTS = 'weights/'  # what the names of the network's arrays begin with

Float32 = NDArray[np.float32]
Tensors = dict[str, Float32]
Json = dict[str, Any]


class _Tensor(Entry):
    """How the header of a safetensors file describes one array."""

    dtype: Literal['F32']
    shape: Annotated[list[Count], Field(max_length=8)]
    data_offsets: tuple[Count, Count]


def encode(manifest: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A model file of float32 arrays; the manifest, in plain JSON types, gets its digest."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(tensor, dtype='<f4', order='C') for name, tensor in tensors.items()}
    complete = {**manifest, DIGEST: compute_digest(manifest, arrays)}
    return save(arrays, metadata={MANIFEST: canonicalize(complete)})


def canonicalize(manifest: Mapping[str, Any]) -> str:
    """Canonical JSON of a manifest: sorted keys, no spaces, ASCII."""
    return json.dumps(manifest, sort_keys=True, separators=(',', ':'), allow_nan=False)


def compute_digest(manifest: Mapping[str, Any], tensors: Mapping[str, Float32]) -> str:
    """SHA-256 of a manifest, its own entry `sha256` left out, and of name, type, shape and bytes of each array."""
    found = hashlib.sha256(canonicalize({key: value for key, value in manifest.items() if key != DIGEST}).encode())
    for name in sorted(tensors):
        found.update(f'\n{json.dumps([name, "F32", tensors[name].shape])}\n'.encode())
        found.update(np.ascontiguousarray(tensors[name], dtype='<f4').tobytes())
    return found.hexdigest()


def decode(file: Path) -> tuple[Json, Tensors]:
    """The manifest, as plain JSON types, and the arrays of a model file that is neither damaged nor altered.

    Raises ModelFileError when the file is absent, foreign, truncated, altered, absurdly large or not finite float32.
    """
    data = read_file(file, lambda start: start[8:] == b'{')
    header, size = parse_header(file, data)
    metadata = header.pop(METADATA, None)
    if not (isinstance(metadata, dict) and metadata.keys() == {MANIFEST} and isinstance(metadata[MANIFEST], str)):
        raise ModelFileError(
            f"'{file}' is a safetensors file without the manifest of a model; hand in a model.safetensors of ours."
        )
    check_layout(file, header, size)
    manifest = parse_text(file, metadata[MANIFEST])
    tensors = load_tensors(file, data)
    check_digest(file, manifest, tensors)
    return manifest, tensors


def parse_text(file: Path, text: str) -> Json:
    """The manifest, in plain JSON types, that a text holds; ModelFileError where it is not written as it is here."""
    manifest = _parse_json(file, 'manifest', text.encode('utf-8', 'surrogatepass'))
    if canonicalize(manifest) != text:
        raise ModelFileError(f"The manifest of '{file}' is not written as this format is; copy the file again.")
    return manifest


def check_digest(file: Path, manifest: Json, tensors: Tensors) -> None:
    """Raise ModelFileError if manifest and arrays are not those of the recorded digest."""
    if compute_digest(manifest, tensors) != manifest.get(DIGEST):
        raise ModelFileError(f"'{file}' was altered: its SHA-256 is not the recorded one; copy the file again.")


def read_file(file: Path, is_ours: Callable[[bytes], bool]) -> bytes:
    """The bytes of a file that `is_ours` by its first nine; nothing larger than MAX_FILE is read."""
    if not file.is_file():
        raise ModelFileError(describe_no_file(file))
    try:
        with file.open('rb') as stream:
            start = stream.read(9)
            if not is_ours(start):
                raise ModelFileError(describe_foreign(file, start))
            size = file.stat().st_size
            if size > MAX_FILE:
                raise ModelFileError(f"'{file}' is {size} bytes large, more than {MAX_FILE}; do not use this file.")
            return start + stream.read()
    except OSError as error:
        raise ModelFileError(f"The model '{file}' cannot be read ({error}); check its permissions.") from error


def parse_header(file: Path, data: bytes) -> tuple[Json, int]:
    """The header of safetensors bytes and how many follow it; ModelFileError where it does not fit their length."""
    length = int.from_bytes(data[:8], 'little')
    if length > MAX_HEADER:
        raise ModelFileError(f"'{file}' declares a header of {length} bytes, more than {MAX_HEADER}; do not use it.")
    if length > len(data) - 8:
        raise ModelFileError(
            f"'{file}' is truncated: it has {len(data)} bytes but its header alone {length}; copy the file again."
        )
    text = data[8 : 8 + length].rstrip(b' ')  # what the format pads with, and nothing else
    if not text.endswith(b'}'):
        raise ModelFileError(f"The header of '{file}' is damaged; copy the file again.")
    return _parse_json(file, 'header', text), len(data) - 8 - length


def check_layout(file: Path, header: Json, size: int) -> None:
    """Whether the arrays fill the `size` bytes behind the header without gaps and overlaps."""
    if len(header) > MAX_TENSORS:
        raise ModelFileError(f"'{file}' holds {len(header)} arrays, more than {MAX_TENSORS}; do not use this file.")
    spans = []
    for name, entry in header.items():
        try:
            tensor = _Tensor.model_validate_json(json.dumps(entry))
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            raise ModelFileError(
                f"The array {quote(name)} of '{file}' has a bad {shorten('.'.join(map(str, found['loc']))) or 'entry'} "
                f'({found["msg"]}); do not use this file.'
            ) from error
        begin, end = tensor.data_offsets
        if end - begin != ITEM * math.prod(tensor.shape):
            raise ModelFileError(
                f"The array {quote(name)} of '{file}' has the shape {tensor.shape} but {end - begin} bytes; "
                'do not use it.'
            )
        spans.append((begin, end))
    ends = [0, *(end for _, end in sorted(spans))]
    if [begin for begin, _ in sorted(spans)] != ends[:-1]:
        raise ModelFileError(f"The arrays of '{file}' overlap or leave gaps; do not use this file.")
    if ends[-1] != size:
        raise ModelFileError(
            f"'{file}' is truncated or altered: its arrays have {size} bytes instead of {ends[-1]}; copy it again."
        )


def load_tensors(file: Path, data: bytes) -> Tensors:
    """The arrays of safetensors bytes whose layout was checked."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = {name: tensor.copy() for name, tensor in load(data).items()}  # read-only views of their bytes
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(
            f"'{file}' is not a safetensors file ({shorten(error, 160)}); copy the file again."
        ) from error
    check_finite(file, tensors)
    return tensors


def check_finite(file: Path, tensors: Tensors) -> None:
    """Raise ModelFileError where an array holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"The array {quote(name)} of '{file}' holds NaN or infinity; train again.")


def _parse_json(file: Path, what: str, text: bytes) -> Json:
    """A JSON object without NaN and without a key that is there twice."""
    try:
        values = json.loads(text.decode(), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise ModelFileError(
            f"The {what} of '{file}' is damaged ({shorten(error, 160)}); copy the file again."
        ) from error
    if not isinstance(values, dict):
        raise ModelFileError(f"The {what} of '{file}' is no JSON object; copy the file again.")
    return values


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> Json:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f'{quote(twice)} is there twice')
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is no JSON number')
