"""Models as files, and the probe that goes with them: written, opened, verified, chosen.

A bundle is self-describing (bundle.py); this module says what of a training goes into it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel, load_backend
from ..config import Config, parse
from ..errors import ConfigError, ModelFileError, ScanError
from ..events import Notice
from ..physics.scaling import InputScaler
from ..scan import Scan
from .bundle import Bundle, Predict, SelfTest, VerifyReport, open_bundle, verify_bundle, write_bundle
from .training_range import Domain

if TYPE_CHECKING:
    from ..physics.prepare import PreparedScan

SELF_TEST_PATTERNS = 4
SAME_PROBE = 0.98  # normalized correlation above which two probes are the same
# What builds the network.
NETWORK_SETTINGS = ('N', 'n_filters_scale', 'amp_activation', 'amplitude_max', 'probe_big', 'pad_object')


def predictor(backend: Backend, device: str = 'cpu') -> Predict:
    """`predict(bundle, counts)` for writing and verifying bundles: patches from the bundle alone."""

    def predict(bundle: Bundle, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        config = bundle_config(bundle)
        network = backend.network(exact(config), bundle.weights, device)
        scaler = InputScaler(bundle.probe, patch_size=config.model.patch_size)
        return network.predict(*scaler.counts_to_input(counts))

    return predict


def exact(config: Config) -> Config:
    """The same configuration in single precision: a self-test must not depend on how the training was run."""
    return config.merged({'execution': {'precision': '32'}})


def bundle_config(bundle: Bundle) -> Config:
    """The configuration inside a bundle; ModelFileError when this version cannot read it."""
    try:
        return parse(bundle.manifest['config'])
    except ConfigError as error:
        raise ModelFileError(f'The configuration in the model bundle cannot be used: {error}') from error


def write_model(
    path: Path,
    backend: Backend,
    config: Config,
    prepared: PreparedScan,
    trained: TrainedModel,
    *,
    guess: NDArray[np.complex64] | None = None,
    others: Sequence[NDArray[np.complex64]] = (),
    sources: Sequence[str] = (),
    domain: Domain | None = None,
) -> Path:
    """Write the bundle of a trained model; its self-test is replayed from disk before the file gets its name.

    `guess` is the probe that the training has refined, `others` are the probes of further scans, `sources` what was
    trained on, `domain` what the model was trained for (None: scans like `prepared`).
    """
    probe = trained.probes[0]
    counts = prepared.counts(np.linspace(0, len(prepared) - 1, SELF_TEST_PATTERNS).astype(np.int64))
    scaler = InputScaler(probe, patch_size=config.model.patch_size)
    inputs = scaler.counts_to_input(counts)
    fresh_weights = backend.fresh_weights(config, config.training.seed)
    patches, fresh = (
        backend.network(exact(config), weights, 'cpu').predict(*inputs) for weights in (trained.weights, fresh_weights)
    )
    return write_bundle(
        path,
        config=config.to_json(),
        backend=backend.name,
        architecture={
            'name': config.model.architecture,
            **{key: getattr(config.model, key) for key in NETWORK_SETTINGS},
            'stride': backend.stride,
            'parameters': _parameters(trained),
        },
        weights=trained.weights,
        probe=probe,
        scaling={
            'probe_power': prepared.gauge.choice,
            'power_ratio': float(prepared.gauge.ratio),
            'mean_counts': prepared.scan.mean_counts,
            'amplitude_unit': scaler.amplitude_unit,
            'refined_from': None if guess is None else probe_digest(guess),
            'other_probes': [probe_digest(other) for other in others],
        },
        training={
            **trained.summary,
            'scans': list(sources),
            'model_type': config.model.model_type,
            'losses': [list(pair) for pair in trained.losses],
            'patterns': len(prepared),
            'domain': (domain or Domain.of_scans(prepared)).to_json(),
            'interrupted': trained.interrupted,
        },
        versions=backend.versions() | own_versions(),
        selftest=SelfTest(counts, patches),
        fresh_patches=fresh,
        predict=predictor(backend),
    )


def _parameters(trained: TrainedModel) -> int:
    return sum(int(values.size) for values in trained.weights.values())


def own_versions() -> dict[str, str]:
    """Versions of this package, of Python and of numpy."""
    from .. import __version__

    return {'ptychopinn-reconstructor': __version__, 'python': platform.python_version(), 'numpy': np.__version__}


def same_probe(a: Scan, b: Scan) -> bool:
    """Whether two scans come with the same probe, number by number: what is better for one is better for the other."""
    return a.probe is not None and b.probe is not None and np.array_equal(a.probe, b.probe)


def probe_digest(probe: NDArray[np.complex64]) -> str:
    """Identifies a probe as it stands in a file, whatever its container."""
    return hashlib.sha256(np.ascontiguousarray(probe, dtype=np.complex64).tobytes()).hexdigest()


def open_fitting(path: str | Path, config: Config) -> Bundle:
    """A bundle to train further; ModelFileError when its N or its network differs from the configuration's."""
    bundle = open_bundle(path)
    there = bundle_config(bundle).model
    for key in ('architecture', *NETWORK_SETTINGS):
        mine, other = getattr(config.model, key), getattr(there, key)
        if mine != other:
            raise ModelFileError(f'The model {path} has {key} = {other} but {mine} is asked for; set {key} to {other}.')
    return bundle


def choose_probe(
    scan: Scan, bundle: Bundle, given: NDArray[np.complex64] | None
) -> tuple[NDArray[np.complex64], Literal['given', 'scan', 'bundle'], list[Notice]]:
    """The probe of a reconstruction, where it is from, and warnings: the one given, the scan's, or the bundle's.

    A scan's own probe gives way to the bundle's when it is the guess that the training has refined.
    """
    if given is not None:
        return _fitting_probe(given, scan, bundle), 'given', _unlike(given, bundle, 'The probe given')
    if scan.probe is None:
        notice = Notice('probe_of_model', 'The scan has no probe: the one of the model is used.')
        return _fitting_probe(bundle.probe, scan, bundle), 'bundle', [notice]
    if probe_digest(scan.probe) == bundle.manifest['scaling'].get('refined_from'):
        text = "The scan's probe is the guess that the training refined: the refined probe of the bundle is used."
        return bundle.probe, 'bundle', [Notice('refined_probe', text)]
    return _fitting_probe(scan.probe, scan, bundle), 'scan', _unlike(scan.probe, bundle, "The scan's probe")


def likeness_of_another(probe: NDArray[np.complex64], bundle: Bundle) -> float | None:
    """The correlation of a probe (modes, N, N) with that of the training; None where it is one of the training's."""
    scaling = bundle.manifest['scaling']
    known = (scaling.get('refined_from'), *scaling.get('other_probes', ()))
    likeness = probe_likeness(probe, bundle.probe)
    return None if likeness >= SAME_PROBE or probe_digest(probe) in known else likeness


def _unlike(probe: NDArray[np.complex64], bundle: Bundle, what: str) -> list[Notice]:
    """A warning when a probe is not the one of the training."""
    likeness = likeness_of_another(probe, bundle)
    if likeness is None:
        return []
    text = (
        f'{what} differs from the one the model was trained with (correlation {likeness:.3f}); '
        'pass another with --probe FILE[:KEY] if that is not meant.'
    )
    return [Notice('probe_shape', text)]


def _fitting_probe(probe: NDArray[np.complex64], scan: Scan, bundle: Bundle) -> NDArray[np.complex64]:
    if probe.shape[1] != scan.n_pixels:
        raise ScanError(
            f'The probe is {probe.shape[1]} pixels wide but the patterns are {scan.n_pixels}; pass another.'
        )
    if len(probe) != len(bundle.probe):
        raise ModelFileError(
            f'The model was trained with {len(bundle.probe)} probe mode(s) but the probe here has {len(probe)}; '
            'pass a probe with as many modes, or train anew.'
        )
    return probe


def probe_likeness(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> float:
    """Normalized correlation of the strongest modes, 0 to 1, whatever their power and global phase."""
    one, two = (p[np.argmax((np.abs(p) ** 2).sum(axis=(1, 2)))].astype(np.complex128) for p in (a, b))
    return float(abs(np.vdot(one, two)) / (np.linalg.norm(one) * np.linalg.norm(two)))


def verify(path: str | Path, backend: str | None = None) -> VerifyReport:
    """Replay a bundle's self-test with the backend that wrote it, or another."""
    bundle = open_bundle(path)
    return verify_bundle(path, predictor(load_backend(backend or str(bundle.manifest['backend']))))
