"""Finding and loading a backend, its devices, and what it leaves out: clauses B1 to B7, B10, B11, B45 and B46."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import (
    ALL_CAPABILITIES,
    Backend,
    Capability,
    describe,
    describe_backends,
    find_entry_points,
    load_backend,
    load_trainer,
    select_arrays,
)
from ..backend.capabilities import ASKING
from ..errors import BackendError, ConfigError, DeviceError
from ..physics.engine.options import RefineOptions
from ..physics.engine.refine import refine
from ..training.train import train
from . import jobs, oracle

LOADING = """
import importlib, json, logging, os, pkgutil, random, sys, warnings
import numpy as np
from ptychopinn_reconstructor import backend, physics

name, frameworks = sys.argv[1], sys.argv[2:]
before = set(sys.modules)
point = backend.find_entry_points()[name]
factory = backend.describe_backends()[name].backend.partition(':')[0]
backend.find_missing_modules(name)
early = sorted({factory, *frameworks} & (set(sys.modules) - before))
for framework in frameworks:
    try:
        importlib.import_module(framework)
    except ImportError:
        pass
for part in pkgutil.walk_packages(physics.__path__, 'ptychopinn_reconstructor.physics.'):
    importlib.import_module(part.name)  # scipy adds warning filters
before = set(sys.modules)

def state():
    root = logging.getLogger()
    return {
        'environment': dict(os.environ),
        'warning filters': str(warnings.filters),
        'logging': [root.level, str(root.handlers)],
        'random state': repr(random.getstate()),
        'random state of numpy': repr(np.random.get_state()),
        'folder': os.getcwd(),
    }

old = state()
first, second = backend.load_backend(name), backend.load_backend(name)
first.versions()
new = state()
allowed = {'backend', 'backends', 'config', 'errors', 'events', 'io', 'physics'} | {'patterns', 'result', 'scan'}
ours = [module.split('.') for module in set(sys.modules) - before if module.startswith('ptychopinn_reconstructor.')]
foreign = sorted({parts[1] for parts in ours} - allowed)
changed = [key for key in old if old[key] != new[key]]
print(json.dumps({'early': early, 'foreign': foreign, 'changed': changed, 'same': first is second}))
"""

REFUSED = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Refuse)
from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.errors import BackendError
try:
    print(load_backend(sys.argv[1]))
except BackendError as error:
    print(error)
"""


class InterfaceChecks:
    """Checks of finding, loading and naming a backend, and of its devices."""

    @pytest.mark.slow
    def test_loading_changes_nothing_in_the_process(
        self, conformance_backend: str, backend: Backend, tmp_path: Path
    ) -> None:
        """B1, B5, B6: listing imports nothing; loading gives a new object and leaves the process as it was."""
        done = jobs.run(['-c', LOADING, conformance_backend, *describe(conformance_backend).requires], tmp_path)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert found == {'early': [], 'foreign': [], 'changed': [], 'same': False}

    def test_without_its_framework_it_says_what_to_install(
        self, conformance_backend: str, backend: Backend, tmp_path: Path
    ) -> None:
        """B3: one sentence with the title and the pip command; no other backend in its place."""
        requires = describe(conformance_backend).requires
        if not requires:
            pytest.skip('it requires nothing')
        done = jobs.run(['-c', REFUSED, conformance_backend, *requires], tmp_path)
        assert done.returncode == 0, done.stderr
        (sentence,) = done.stdout.splitlines()
        assert f'{backend.title} backend selected' in sentence and 'pip install' in sentence

    def test_an_unknown_name_is_refused_with_those_there_are(self, conformance_backend: str) -> None:
        """B4: also for a name that is nearly right."""
        with pytest.raises(BackendError, match='selected') as error:
            load_backend(f'{conformance_backend}-2')
        assert all(name in str(error.value) for name in find_entry_points())

    def test_it_says_who_it_is(self, conformance_backend: str, backend: Backend) -> None:
        """B2, B5: name, title and stride, as in its description; the title loads the same backend."""
        described = describe_backends()[conformance_backend]
        assert backend.name == conformance_backend
        assert backend.title == described.title and described.architectures
        assert backend.stride >= 1
        assert type(load_backend(backend.title)) is type(backend)
        assert load_backend(conformance_backend) is not backend

    def test_versions_name_the_framework(self, backend: Backend) -> None:
        """B7: package to version text."""
        versions = backend.versions()
        assert versions
        assert all(text[0].isdigit() for text in versions.values())

    def test_devices_are_listed_and_resolved(self, backend: Backend) -> None:
        """B10: the CPU first; 'auto' is the first other one; names in either case; gpu:0 and cuda:0 are one."""
        devices = backend.devices()
        assert devices[0].lower() == 'cpu' and len(set(devices)) == len(devices)
        assert backend.resolve_device('auto') == backend.resolve_device(devices[min(1, len(devices) - 1)])
        for device in devices:
            resolved = backend.resolve_device(device)
            assert backend.resolve_device(device.upper()) == backend.resolve_device(device.lower()) == resolved
        for one, other in (('cuda', 'cuda:0'), ('gpu:0', 'cuda:0'), ('GPU:0', 'gpu:0'), ('MPS', 'mps')):
            assert self.resolved(backend, one) == self.resolved(backend, other)

    @staticmethod
    def resolved(backend: Backend, device: str) -> str | None:
        """The device's own name, None when it is not there."""
        try:
            return backend.resolve_device(device)
        except DeviceError:
            return None

    @pytest.mark.parametrize('device', ['cuda:99', 'gpu:77', 'cpu:5', 'tpu', '', 'cuda:-1', 'cuda:x'])
    def test_a_device_that_is_not_there_is_refused(self, backend: Backend, tmp_path: Path, device: str) -> None:
        """B11, DEVICE: the error names the value and the devices there are, whoever asks; nothing is written."""
        weights = jobs.draw_test_weights(oracle.shapes(jobs.make_config(backend)))
        calls: list[Callable[[], Any]] = [
            lambda: backend.resolve_device(device),
            lambda: backend.network(jobs.make_config(backend), weights, device),
        ]
        if describe(backend.name).trains:
            calls.append(lambda: jobs.train(backend, tmp_path, execution__device=device))
        for call in calls:
            with pytest.raises(DeviceError) as error:
                call()
            assert repr(device) in str(error.value)
            assert all(there in str(error.value) for there in backend.devices())
        assert not list(tmp_path.iterdir())

    def test_one_that_trains_is_loaded_to_train(self, backend: Backend, tmp_path: Path) -> None:
        """B46: any other refuses to, by itself and where it is chosen, and nothing is written."""
        if describe(backend.name).trains:
            assert type(load_trainer(backend.name)) is type(backend)
            return
        for call in (lambda: jobs.train(backend, tmp_path), lambda: load_trainer(backend.name)):
            self.assert_refused(backend, Capability.TRAINING, call)
        assert not list(tmp_path.iterdir())

    def test_what_it_leaves_out_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """B46: whatever asks a training for it, before anything is written."""
        left_out = ALL_CAPABILITIES - describe(backend.name).capabilities
        if not left_out or Capability.TRAINING in left_out:
            pytest.skip('it leaves nothing out, or the training itself')
        scan, config = jobs.make_scan(), jobs.make_config(backend)
        for (section, name), (capability, values) in ASKING.items():
            for value in values if capability in left_out else ():
                asking = config.merged({section: {name: value}})
                self.assert_refused(backend, capability, partial(train, [scan], asking, tmp_path))
        if Capability.RESUMING in left_out:
            self.assert_refused(backend, Capability.RESUMING, partial(train, [scan], config, tmp_path, resume=True))
        assert not list(tmp_path.iterdir())

    @staticmethod
    def assert_refused(backend: Backend, capability: Capability, call: Callable[[], Any]) -> None:
        """A call fails with one sentence that names what is left out, and the backends that have it."""
        with pytest.raises((BackendError, ConfigError)) as error:
            call()
        assert f'{backend.title} backend leaves out {capability}; ' in str(error.value)
        able = [one for one in describe_backends().values() if capability in one.capabilities]
        assert able and all(one.name in str(error.value) and one.title in str(error.value) for one in able)

    def test_every_device_computes_the_same(self, backend: Backend) -> None:
        """B11: patches of each device are those of the CPU."""
        others = backend.devices()[1:]
        if not others:
            pytest.skip('there is no other device than the CPU here')
        config = jobs.make_config(backend)
        weights = jobs.draw_test_weights(oracle.shapes(config))
        data = jobs.make_prepared_scan(backend).patterns(np.arange(8))
        inputs = data.root4, data.backprojection
        expected = backend.network(config, weights, 'cpu').predict(*inputs)
        for device in others:
            found = backend.network(config, weights, device).predict(*inputs)
            assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()

    def test_the_engine_finds_the_same_on_every_device(self, backend: Backend) -> None:
        """B45: object, probe and displacements are those of the engine on NumPy, which is what no offer means."""
        prepared = jobs.make_prepared_scan(backend)
        # Of a noisy object: an empty one leaves detector pixels dark, whose phase is rounding noise.
        noise = np.random.default_rng(0).random((2, *prepared.layout.shape))
        start = (1 - 0.2 * noise[0] + 0.2j * noise[1]).astype(np.complex64)
        options = RefineOptions(3, refine_probe=True, probe_from_pass=1, prior=1.0, wavefront=True, seed=1)
        options = replace(options, refine_positions=True, positions_from_pass=2)
        expected = refine(prepared, start, options)
        assert expected.displacements is not None and np.abs(expected.displacements).max() > 0.01
        for device in backend.devices():
            found = refine(prepared, start, options, arrays=select_arrays(backend, device))
            assert found.displacements is not None
            assert np.abs(found.canvas - expected.canvas).max() < 1e-4
            assert np.abs(found.probe - expected.probe).max() < 1e-4 * np.abs(expected.probe).max()
            assert np.abs(found.displacements - expected.displacements).max() < 1e-4
            assert found.residuals == pytest.approx(expected.residuals, rel=1e-4)
