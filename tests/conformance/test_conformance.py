"""The conformance suite over every registered backend, in a foreign project, and over backends that are broken."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans import backend_here

from ptychopinn_reconstructor.backend import TrainingJob, find_missing_modules, load_backend
from ptychopinn_reconstructor.conformance import BackendConformance, oracle
from ptychopinn_reconstructor.conformance.jobs import draw_test_weights
from ptychopinn_reconstructor.conformance.runs import Run, Runs
from ptychopinn_reconstructor.conformance.training import CASES, NOT_ALONE, make_loss_job
from ptychopinn_reconstructor.errors import DeviceError, ModelFileError

pytest_plugins = ['ptychopinn_reconstructor.conformance.plugin', 'slow_with_tensorflow']


class TestBackends(BackendConformance):
    """B1 to B43, by their effect, over every registered backend whose framework is installed."""


@pytest.fixture
def inner(backend_name: str) -> Any:
    """A sound backend to build a broken one on."""
    return load_backend(backend_name)


class Broken:
    """A backend with a fault: everything else is the sound one's."""

    def __init__(self, sound: Any, **faults: Callable[..., Any]) -> None:
        self._sound = sound
        for name, fault in faults.items():
            setattr(self, name, lambda *a, _fault=fault, **k: _fault(sound, *a, **k))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sound, name)


def knows_its_neighbors(sound: Any, *arguments: Any) -> Any:
    """A normalization over the batch was left in."""

    def predict(root4: Any, backprojection: Any) -> Any:
        patches = network.predict(root4, backprojection)
        return patches + np.complex64(1e-3) * patches[0]

    network = sound.network(*arguments)
    return Broken(network, predict=lambda _, *a: predict(*a))


def fills_what_is_missing(sound: Any, config: Any, weights: Any, device: str) -> Any:
    """Weights that do not fit are left as drawn."""
    try:
        return sound.network(config, weights, device)
    except ModelFileError:
        fresh = sound.draw_weights(config, 0)
        return sound.network(config, {k: v for k, v in (fresh | weights).items() if k in fresh}, device)


def falls_back(sound: Any, device: str) -> str:
    """A device that is not there becomes the CPU."""
    try:
        return str(sound.resolve_device(device))
    except DeviceError:
        return 'cpu'


def other_settings(**changes: Any) -> Callable[..., Any]:
    """A training that ignores what was set."""

    def train(sound: Any, job: TrainingJob) -> Any:
        return sound.train(replace(job, config=job.config.merged(changes)))

    return train


def moves_the_probe(sound: Any, job: TrainingJob) -> Any:
    """A probe that comes back rescaled."""
    trained = sound.train(job)
    return replace(trained, probes=tuple(probe * np.float32(1.01) for probe in trained.probes))


def swallows(sound: Any, job: TrainingJob) -> Any:
    """Exceptions of the caller are caught."""
    try:
        return sound.train(job)
    except Exception:
        return None


def trains_on_everything(sound: Any, job: TrainingJob) -> Any:
    """The held-out patterns are trained on as well."""
    whole = tuple(split._replace(training=np.union1d(*split)) for split in job.splits)
    return sound.train(replace(job, splits=whole))


def shows_another_network(sound: Any, job: TrainingJob) -> Any:
    """What is inspected is not the network in training."""
    fresh = sound.network(job.config, sound.draw_weights(job.config, 0), 'cpu')
    return sound.train(replace(job, inspect=lambda _: job.inspect(fresh) if job.inspect else None))


def is_disturbed(sound: Any, job: TrainingJob) -> Any:
    """Whoever looks has other regions drawn."""
    other = job.config.merged({'training': {'seed': 3}})
    return sound.train(replace(job, config=other) if job.inspect else job)


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_every_setting_of_a_case_matters(inner: Any, tmp_path: Path, case: str) -> None:
    """SETTINGS: without it NumPy gives another loss, so that a backend that ignores it is found out."""
    whole = make_loss_job(inner, tmp_path, case)
    weights = draw_test_weights(oracle.shapes(whole.config))

    def differs(job: TrainingJob) -> bool:
        losses = [oracle.compute_epoch_losses(one.scans, one.splits, one.config, weights)[0] for one in (job, whole)]
        return losses[0] != pytest.approx(losses[1], rel=2e-4)

    for key in CASES[case][0].keys() - NOT_ALONE:
        assert differs(make_loss_job(inner, tmp_path, case, key)), key
    first = whole.scans[0]
    for scan in (replace(first, background=None), replace(first, intensity=None)) if 'background' in case else ():
        assert differs(replace(whole, scans=(scan,)))


LOSS = 'test_the_loss_is_that_of_the_reference'
EQUAL = 'test_equal_jobs_give_equal_weights'
PLAIN, GRIDSIZE_2 = list(CASES)[:2]
FAULTS: list[tuple[str, dict[str, Callable[..., Any]], dict[str, Any]]] = [
    ('test_the_batch_size_changes_no_patch', {'network': knows_its_neighbors}, {'gridsize': 5}),
    ('test_a_patch_depends_on_its_pattern_only', {'network': knows_its_neighbors}, {}),
    ('test_weights_that_do_not_fit_are_refused', {'network': fills_what_is_missing}, {'fault': 'missing'}),
    ('test_fresh_weights_are_drawn_from_the_seed', {'draw_weights': lambda s, c, _: s.draw_weights(c, 0)}, {}),
    ('test_a_device_that_is_not_there_is_refused', {'resolve_device': falls_back}, {'device': 'cuda:99'}),
    ('test_devices_are_listed_and_resolved', {'devices': lambda _: ['gpu', 'cpu']}, {}),
    (LOSS, {'train': moves_the_probe}, {'case': PLAIN}),
    (LOSS, {'train': trains_on_everything}, {'case': PLAIN}),
    (LOSS, {'train': other_settings(model={'object_big': False})}, {'case': GRIDSIZE_2}),
    ('test_gradients_are_clipped_by_norm', {'train': other_settings(training={'gradient_clip_val': 1.0})}, {}),
    (EQUAL, {'train': other_settings(training={'seed': 3})}, {}),
    ('test_an_exception_of_the_caller_reaches_the_caller', {'train': swallows}, {'where': 'epoch'}),
    ('test_the_network_is_seen_as_it_stands_after_every_epoch', {'train': shows_another_network}, {}),
    (EQUAL, {'train': is_disturbed}, {}),
    (
        'test_the_best_epoch_is_returned_not_the_last',
        {'train': other_settings(training={'early_stop_patience': 1})},
        {'monitor': 'val_loss'},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize('number', range(len(FAULTS)))
def test_a_broken_backend_is_found_out(
    inner: Any, sound: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    """Each fault is planted into a sound backend; a check that finds nothing is no check."""
    check, faults, arguments = FAULTS[number]
    method = getattr(BackendConformance(), check)
    broken: Any = Broken(inner, **faults)
    runs = Runs(broken, tmp_path, {repr([]): sound})
    offered = {'backend': broken, 'tmp_path': tmp_path, 'conformance_runs': runs, 'capfd': capfd, **arguments}
    offered['conformance_architecture'] = 's2d_unet'
    asked = inspect.signature(method).parameters
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        method(**{name: value for name, value in offered.items() if name in asked})


@pytest.fixture(scope='module')
def sound(backend_name: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The reference run of the sound backend, which the checks compare with."""
    return Runs(load_backend(backend_name), tmp_path_factory.mktemp('sound')).reference


PROJECT = {
    'conftest.py': "pytest_plugins = ['ptychopinn_reconstructor.conformance.plugin']\n",
    'test_mine.py': (
        'from ptychopinn_reconstructor.conformance import BackendConformance\n\n\n'
        "class TestMine(BackendConformance):\n    backend_name = ''\n"
    ),
    'mine.py': (
        'from ptychopinn_reconstructor.backend import ALL_CAPABILITIES, BackendDescription, Capability\n'
        'from ptychopinn_reconstructor.backend import describe, load_backend\n\n'
        'NETWORKS = describe({base!r}).architectures\n'
        'ABLE = ALL_CAPABILITIES\n'
        "DESCRIPTION = BackendDescription('mine', 'Mine', (), 'mine', 'mine:Mine', NETWORKS, capabilities=ABLE)\n\n\n"
        'class Mine:\n'
        "    name, title = 'mine', 'Mine'\n\n"
        '    def __getattr__(self, name):\n'
        '        return getattr(load_backend({base!r}), name)\n\n'
        '    def versions(self):\n'
        "        return {{'mine': 'unknown'}}\n"
    ),
    'mine-1.dist-info/METADATA': 'Metadata-Version: 2.1\nName: mine\nVersion: 1\n',
    'mine-1.dist-info/entry_points.txt': '[ptychopinn_reconstructor.backends]\nmine = mine:DESCRIPTION\n',
}
BLOCKED = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] == {module!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Refuse)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a backend of its own, and nothing but what specs/conformance.md asks for."""
    base = backend_here()
    if find_missing_modules(base):
        pytest.skip('no backend is installed')
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.format(base=base) if name == 'mine.py' else text)
    return tmp_path


def pytest_in(project: Path, *arguments: str) -> str:
    """What pytest prints in a process of its own, in a project that sees our package as installed."""
    command = [sys.executable, '-P', '-m', 'pytest', '-p', 'no:cacheprovider', '--strict-markers', '-v', *arguments]
    environment = {**os.environ, 'PYTHONPATH': str(project)}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + done.stderr


def name_mine(project: Path) -> None:
    """Let the project's checks run over its own backend alone."""
    checks = project / 'test_mine.py'
    checks.write_text(checks.read_text().replace("''", "'mine'"))


@pytest.mark.slow
def test_every_registered_backend_is_covered_or_skipped_with_its_reason(project: Path) -> None:
    """None disappears because its framework is not installed; a foreign one is among them."""
    other, module = ('tensorflow', 'tensorflow') if backend_here() == 'torch' else ('torch', 'torch')
    with (project / 'conftest.py').open('a') as conftest:
        conftest.write(BLOCKED.format(module=module))
    said = pytest_in(project, '-k', 'who_it_is', '-rs')
    assert '3 passed, 1 skipped' in said, said
    assert f'test_it_says_who_it_is[{other}] SKIPPED' in said
    assert f'the backend {other} needs {module}' in ' '.join(said.split())
    assert 'test_it_says_who_it_is[mine] PASSED' in said


@pytest.mark.slow
def test_what_a_toy_leaves_out_is_skipped_with_its_reason(project: Path) -> None:
    """B46: the checks that need it alone; and the package refuses it, though the backend under it could do it."""
    name_mine(project)
    text = (project / 'mine.py').read_text()
    (project / 'mine.py').write_text(text.replace('ABLE = ALL_CAPABILITIES', 'ABLE = {Capability.TRAINING}'))
    chosen = 'what_it_leaves_out or adamw or keeps_its_power or to_resume or supervised_learns or that_is_slow'
    said = ' '.join(pytest_in(project, '-rs', '-k', chosen).split())
    assert '2 passed, 4 skipped' in said and 'test_what_it_leaves_out_is_refused[mine] PASSED' in said, said
    for left_out in ('resuming a training', 'learning from known objects', 'training the probe', 'half precision'):
        assert f'the Mine backend leaves out {left_out}' in said


@pytest.mark.slow
def test_a_foreign_project_runs_the_checks_over_its_backend(project: Path) -> None:
    """`pytest_plugins` and a class are enough; a failing check shows its values."""
    name_mine(project)
    said = pytest_in(project, '-k', 'neutral_layout or versions_name or who_it_is')
    assert '1 failed, 4 passed' in said, said
    assert 'test_versions_name_the_framework[mine] FAILED' in said
    assert 'E       assert False' in said and 'where False = all(' in said  # assertions are rewritten
