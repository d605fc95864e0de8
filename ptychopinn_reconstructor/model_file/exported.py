"""The bytes of an exported model: an ONNX file that holds all of a model file.

Its graph holds the weights, its metadata the manifest, the other arrays, and the SHA-256 of everything before that.
See specs/checkpoint_format.md, section 6. The graph is for other programs; nothing of it is executed here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelFileError, shorten
from ..io.onnx import START, encode_metadata, from_onnx, read_model
from .format import (
    DIGEST,
    MANIFEST,
    MAX_TENSORS,
    WEIGHTS,
    Json,
    Tensors,
    canonicalize,
    check_digest,
    check_finite,
    check_layout,
    load_tensors,
    parse_header,
    parse_text,
    read_file,
)

ARRAYS = 'arrays'  # besides the weights: a safetensors file in base64


def encode_export(network: bytes, manifest: Mapping[str, Any], tensors: Tensors) -> bytes:
    """An ONNX file of the network, to which manifest (with its digest) and arrays of a model file are added."""
    from safetensors.numpy import save

    others = {name: values for name, values in tensors.items() if not name.startswith(WEIGHTS)}
    data = network + encode_metadata(MANIFEST, canonicalize(manifest))
    data += encode_metadata(ARRAYS, base64.b64encode(save(others)).decode())
    return data + _make_seal(data)


def is_export(file: Path) -> bool:
    """Whether a file begins as one that `encode_export` made; a pipe, which would block, is none."""
    try:
        if not file.is_file():
            return False
        with file.open('rb') as stream:
            return stream.read(len(START)) == START
    except OSError:
        return False


def decode_export(file: Path) -> tuple[Json, Tensors]:
    """The manifest, as plain JSON types, and the arrays of an export that is neither damaged nor altered.

    Raises ModelFileError as `format.decode` does.
    """
    data = read_file(file, START.startswith)
    body = data[: -len(_make_seal(b''))]
    if data != body + _make_seal(body):
        raise ModelFileError(f"'{file}' is damaged: it does not end with its SHA-256; copy the file again.")
    try:
        weights, metadata = read_model(body)
        if metadata.keys() != {MANIFEST, ARRAYS} or len(weights) > MAX_TENSORS:
            raise ValueError(f'it holds {len(weights)} arrays and the entries {sorted(metadata)}')
        others = base64.b64decode(metadata[ARRAYS], validate=True)
    except ValueError as error:
        raise ModelFileError(
            f"'{file}' is no export of a model ({shorten(error, 160)}); export the model again."
        ) from error
    manifest = parse_text(file, metadata[MANIFEST])
    header, size = parse_header(file, others)
    check_layout(file, header, size)
    named = {WEIGHTS + name: from_onnx(values) for name, values in weights.items()}
    check_finite(file, named)
    tensors = {**named, **load_tensors(file, others)}
    check_digest(file, manifest, tensors)
    return manifest, tensors


def _make_seal(data: bytes) -> bytes:
    """The last entry of the metadata, of a length that is always the same."""
    return encode_metadata(DIGEST, hashlib.sha256(data).hexdigest())
