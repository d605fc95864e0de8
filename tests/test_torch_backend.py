"""The PyTorch backend: training, checkpoints, resume, accumulation, devices, weights, settings."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import small_scan

from ptychopinn_reconstructor.backend import Backend, TrainedModel, TrainingJob, load_backend
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import BundleError, ConfigError, DeviceError, TrainingError
from ptychopinn_reconstructor.events import Event
from ptychopinn_reconstructor.physics.forward import diffract, poisson_loss
from ptychopinn_reconstructor.physics.grouping import hold_out
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.stitching import EPSILON_WEIGHT, contributions, probe_weight, shifted_weight

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
pytest.importorskip('lightning', reason='Lightning is not installed')


@cache
def prepared(modes: int = 1) -> PreparedScan:
    return prepare_scan(small_scan(modes=modes), stride=16)


def backend() -> Backend:
    return load_backend('torch')


def config_of(**changes: Any) -> Config:
    """A configuration for two short epochs; `changes` are 'section__field' values."""
    training = {'nepochs': 2, 'batch_size': 16}
    values: dict[str, dict[str, Any]] = {'model': {'N': 32}, 'training': training, 'execution': {'device': 'cpu'}}
    for key, value in changes.items():
        section, field = key.split('__')
        values.setdefault(section, {})[field] = value
    return Config().merged(values)


def job_of(folder: Path, scan: PreparedScan | None = None, **changes: Any) -> TrainingJob:
    config = config_of(**{k: v for k, v in changes.items() if '__' in k})
    scan = scan or prepared()
    split = hold_out(scan.positions, config.data.validation_fraction, 8, config.training.seed)
    rest = {k: v for k, v in changes.items() if '__' not in k}
    return TrainingJob((scan,), (split,), config, folder, **rest)


def train(folder: Path, scan: PreparedScan | None = None, **changes: Any) -> TrainedModel:
    return backend().train(job_of(folder, scan, **changes))


def distance(a: TrainedModel, b: TrainedModel) -> float:
    return max(float(np.abs(a.weights[name] - b.weights[name]).max()) for name in a.weights)


def test_training_learns(tmp_path: Path) -> None:
    """The likelihood of a trained network is far below that of the empty object it starts from."""
    losses = [value for _, value in train(tmp_path, training__nepochs=15).losses]
    assert losses[-1] < 0.5 * losses[0]


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    one, two, other = (
        train(tmp_path / name, training__seed=seed, training__nepochs=1)
        for name, seed in (('a', 0), ('b', 0), ('c', 1))
    )
    assert distance(one, two) == 0.0
    assert distance(one, other) > 1e-2


class StopAfter:
    """Asks to stop at the n-th question."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize('batches', [2, 9])
def test_a_stopped_training_resumes_to_the_same_weights(tmp_path: Path, batches: int) -> None:
    """Stopped in the first epoch or in a later one, the resumed run ends where the undisturbed one does."""
    whole = train(tmp_path / 'whole', training__nepochs=3)
    stopped = train(tmp_path / 'parts', training__nepochs=3, should_stop=StopAfter(batches))
    assert stopped.interrupted and len(stopped.losses) < 3
    resumed = train(tmp_path / 'parts', training__nepochs=3, resume=True)
    assert resumed.losses == whole.losses
    assert distance(resumed, whole) == 0.0


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match='nothing to resume'):
        train(tmp_path, resume=True)


def test_accumulated_gradients_equal_the_large_batch(tmp_path: Path) -> None:
    """ACCUM: two batches of one region step like one batch of two."""
    large = train(tmp_path / 'a', training__nepochs=1)
    small = train(tmp_path / 'b', training__batch_size=8, training__accum_steps=2, training__nepochs=1)
    assert distance(large, small) < 2e-5
    fewer = train(tmp_path / 'c', training__batch_size=8, training__nepochs=1)
    assert distance(large, fewer) > 1e-3


CHANGES: dict[str, Any] = {
    'model__gridsize': 3,
    'model__amp_activation': 'softplus',
    'model__amplitude_max': 1.5,
    'model__object_big': False,
    'data__n_groups': 5,
    'data__neighbor_count': 3,
    'data__sequential_sampling': True,
    'training__batch_size': 8,
    'training__mae_weight': 1.0,
    'training__nll_weight': 0.0,
    'training__probe_trainable': True,
    'training__intensity_scale_trainable': True,
    'training__learning_rate': 1e-3,
    'training__scheduler': 'constant',
    'training__gradient_clip_val': 0.01,
}


@pytest.fixture(scope='module')
def reference(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return train(tmp_path_factory.mktemp('reference'))


@pytest.mark.parametrize('key', CHANGES)
def test_every_setting_changes_the_trained_weights(tmp_path: Path, reference: TrainedModel, key: str) -> None:
    """SETTINGS: a setting that a user can reach has an effect on what is learnt."""
    values = {key: CHANGES[key]} | ({'training__mae_weight': 1.0} if key == 'training__nll_weight' else {})
    changed = train(tmp_path, **values)
    assert distance(changed, reference) > 1e-4


def test_width_scales_with_n_filters_scale() -> None:
    """SETTINGS: n_filters_scale multiplies the channel widths (32, 48, 64 at 2)."""
    narrow, wide = (backend().fresh_weights(config_of(model__n_filters_scale=scale), 0) for scale in (1, 2))
    assert narrow['stem.kernel'].shape == (3, 3, 24, 16)
    assert wide['stem.kernel'].shape == (3, 3, 24, 32)
    assert wide['middle.conv1.kernel'].shape == (3, 3, 64, 64)


@pytest.mark.parametrize('activation', ['sigmoid', 'swish', 'softplus', 'relu'])
def test_amplitude_starts_at_one(activation: str) -> None:
    """Each amplitude activation is 1 at 0, where training starts."""
    from ptychopinn_reconstructor.backends.torch_lightning.network import AMPLITUDES

    for top in (1.2, 2.0, 5.0):
        assert float(AMPLITUDES[activation](torch.zeros(()), top)) == pytest.approx(1.0, abs=1e-6)


def test_probe_and_scale_move_when_trainable_and_keep_their_bounds(tmp_path: Path) -> None:
    """AMPLITUDE: a trained probe keeps its power; a trained scale stays within 5 % and is folded into the probe."""
    before = prepared().probe
    power = float((np.abs(before) ** 2).sum())
    moved = train(tmp_path / 'p', training__probe_trainable=True).probes[0]
    assert np.abs(moved - before).max() > 1e-4 * np.abs(before).max()
    assert float((np.abs(moved) ** 2).sum()) == pytest.approx(power, rel=1e-5)
    scaled = train(tmp_path / 's', training__intensity_scale_trainable=True, training__learning_rate=0.1).probes[0]
    factor = np.vdot(before, scaled) / np.vdot(before, before)
    assert np.abs(scaled - factor * before).max() < 1e-5 * np.abs(before).max()
    assert 1e-5 < abs(np.log(abs(factor))) <= 0.05 + 1e-6


def test_checkpoint_describes_itself(tmp_path: Path) -> None:
    """CHECKPOINT: readable with weights_only, plain JSON settings, rebuilt from the path alone in a new process."""
    trained = train(tmp_path, training__probe_trainable=True)
    path = tmp_path / 'checkpoints' / 'best.ckpt'
    content = torch.load(path, weights_only=True)
    assert json.loads(json.dumps(content['hyper_parameters'])) == content['hyper_parameters']
    data = prepared().patterns(np.arange(4))
    np.savez(tmp_path / 'inputs.npz', root4=data.root4, back=data.backprojection)
    code = (
        'import sys, numpy as np, torch\n'
        'from ptychopinn_reconstructor.backends.torch_lightning.module import PtychoPINN\n'
        'module = PtychoPINN.load_from_checkpoint(sys.argv[1]).eval()\n'
        'data = np.load(sys.argv[2])\n'
        'with torch.no_grad():\n'
        "    patches = module(torch.from_numpy(data['root4']), torch.from_numpy(data['back'])).numpy()\n"
        'np.savez(sys.argv[3], patches=patches, probe=module.current_probes()[0].detach().numpy())\n'
    )
    subprocess.run(
        [sys.executable, '-c', code, path, tmp_path / 'inputs.npz', tmp_path / 'outputs.npz'], check=True, cwd=tmp_path
    )
    found = np.load(tmp_path / 'outputs.npz')
    expected = backend().network(config_of(), trained.weights, 'cpu').predict(data.root4, data.backprojection)
    assert np.abs(found['patches'] - expected).max() < 1e-6
    assert np.array_equal(found['probe'], trained.probes[0])


def test_weights_round_trip_and_refuse_what_does_not_fit() -> None:
    """BADLOAD: missing, superfluous or misshapen weights are an error; right ones give the same output."""
    config = config_of()
    weights = backend().fresh_weights(config, 5)
    data = prepared().patterns(np.arange(3))
    network = backend().network(config, weights, 'cpu')
    from ptychopinn_reconstructor.backends.torch_lightning.weights import to_neutral

    again = to_neutral(network.network)  # type: ignore[attr-defined]
    assert all(np.array_equal(again[name], weights[name]) for name in weights)
    other = backend().network(config, backend().fresh_weights(config, 6), 'cpu')
    outputs = [n.predict(data.root4, data.backprojection) for n in (network, other)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3
    for bad, words in (
        ({k: v for k, v in weights.items() if k != 'enc1.conv1.kernel'}, 'lack enc1.conv1.kernel'),
        ({**weights, 'more': np.zeros(1, np.float32)}, 'unknown more'),
        ({**weights, 'head.bias': np.zeros(3, np.float32)}, r'head.bias have shape \(3,\)'),
    ):
        with pytest.raises(BundleError, match=words):
            backend().network(config, bad, 'cpu')


def neutral_convolution(image: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """3 x 3 convolution of (h, w, in) by (3, 3, in, out), written down directly."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    h, w, _ = image.shape
    terms = [padded[i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3)]
    return np.asarray(bias + np.sum(terms, axis=0))


def test_neutral_layout_is_row_column_channel() -> None:
    """checkpoint_format: the stem applied by hand in the neutral layout gives what PyTorch's stem gives."""
    weights = backend().fresh_weights(config_of(), 7)
    data = prepared().patterns(np.arange(1))
    g = 32 // 4
    root4 = data.root4[0].reshape(g, 4, g, 4).transpose(0, 2, 1, 3).reshape(g, g, 16)
    back = data.backprojection[0].transpose(1, 2, 0).reshape(g, 2, g, 2, 2).transpose(0, 2, 1, 3, 4).reshape(g, g, 8)
    expected = neutral_convolution(np.concatenate([root4, back], axis=2), weights['stem.kernel'], weights['stem.bias'])
    network: Any = backend().network(config_of(), weights, 'cpu')
    caught: list[Any] = []
    network.network.stem.register_forward_hook(lambda module, inputs, output: caught.append(output))
    network.predict(data.root4, data.backprojection)
    assert np.abs(caught[0][0].permute(1, 2, 0).numpy() - expected).max() < 1e-5


def test_prediction_does_not_depend_on_the_batch() -> None:
    data = prepared().patterns(np.arange(33))
    network = backend().network(config_of(), backend().fresh_weights(config_of(), 1), 'cpu')
    whole = network.predict(data.root4, data.backprojection)
    for size in (1, 2, 7, 16):
        parts = [
            network.predict(data.root4[i : i + size], data.backprojection[i : i + size]) for i in range(0, 33, size)
        ]
        assert np.abs(np.concatenate(parts) - whole).max() < 1e-5


@pytest.mark.parametrize('device', ['cuda:99', 'gpu:7', 'tpu', ''])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    """DEVICE: the error names the value and the devices that are there."""
    with pytest.raises(DeviceError, match='cpu'):
        backend().resolve_device(device)


@pytest.mark.parametrize('modes', [1, 3])
def test_the_loss_of_a_batch_equals_the_oracle(modes: int) -> None:
    """Patches alone on their canvas: the module's loss is the oracle's for canvases stitched by numpy."""
    from ptychopinn_reconstructor.backends.torch_lightning.data import StepData
    from ptychopinn_reconstructor.backends.torch_lightning.training import new_module
    from ptychopinn_reconstructor.steps import Step

    scan = prepared(modes)
    module = new_module(job_of(Path(), scan, model__object_big=False))
    index = np.arange(6, dtype=np.int64)
    batch = StepData((scan,), False)[Step(0, index[:, None])]
    rng = np.random.default_rng(0)
    patches = np.exp(0.2 * (rng.normal(size=(6, 16, 16)) + 1j * rng.normal(size=(6, 16, 16)))).astype(np.complex64)
    found = float(module._likelihood(torch.from_numpy(patches), batch, module.current_probes()[batch.scan][:, None]))
    eps = EPSILON_WEIGHT * probe_weight(scan.probe).max()
    windows = np.ones((6, 32, 32), dtype=complex)
    fractions = scan.layout.fractions[index]
    u = contributions(patches, probe_weight(scan.probe), fractions)
    windows[:, 8:24, 8:24] = (u + eps) / (shifted_weight(scan.probe, fractions) + eps)
    expected = poisson_loss(diffract(scan.probe, windows, fractions), scan.counts(index))
    assert found == pytest.approx(expected, rel=1e-5)


def test_bad_pixels_do_not_reach_the_training(tmp_path: Path) -> None:
    """Arbitrary values in bad pixels change neither the loss nor the weights."""
    from dataclasses import replace

    scan = small_scan()
    bad = np.zeros((32, 32), dtype=bool)
    bad[3:5, 10:20] = bad[16, 16] = True
    patterns = np.array(scan.diffraction)
    patterns[:, bad] = 60_000
    scans = (replace(scan, bad_pixels=bad), replace(scan, bad_pixels=bad, diffraction=patterns))
    results = [
        train(tmp_path / str(i), prepare_scan(masked, stride=16), training__nepochs=1) for i, masked in enumerate(scans)
    ]
    assert distance(*results) == 0.0
    assert results[0].losses == results[1].losses


def test_supervised_learns_the_object(tmp_path: Path) -> None:
    losses = [value for _, value in train(tmp_path, model__model_type='supervised', training__nepochs=12).losses]
    assert losses[-1] < 0.6 * losses[0]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoints(tmp_path: Path) -> None:
    """NANSAFE: a network that has diverged ends the training with a sentence and overwrites no checkpoint."""
    train(tmp_path, training__nepochs=2)
    last, best = (tmp_path / 'checkpoints' / name for name in ('last.ckpt', 'best.ckpt'))
    content = torch.load(last, weights_only=True)
    for name, values in content['state_dict'].items():
        if name.startswith('network.'):
            values *= 1e12
    torch.save(content, last)
    before = last.read_bytes(), best.read_bytes()
    with pytest.raises(TrainingError, match='lower learning_rate'):
        train(tmp_path, training__nepochs=4, resume=True)
    assert (last.read_bytes(), best.read_bytes()) == before


def test_a_resumed_run_takes_its_own_learning_rate(tmp_path: Path) -> None:
    """The remedy that the error names works: resuming with a lower learning_rate lowers it."""
    rows: list[float] = []
    settings: dict[str, Any] = {'training__scheduler': 'constant', 'training__nepochs': 3}
    train(tmp_path, **settings)
    train(
        tmp_path,
        resume=True,
        training__learning_rate=1e-4,
        emit=lambda event: rows.append(event.data['learning_rate']) if event.kind == 'epoch' else None,
        **{**settings, 'training__nepochs': 5},
    )
    assert rows == [pytest.approx(1e-4)] * 2


def test_cpu_budget_ends_training_with_the_schedule_run_out(tmp_path: Path) -> None:
    """max_cpu_seconds: training ends well before nepochs and the learning rate has come down to its floor."""
    rows: list[dict[str, Any]] = []

    def emit(event: Event) -> None:
        if event.kind == 'epoch':
            rows.append(dict(event.data))

    trained = train(tmp_path, training__nepochs=1000, training__max_cpu_seconds=4.0, emit=emit)
    assert not trained.interrupted and len(trained.losses) < 1000
    assert rows[-1]['learning_rate'] <= 0.05 * 2e-3
    assert max(row['learning_rate'] for row in rows) > 1e-3


def test_early_stopping(tmp_path: Path) -> None:
    """With a learning rate too small to learn anything, patience 1 ends the training after few epochs."""
    trained = train(tmp_path, training__nepochs=30, training__early_stop_patience=1, training__learning_rate=1e-12)
    assert len(trained.losses) < 10


def test_top_k_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, training__nepochs=4, training__checkpoint_save_top_k=3)
    names = sorted(path.name for path in (tmp_path / 'checkpoints').iterdir())
    assert 'best.ckpt' in names and 'last.ckpt' in names
    assert sum(name.startswith('best-') for name in names) == 3


def test_tensorboard_is_written_on_request(tmp_path: Path) -> None:
    """LOGGER: tensorboard on request; nothing of it otherwise."""
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    train(tmp_path, execution__logger_backend='tensorboard', training__nepochs=1)
    assert list(tmp_path.glob('tensorboard/**/events.*'))


def test_a_missing_logger_names_the_remedy(tmp_path: Path) -> None:
    """LOGGER: MLflow is never required; asking for it without having it is a clear error."""
    import importlib.util

    if importlib.util.find_spec('mlflow') is not None:
        pytest.skip('MLflow is installed here')
    with pytest.raises(ConfigError, match='pip install mlflow'):
        train(tmp_path, execution__logger_backend='mlflow', training__nepochs=1)
