"""Small model files of a network with two weights, made and opened without any framework."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import backend_here

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.model_file.format import decode, encode
from ptychopinn_reconstructor.model_file.manifest import Architecture, Description, Scaling, Training
from ptychopinn_reconstructor.model_file.opening import Model, open_model
from ptychopinn_reconstructor.model_file.self_test import SelfTest
from ptychopinn_reconstructor.model_file.training_range import TrainingRange

N, MODES = 16, 2
ARRAYS = {'probe/real', 'probe/imag', 'selftest/counts', 'selftest/patches_real', 'selftest/patches_imag'}


def predict(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
    """A network of two weights, built from the model alone: a complex gain on the cropped amplitude, and a bias."""
    return two_weights(model.weights, counts)


def two_weights(weights: Mapping[str, NDArray[np.float32]], counts: NDArray[np.float32]) -> NDArray[np.complex64]:
    crop = np.sqrt(counts)[:, N // 4 : -N // 4, N // 4 : -N // 4]
    gain = weights['gain'][0] + 1j * weights['gain'][1]
    return np.asarray(crop * gain + weights['bias'] * 0.1, dtype=np.complex64)


def parts(seed: int = 0, **more: NDArray[np.float32]) -> dict[str, Any]:
    """What `write_model` takes besides the path; `more` weights have no effect on the output."""
    rng = np.random.default_rng(seed)
    weights = {
        'gain': rng.normal(size=2).astype(np.float32),
        'bias': np.float32(rng.normal()) * np.ones((), np.float32),
        'unused.kernel': rng.normal(size=(3, 2, 1, 5)).astype(np.float32),
        **more,
    }
    counts = rng.poisson(50.0, (3, N, N)).astype(np.float32)
    probe = (rng.normal(size=(MODES, N, N)) + 1j * rng.normal(size=(MODES, N, N))).astype(np.complex64)
    fresh = {'gain': np.array([0.1, 0.0], np.float32), 'bias': np.zeros((), np.float32)}
    config = Config().merged({'model': {'N': N}, 'data': {'train_data_file': 'scan.npz'}})
    return {
        'description': description(config, parameters=sum(weight.size for weight in weights.values())),
        'weights': weights,
        'probe': probe,
        'self_test': SelfTest(counts, two_weights(weights, counts), 1e-6),
        'fresh_patches': two_weights(fresh, counts),
        'predict': predict,
    }


def description(config: Config, *, parameters: int, **changes: Any) -> Description:
    """What a model file says of a training of two epochs."""
    values: dict[str, Any] = {
        'backend': backend_here(),
        'architecture': Architecture.of(config, stride=4, parameters=parameters),
        'config': config,
        'scaling': Scaling(
            probe_power='absolute',
            power_ratio=0.5,
            mean_counts=1e4,
            amplitude_unit=2.5,
            refined_from='0' * 64,
            other_probes=('f' * 64,),
        ),
        'training': Training(
            scans=('scan.npz',),
            patterns=100,
            epochs=2,
            patterns_seen=200,
            cpu_seconds=1.5,
            losses=((1, 0.25), (2, 1e-5)),
            device='cpu',
            monitor='val_loss',
            interrupted=False,
            start_residual=1.5,
            residual=0.5,
            start_kept=False,
        ),
        'trained_for': TrainingRange(counts=(1e4, 2e4), probe_power=(2e4, 2e4), overlap=(0.5, 0.75)),
        'versions': {'numpy': '2'},
        'card': 'Trained for the detector\u2019s 2 \u00b5m mode.',
    }
    return Description(**values | changes)


def forge(
    path: Path,
    edit: Callable[[dict[str, Any]], object] = lambda manifest: None,
    arrays: Callable[[dict[str, Any]], object] = lambda tensors: None,
) -> Path:
    """Change the manifest or the arrays and make the digest agree, as somebody would who wants to be believed."""
    manifest, tensors = decode(path)
    edit(manifest)
    arrays(tensors)
    path.write_bytes(encode(manifest, tensors))
    return path


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and what follows it."""
    length = int.from_bytes(data[:8], 'little')
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict[str, Any] | bytes, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + body


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    sentence = str(caught.value)
    assert sentence.endswith('.') and '\n' not in sentence and path.name in sentence, sentence
    return sentence
