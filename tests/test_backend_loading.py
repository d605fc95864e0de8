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

from ptychopinn_reconstructor import backend
from ptychopinn_reconstructor.config import BACKEND_NAMES
from ptychopinn_reconstructor.errors import BackendError

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
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition('.')[0] in REFUSED else PathFinder.find_spec(name, path, target)

if {raising!r}:
    sys.meta_path.insert(0, Refuse)
else:
    sys.meta_path[sys.meta_path.index(PathFinder)] = Filtered
"""


def in_new_process(script: str) -> dict[str, Any]:
    """The JSON that a script prints in a new process, whose working folder is not the checkout."""
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=120, cwd=Path(sys.executable).parent
    )
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
    """B1: backends are found by their description alone."""
    script = (
        'import json, sys\n'
        'from ptychopinn_reconstructor.backend import backend_entry_points\n'
        'names = sorted(backend_entry_points())\n'
        'loaded = {"torch", "lightning", "tensorflow", "keras", "ptychopinn_reconstructor.backends"}\n'
        'print(json.dumps({"names": names, "loaded": sorted(loaded & set(sys.modules))}))\n'
    )
    result = in_new_process(script)
    assert 'torch' in result['names']
    assert result['loaded'] == []


@pytest.mark.parametrize('name', ['jax', 'Torch', '', 'torch '])
def test_an_unknown_backend_is_refused_with_those_there_are(name: str) -> None:
    """BACKEND, B4: the names are those of the entry points or of the GUI, exactly."""
    with pytest.raises(BackendError, match=rf'^{name} backend selected, .*there are: .*torch') as error:
        backend.load_backend(name)
    assert error.value.exit_code == 2


def test_both_names_load_the_same_backend() -> None:
    """BACKENDNAMES, B2, B5: 'PyTorch' is 'torch'; it says so itself, and a new object comes each time."""
    pytest.importorskip('torch', reason='PyTorch is not installed')
    pytest.importorskip('lightning', reason='Lightning is not installed')
    first, second = backend.load_backend('torch'), backend.load_backend('PyTorch')
    assert type(first) is type(second)
    assert first is not second
    assert (first.name, first.title) == ('torch', 'PyTorch')
    assert BACKEND_NAMES[first.title] == first.name


def test_a_framework_that_cannot_be_imported_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """BACKEND, B3: installed but broken is an error as well, with the reason."""

    class Broken(EntryPoint):
        def load(self) -> Any:
            raise OSError('libframework.so.9: cannot open shared object file')

    point = Broken(name='odd', value='nowhere:Backend', group=backend.GROUP)
    monkeypatch.setattr(backend, 'backend_entry_points', lambda: {'odd': point})
    with pytest.raises(BackendError, match=r'odd backend selected, but it cannot be imported \(libframework\.so\.9'):
        backend.load_backend('odd')


def test_registered_names_are_those_of_the_map() -> None:
    """BACKENDNAMES: what is registered by this package has a title for INI and GUI."""
    ours = {
        name
        for name, point in backend.backend_entry_points().items()
        if point.value.startswith('ptychopinn_reconstructor.')
    }
    assert ours
    assert ours <= set(BACKEND_NAMES.values())
