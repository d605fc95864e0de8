"""Writing the model file of a training, and replaying its self-test with a backend."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..backend import Backend, Network, TrainedModel, load_backend
from ..config import Config
from ..errors import ModelFileError, TrainingError, quote
from ..physics.scaling import InputScaler
from .manifest import Architecture, Description, Scaling, Training
from .opening import Model, open_model
from .probes import hash_probe
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
    Raises TrainingError for a network that gives zero whatever it sees.
    """
    probe = trained.probes[0]
    counts = prepared.counts(np.linspace(0, len(prepared) - 1, SELF_TEST_PATTERNS).astype(np.int64))
    scaler = InputScaler(probe, patch_size=config.model.patch_size)
    initial = backend.draw_weights(config, config.training.seed)
    patches, fresh = (
        backend.network(set_single_precision(config), weights, 'cpu').predict(*scaler.counts_to_input(counts))
        for weights in (trained.weights, initial)
    )
    if not patches.any():
        raise TrainingError(
            f'After {len(trained.losses)} epoch(s) the network gives zero for every pattern; train again '
            f'with a lower training.learning_rate (it was {config.training.learning_rate:g}) or another '
            f'training.seed (it was {config.training.seed}).'
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
                refined_from=None if guess is None else hash_probe(guess),
                other_probes=tuple(hash_probe(other) for other in others),
            ),
            training=describe_training(trained, len(prepared), sources),
            trained_for=trained_for or TrainingRange.of_scans(prepared),
            versions=backend.versions() | collect_versions(),
            card=None,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = '.'.join(map(str, first['loc']))
        raise ModelFileError(
            f'The backend {backend.name} tells {place} = {quote(first["input"])} of a training ({first["msg"]}), '
            'which no model file can hold; correct the backend.'
        ) from error
    return write_model(
        path,
        description,
        weights=trained.weights,
        probe=probe,
        self_test=SelfTest(counts, patches),
        fresh_patches=fresh,
        predict=make_predictor(backend),
    )


def describe_training(trained: TrainedModel, patterns: int, sources: Sequence[str]) -> Training:
    """Entry `training` of the manifest."""
    known = {key: value for key, value in trained.summary.items() if key in Training.model_fields}
    return Training(
        **{
            'start_residual': None,
            'residual': None,
            'start_kept': None,
            **{key: _drop_non_finite(value) for key, value in known.items()},
            'scans': tuple(sources),
            'patterns': patterns,
            'losses': tuple((int(epoch), float(loss)) for epoch, loss in trained.losses),
            'interrupted': trained.interrupted,
        }
    )


def _drop_non_finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def collect_versions() -> dict[str, str]:
    """Versions of this package, Python and numpy."""
    from .. import __version__

    return {'ptychopinn-reconstructor': __version__, 'python': platform.python_version(), 'numpy': np.__version__}


def make_predictor(backend: Backend, device: str = 'cpu') -> Predict:
    """Function that maps a model and counts (b, N, N) to the patches of a network built from the model alone."""

    def predict(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        network = backend.network(set_single_precision(model.config), model.weights, device)
        return apply_network(network, model, counts)

    return predict


def apply_network(network: Network, model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Patches (b, n, n) that a network gives for counts (b, N, N) under the model's probe."""
    scaler = InputScaler(model.probe, patch_size=model.config.model.patch_size)
    return network.predict(*scaler.counts_to_input(counts))


def check_before_use(path: Path, model: Model, network: Network, backend: Backend, device: str, precision: str) -> None:
    """Replay the self-test of a model that is about to be used: its hashes tell damage, but not who wrote it.

    `network` is the one in use, on `device` with `precision`; where it rounds otherwise than single precision on the
    CPU does, another one is built for that. Raises VerificationError when the recorded output is not reproduced.
    """
    exact = device == 'cpu' and precision == '32'
    replay(path, model, partial(apply_network, network) if exact else make_predictor(backend))


def set_single_precision(config: Config) -> Config:
    """Configuration in single precision, so that a self-test does not depend on the precision of the training."""
    return config.merged({'execution': {'precision': '32'}})


def verify_model(path: str | Path, backend: str | None = None) -> Replay:
    """Replay the self-test of a model file with the backend that wrote it, or another.

    Raises ModelFileError as `open_model` does, and VerificationError when the output differs from the recorded one by
    more than the tolerance.
    """
    model = open_model(path)
    return replay(Path(path), model, make_predictor(load_backend(backend or model.manifest.backend)))
