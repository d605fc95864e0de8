"""The PyTorch backend: what is its own; what every backend must do is in ptychopinn_reconstructor/conformance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs

from ptychopinn_reconstructor.backend import Backend, load_backend
from ptychopinn_reconstructor.backend.batches import PROCEDURAL, make_steps
from ptychopinn_reconstructor.conformance.jobs import (
    draw_network_weights,
    make_config,
    make_job,
    make_mixed_job,
    make_prepared_scan,
    train,
)
from ptychopinn_reconstructor.errors import TrainingError
from ptychopinn_reconstructor.io.sealing import seal

pytestmark = needs('torch')
torch = lazy('torch')
module, training = (lazy(f'{BACKENDS}.torch_lightning.{name}') for name in ('module', 'training'))


@pytest.fixture(scope='module')
def backend() -> Backend:
    return load_backend('torch')


OPEN = """
import sys, numpy as np, torch
from ptychopinn_reconstructor.backends.torch_lightning.module import PtychoPINN
module = PtychoPINN.load_from_checkpoint(sys.argv[1]).eval()
data = np.load(sys.argv[2])
with torch.no_grad():
    patches = module(torch.from_numpy(data['root4']), torch.from_numpy(data['back'])).numpy()
np.savez(sys.argv[3], patches=patches, probe=module.current_probes()[0].detach().numpy())
"""


def test_checkpoint_describes_itself(tmp_path: Path, backend: Backend) -> None:
    """CHECKPOINT: readable with weights_only, plain JSON inside, rebuilt from the path alone."""
    asked = make_job(backend, tmp_path, training__probe_trainable=True)
    trained = backend.train(asked)
    path = tmp_path / 'checkpoints' / 'best.ckpt'
    content = torch.load(path, weights_only=True)
    assert json.loads(json.dumps(content['hyper_parameters'])) == content['hyper_parameters']
    assert content['hyper_parameters']['config'] == asked.config.to_json()
    data = asked.scans[0].patterns(np.arange(4))
    rebuilt = module.PtychoPINN.load_from_checkpoint(path).eval()
    with torch.no_grad():
        patches = rebuilt(torch.from_numpy(data.root4), torch.from_numpy(data.backprojection)).numpy()
    expected = backend.network(asked.config, trained.weights, 'cpu').predict(data.root4, data.backprojection)
    assert np.abs(patches - expected).max() < 1e-6
    assert np.array_equal(rebuilt.current_probes()[0].detach().numpy(), trained.probes[0])


@pytest.mark.slow
def test_checkpoint_opens_in_another_process(tmp_path: Path, backend: Backend) -> None:
    """CHECKPOINT: with nothing but the module that describes the network imported."""
    asked = make_job(backend, tmp_path, training__probe_trainable=True)
    trained, path = backend.train(asked), tmp_path / 'checkpoints' / 'best.ckpt'
    data = asked.scans[0].patterns(np.arange(4))
    np.savez(tmp_path / 'in.npz', root4=data.root4, back=data.backprojection)
    arguments: list[str | Path] = [sys.executable, '-P', '-c', OPEN, path, tmp_path / 'in.npz', tmp_path / 'out.npz']
    subprocess.run(arguments, check=True, cwd=tmp_path)
    found = np.load(tmp_path / 'out.npz')
    expected = backend.network(asked.config, trained.weights, 'cpu').predict(data.root4, data.backprojection)
    assert np.abs(found['patches'] - expected).max() < 1e-6
    assert np.array_equal(found['probe'], trained.probes[0])


def test_a_loss_that_is_not_finite_overwrites_no_checkpoint(tmp_path: Path, backend: Backend) -> None:
    """NANSAFE, B40: a network that has diverged ends the training with a sentence; the files stay byte by byte."""
    train(backend, tmp_path)
    last, best = (tmp_path / 'checkpoints' / name for name in ('last.ckpt', 'best.ckpt'))
    content = torch.load(last, weights_only=True)
    for name, values in content['state_dict'].items():
        if name.startswith('network.'):
            values *= 1e12
    torch.save(content, last)
    seal(last)
    before = last.read_bytes(), best.read_bytes()
    with pytest.raises(TrainingError, match='lower learning_rate'):
        train(backend, tmp_path, training__nepochs=4, resume=True)
    assert (last.read_bytes(), best.read_bytes()) == before


def test_the_first_step_after_a_resume_has_the_new_rate(tmp_path: Path, backend: Backend) -> None:
    """The remedy that NANSAFE's error names works at once: Lightning restores the old rate for one step."""
    constant = {'training__scheduler': 'constant', 'data__validation_fraction': 0}
    first = train(backend, tmp_path, **constant)
    further = train(backend, tmp_path, resume=True, training__nepochs=4, training__learning_rate=1e-6, **constant)
    moved = max(float(np.abs(first.weights[k] - further.weights[k]).max()) for k in first.weights)
    assert 0 < moved < 2e-5


def test_half_precision_changes_patches_by_rounding_only(backend: Backend) -> None:
    """B29: whole trainings in half precision are compared by conformance."""
    plain, half = (make_config(backend, execution__precision=kind) for kind in ('32', 'bf16-mixed'))
    weights, data = draw_network_weights(backend, plain), make_prepared_scan(backend).patterns(np.arange(4))
    one, two = (backend.network(c, weights, 'cpu').predict(data.root4, data.backprojection) for c in (plain, half))
    away = np.abs(two - one).max() / np.abs(one).max()
    assert two.dtype == np.complex64 and 1e-6 < away < 0.1


@pytest.mark.slow
def test_tensorboard_is_written_on_request(tmp_path: Path, backend: Backend) -> None:
    """LOGGER: tensorboard on request; nothing of it otherwise. Its writer imports TensorFlow."""
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    train(backend, tmp_path, execution__logger_backend='tensorboard', training__nepochs=1)
    assert list(tmp_path.glob('tensorboard/**/events.*'))


def test_labels_do_not_train_the_probe(tmp_path: Path, backend: Backend) -> None:
    """S10: where there are labels the probe is a weight of the loss; the likelihood of the same training moves it."""
    import torch

    from ptychopinn_reconstructor.backends.torch_lightning.data import StepData
    from ptychopinn_reconstructor.backends.torch_lightning.training import build_module

    asked = make_mixed_job(backend, tmp_path)
    steps, module = make_steps(asked), build_module(asked)
    for simulated in (True, False):
        step = next(step for step in steps.draw_epoch(0) if (step.scan == PROCEDURAL) is simulated)
        module.zero_grad()
        torch.autograd.backward(module._loss(StepData(steps)[step]))
        assert module.probe_change is not None and module.log_scale is not None
        assert (module.probe_change.grad is None) is (module.log_scale.grad is None) is simulated
        assert max(float(each.grad.abs().max()) for each in module.network.parameters() if each.grad is not None) > 0


def test_the_probe_keeps_its_momentum_in_a_step_with_labels(tmp_path: Path, backend: Backend) -> None:
    """S10, B28: AdamW leaves out what has no gradient; with one of 0 the probe goes on, as it does in TensorFlow."""
    found = training.build_module(make_mixed_job(backend, tmp_path))
    found._trainer = SimpleNamespace(estimated_stepping_batches=10)
    optimizer = found.configure_optimizers()['optimizer']
    places = []
    for gradient in (torch.ones_like(found.probe_change), None):
        found.probe_change.grad = gradient
        found.on_before_optimizer_step(optimizer)
        assert found.log_scale.grad is not None and not found.log_scale.grad.any()
        optimizer.step()
        places.append(float(found.probe_change.flatten()[0].detach()))
    m, v = 0.9 * 0.1 / (1 - 0.9**2), 0.99 * 0.01 / (1 - 0.99**2)
    assert places[1] / places[0] == pytest.approx(1 + m / v**0.5, rel=1e-4)
