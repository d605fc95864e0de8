"""The model file of a training, and its self-test replayed by a backend."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..backend import Backend, TrainedModel, load_backend
from ..config import Config
from ..errors import ModelFileError
from ..physics.scaling import InputScaler
from .manifest import Architecture, Description, Scaling, Training
from .opening import Model, open_model
from .probes import probe_digest
from .replaying import Predict, Replay, replay
from .self_test import SelfTest
from .training_range import TrainingRange
from .writing import write_model

if TYPE_CHECKING:
    from ..physics.prepare import PreparedScan

SELF_TEST_PATTERNS = 4


def write_trained_model(
    path: Path,
    backend: Backend,
    config: Config,
    prepared: PreparedScan,
    trained: TrainedModel,
    *,
    guess: NDArray[np.complex64] | None = None,
    others: Sequence[NDArray[np.complex64]] = (),
    sources: Sequence[str] = (),
    trained_for: TrainingRange | None = None,
) -> Path:
    """Write the file of a trained model; its self-test is replayed from disk before the file gets its name.

    `guess` is the probe that the training has refined, `others` are the probes of further scans, `sources` what was
    trained on, `trained_for` what the model is for (None: scans like `prepared`).
    """
    probe = trained.probes[0]
    counts = prepared.counts(np.linspace(0, len(prepared) - 1, SELF_TEST_PATTERNS).astype(np.int64))
    scaler = InputScaler(probe, patch_size=config.model.patch_size)
    fresh_weights = backend.fresh_weights(config, config.training.seed)
    patches, fresh = (
        backend.network(in_single_precision(config), weights, 'cpu').predict(*scaler.counts_to_input(counts))
        for weights in (trained.weights, fresh_weights)
    )
    try:
        description = Description(
            backend=backend.name,
            architecture=Architecture.of(
                config, stride=backend.stride, parameters=sum(int(values.size) for values in trained.weights.values())
            ),
            config=config,
            scaling=Scaling(
                probe_power=prepared.gauge.choice,
                power_ratio=float(prepared.gauge.ratio),
                mean_counts=float(prepared.scan.mean_counts),
                amplitude_unit=float(scaler.amplitude_unit),
                refined_from=None if guess is None else probe_digest(guess),
                other_probes=tuple(probe_digest(other) for other in others),
            ),
            training=describe_training(trained, len(prepared), sources),
            trained_for=trained_for or TrainingRange.of_scans(prepared),
            versions=backend.versions() | own_versions(),
            card=None,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = '.'.join(map(str, first['loc']))
        raise ModelFileError(
            f'The backend {backend.name} tells {place} = {first["input"]!r} of a training ({first["msg"]}), which no '
            'model file can hold; correct the backend.'
        ) from error
    return write_model(
        path,
        description,
        weights=trained.weights,
        probe=probe,
        self_test=SelfTest(counts, patches),
        fresh_patches=fresh,
        predict=predictor(backend),
    )


def describe_training(trained: TrainedModel, patterns: int, sources: Sequence[str]) -> Training:
    """What a model file says of its training."""
    known = {key: value for key, value in trained.summary.items() if key in Training.model_fields}
    return Training(
        **{
            'start_residual': None,
            'residual': None,
            'start_kept': None,
            **{key: _finite(value) for key, value in known.items()},
            'scans': tuple(sources),
            'patterns': patterns,
            'losses': tuple((int(epoch), float(loss)) for epoch, loss in trained.losses),
            'interrupted': trained.interrupted,
        }
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def own_versions() -> dict[str, str]:
    """Versions of this package, of Python and of numpy."""
    from .. import __version__

    return {'ptychopinn-reconstructor': __version__, 'python': platform.python_version(), 'numpy': np.__version__}


def predictor(backend: Backend, device: str = 'cpu') -> Predict:
    """A function of a model and counts (b, N, N) that gives the patches of a network built from the model alone."""

    def predict(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        network = backend.network(in_single_precision(model.config), model.weights, device)
        scaler = InputScaler(model.probe, patch_size=model.config.model.patch_size)
        return network.predict(*scaler.counts_to_input(counts))

    return predict


def in_single_precision(config: Config) -> Config:
    """The same configuration in single precision: a self-test must not depend on how the training was run."""
    return config.merged({'execution': {'precision': '32'}})


def verify_model(path: str | Path, backend: str | None = None) -> Replay:
    """Replay the self-test of a model file with the backend that wrote it, or another.

    Raises ModelFileError as `open_model` does, and VerificationError when the output differs from the recorded one by
    more than the tolerance.
    """
    model = open_model(path)
    return replay(Path(path), model, predictor(load_backend(backend or model.manifest.backend)))
