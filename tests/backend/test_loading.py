"""Loading of backends by entry point (contracts BACKEND, BACKENDNAMES; specs/backend_contract.md, B1 to B5)."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_reconstructor.backend import BackendDescription
from ptychopinn_reconstructor.backend import loading as backend
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import BackendError, ConfigError

FRAMEWORKS = {'torch': ['torch', 'lightning'], 'tensorflow': ['tensorflow', 'keras']}


class Described(EntryPoint):
    """An entry point that stands for `found`."""

    def __init__(self, found: object) -> None:
        super().__init__(name='odd', value='nowhere:FOUND', group=backend.GROUP)
        vars(self)['found'] = found

    def load(self) -> Any:
        return vars(self)['found']


# Refuses frameworks as an environment without them would: some hooks answer with an exception, others with nothing.
BLOCKER = """
import sys
from importlib.machinery import PathFinder

REFUSED = set({modules!r})

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in REFUSED:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

class Filtered:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition('.')[0] in REFUSED else PathFinder.find_spec(name, path, target)

if {raising!r}:
    sys.meta_path.insert(0, Refuse)
else:
    sys.meta_path[sys.meta_path.index(PathFinder)] = Filtered
"""


def in_new_process(script: str, *arguments: object) -> dict[str, Any]:
    """The JSON that a script prints in a new process, whose working folder is not the checkout."""
    command = [sys.executable, '-c', script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(sys.executable).parent)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize('raising', [True, False])
@pytest.mark.parametrize(
    ('name', 'modules', 'title', 'extra'),
    [
        ('torch', ['torch', 'lightning'], 'PyTorch', 'torch'),
        ('PyTorch', ['lightning'], 'PyTorch', 'torch'),
        ('tensorflow', ['tensorflow', 'keras'], 'TensorFlow', 'tensorflow'),
        ('TensorFlow', ['tensorflow'], 'TensorFlow', 'tensorflow'),
    ],
)
def test_a_missing_framework_is_named_with_its_remedy(
    name: str, modules: list[str], title: str, extra: str, raising: bool
) -> None:
    """BACKEND, B3: no fallback, nothing imported; the sentence holds the backend's title and the pip command."""
    script = BLOCKER.format(modules=modules, raising=raising) + (
        f'import json\n'
        f'from ptychopinn_reconstructor.backend import load_backend\n'
        f'from ptychopinn_reconstructor.errors import BackendError\n'
        f'try:\n'
        f'    found = load_backend({name!r}).name\n'
        f'except BackendError as error:\n'
        f'    found = str(error)\n'
        f'loaded = sorted({{"torch", "lightning", "tensorflow", "keras"}} & set(sys.modules))\n'
        f'print(json.dumps({{"found": found, "loaded": loaded}}))\n'
    )
    result = in_new_process(script)
    assert f'{title} backend selected' in result['found']
    assert f"pip install 'ptychopinn-reconstructor[{extra}]'" in result['found']
    assert all(module in result['found'] for module in modules if find_spec(module))
    assert '\n' not in result['found']
    assert result['loaded'] == []


def test_listing_imports_no_framework() -> None:
    """B1: backends are found by their description alone, and so are those that can be chosen here."""
    script = (
        'import json, sys\n'
        'from ptychopinn_reconstructor.backend import describe_backends, installed\n'
        'names, there = list(describe_backends()), installed()\n'
        'loaded = {"torch", "lightning", "tensorflow", "keras"}\n'
        'print(json.dumps({"names": names, "there": there, "loaded": sorted(loaded & set(sys.modules))}))\n'
    )
    result = in_new_process(script)
    assert [name for name in result['names'] if name in FRAMEWORKS] == ['torch', 'tensorflow']  # by their titles
    assert result['there'] == [name for name in result['names'] if not backend.find_missing_modules(name)]
    assert result['loaded'] == []


@pytest.mark.parametrize(('name', 'modules'), FRAMEWORKS.items())
def test_what_a_backend_lacks_is_what_cannot_be_found(
    monkeypatch: pytest.MonkeyPatch, name: str, modules: list[str]
) -> None:
    """B3: each of the modules that it needs, and no other backend's."""
    there = [module for module in modules if find_spec(module)]
    assert backend.find_missing_modules(name) == [module for module in modules if module not in there]
    for hidden in there:
        monkeypatch.setattr(backend, '_can_import', lambda module, hidden=hidden: module in there and module != hidden)
        assert hidden in backend.find_missing_modules(name) and name not in backend.installed()
    monkeypatch.setattr(backend, '_can_import', lambda module: module in modules)
    assert backend.installed() == [name]


def test_the_sentence_offers_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """BACKEND, B3: by the name on the command line and by the one in INI files, of a backend of others too."""
    points = {**backend.find_entry_points(), 'odd': Described(BackendDescription('odd', 'Odd', (), 'odd', '', {}))}
    monkeypatch.setattr(backend, 'find_entry_points', lambda: points)
    monkeypatch.setattr(backend, '_can_import', lambda module: module in ('tensorflow', 'keras'))
    with pytest.raises(BackendError, match=r'^PyTorch backend selected') as error:
        backend.load_backend('PyTorch')
    assert (
        'choose what is installed: execution.backend=odd or execution.backend=tensorflow (Odd or TensorFlow in'
        in str(error.value)
    )


def test_to_train_what_trains_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """B46: of what is installed where the one chosen is not, of all where it does not train; those that train first."""
    assert list(backend.describe_backends())[-1] == 'onnx' and not backend.describe('onnx').trains
    monkeypatch.setattr(backend, '_can_import', lambda module: module in ('tensorflow', 'keras', 'onnxruntime'))
    assert backend.installed() == ['tensorflow', 'onnx'] and backend.installed(training=True) == ['tensorflow']
    with pytest.raises(BackendError, match=r'is installed: execution\.backend=tensorflow \(TensorFlow in INI'):
        backend.load_trainer('torch')
    with pytest.raises(BackendError, match=r'or execution\.backend=onnx \(TensorFlow or ONNX Runtime in INI'):
        backend.load_backend('torch')
    with pytest.raises(BackendError, match=r'^The ONNX .* leaves out training; .*=torch or .*=tensorflow \(PyTorch or'):
        backend.load_trainer('ONNX Runtime')
    monkeypatch.setattr(backend, '_can_import', lambda module: module == 'onnxruntime')
    with pytest.raises(BackendError, match=r"pip install 'ptychopinn-reconstructor\[torch\]'$"):
        backend.load_trainer('torch')


def test_what_is_left_out_is_refused_where_it_is_asked_for() -> None:
    """B46: by a setting away from its default; of a network that is only applied nothing else than its precision."""
    described, plain = backend.describe('onnx'), Config()
    asking = plain.merged({'model': {'model_type': 'supervised'}, 'execution': {'strategy': 'ddp', 'devices': 2}})
    for config, training in ((plain, True), (plain, False), (asking, False)):
        backend.check_requests(described, config, training=training)
    with pytest.raises(ConfigError, match=r'^model\.model_type is supervised, but the ONNX .* set it to pinn, or'):
        backend.check_requests(described, asking, training=True)
    with pytest.raises(ConfigError, match=r'leaves out half precision; set it to 32, or .*=torch or .*=tensorflow'):
        backend.check_requests(described, plain.merged({'execution': {'precision': '16-mixed'}}), training=False)
    backend.check_requests(backend.describe('torch'), asking, training=True)


@pytest.mark.parametrize('name', ['jax', 'Torch', '', 'torch '])
def test_an_unknown_backend_is_refused_with_those_there_are(name: str) -> None:
    """BACKEND, B4: the names are those of the entry points or of the GUI, exactly."""
    with pytest.raises(BackendError, match=rf'^{name} backend selected, .*there are: .*torch') as error:
        backend.load_backend(name)
    assert error.value.exit_code == 2


def skip_unless_installed(*names: str) -> None:
    """Skip a test of backends that are not all here, naming what is missing."""
    missing = [module for name in names for module in backend.find_missing_modules(name)]
    if missing:
        pytest.skip(f'{" and ".join(missing)} cannot be imported')


@pytest.mark.parametrize(('title', 'name'), [('PyTorch', 'torch'), ('TensorFlow', 'tensorflow')])
def test_both_names_load_the_same_backend(title: str, name: str) -> None:
    """BACKENDNAMES, B2, B5: 'PyTorch' is 'torch'; it says so itself, and a new object comes each time."""
    skip_unless_installed(name)
    first, second = backend.load_backend(name), backend.load_backend(title)
    assert type(first) is type(second)
    assert first is not second
    assert (first.name, first.title) == (name, title) == (backend.resolve_name(title), backend.resolve_title(name))


TRAIN_AND_RECONSTRUCT = """
import json, sys
from pathlib import Path
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.model_file.trained import verify_model
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.reconstruct import reconstruct
from ptychopinn_reconstructor.training.train import train

name, folder, logger = sys.argv[1:]
scan = simulate(n=32, positions=64, step=5.0, seed=0)
config = Config().merged({
    'training': {'nepochs': 3, 'batch_size': 8},
    'execution': {'backend': name, 'device': 'cpu', 'logger_backend': logger},
})
trained = train([scan], config, Path(folder))
result = reconstruct(scan, trained.model, config)
verify_model(trained.model)
loaded = sorted({module.partition('.')[0] for module in sys.modules})
print(json.dumps({'loaded': loaded, 'backend': result.report.run.backend}))
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', ['torch', 'tensorflow'])
def test_a_backend_loads_no_other_framework(tmp_path: Path, name: str) -> None:
    """BACKEND, B6: in a process that trains, reconstructs and verifies (TensorBoard's writer takes TensorFlow)."""
    skip_unless_installed(*FRAMEWORKS)
    result = in_new_process(TRAIN_AND_RECONSTRUCT, name, tmp_path, 'csv')
    others = {module for other, modules in FRAMEWORKS.items() if other != name for module in modules}
    assert result['backend'] == name and set(FRAMEWORKS[name]) <= set(result['loaded'])
    assert sorted(others.intersection(result['loaded'])) == []


def test_a_framework_that_cannot_be_imported_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """BACKEND, B3: installed but broken is an error as well, with the reason."""

    def broken(reference: str) -> Any:
        raise OSError('libframework.so.9: cannot open shared object file')

    described = BackendDescription('odd', 'Odd', (), 'odd-backend', 'nowhere:Backend', {})
    monkeypatch.setattr(backend, 'find_entry_points', lambda: {'odd': Described(described)})
    monkeypatch.setattr(backend, 'resolve', broken)
    with pytest.raises(BackendError, match=r"Odd backend .* imported \(libframework\.so\.9.* 'odd-backend'$"):
        backend.load_backend('odd')


def test_what_else_is_in_the_way_is_said_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """B3: an obstacle that a backend knows of itself."""
    described = BackendDescription('odd', 'Odd', (), 'odd', 'nowhere:Backend', {}, lambda: 'the key is at home')
    monkeypatch.setattr(backend, 'find_entry_points', lambda: {'odd': Described(described)})
    with pytest.raises(BackendError, match=r'^Odd backend selected, but the key is at home\.$'):
        backend.load_backend('odd')


@pytest.mark.parametrize('found', [object, BackendDescription('another', 'Odd', (), 'odd', '', {})])
def test_an_entry_point_that_names_no_description_is_refused(monkeypatch: pytest.MonkeyPatch, found: object) -> None:
    """B1: and is listed nowhere, so that it harms no other backend."""
    points = {**backend.find_entry_points(), 'odd': Described(found)}
    monkeypatch.setattr(backend, 'find_entry_points', lambda: points)
    assert 'odd' not in backend.describe_backends() and 'torch' in backend.describe_backends()
    with pytest.raises(BackendError, match=r'odd backend .* is no BackendDescription of that name.*pip install'):
        backend.load_backend('odd')


@pytest.mark.parametrize('name', FRAMEWORKS)
def test_an_architecture_is_built_by_what_its_description_names(name: str) -> None:
    """ConfigError names those that a backend offers; nothing is imported to tell."""
    described = backend.describe(name)
    with pytest.raises(ConfigError, match=f"'vit', which the {described.title} backend .* choose one of: s2d_unet"):
        described.builder('vit')
    skip_unless_installed(name)
    assert callable(described.builder('s2d_unet'))


def test_a_broken_foreign_backend_names_its_own_package(tmp_path: Path) -> None:
    """B3: what to reinstall is the package that registers it, not an extra of ours that does not exist."""
    info = tmp_path / 'beamline_backends-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: beamline-backends\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[ptychopinn_reconstructor.backends]\nmine = broken_backend:Mine\n')
    (tmp_path / 'broken_backend.py').write_text('import a_framework_that_is_not_there\n')
    program = (
        'import sys; sys.path.insert(0, sys.argv[1])\n'
        'from ptychopinn_reconstructor.backend import load_backend\n'
        'try:\n    load_backend("mine")\nexcept Exception as error:\n    print(type(error).__name__, error)\n'
    )
    done = subprocess.run(
        [sys.executable, '-P', '-c', program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith('BackendError mine backend selected')
    assert "pip install --force-reinstall 'beamline-backends'" in done.stdout
