"""Ptychodus starts whatever is wrong with us, our backends, a model file or itself: with one warning that says why."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from sites import FRAMEWORKS, HOST, KEYS, OURS, Site

CORE = 'ptychodus/model/processing/core.py'
API = 'ptychodus/api/reconstruct.py'
OWN = 'ptychopinn_reconstructor'
Wheels = dict[str, Path]
MakeSite = Callable[..., Site]


def test_ptychodus_starts_without_any_backend(make_site: MakeSite, wheels: Wheels, no_frameworks: Path) -> None:
    site = make_site(wheels[HOST], wheels[OURS], packages=no_frameworks)
    program = (
        'import importlib.util as u, json, sys; print(json.dumps({n: u.find_spec(n) is None for n in sys.argv[1:]}))'
    )
    assert all(site.run(program, *FRAMEWORKS).values())
    started = site.start()
    assert set(KEYS) <= set(started['keys']) and len(started['warnings']) <= 1
    assert set(KEYS) <= set(site.window()['entries'])


@pytest.mark.parametrize('command', ['ptychodus', 'ptychodus-ptychopinn'])
def test_the_command_line_of_ptychodus_is_as_before(shared_site: Site, command: str) -> None:
    shown = shared_site.call(command, '--version')
    assert shown.returncode == 0 and version(HOST) in shown.stdout
    for wrong in (['--batch', 'simulate'], ['--batch', 'train']):
        refused = shared_site.call(command, *wrong)
        assert refused.returncode == 2 and refused.stderr.startswith('usage: ptychodus'), refused.stderr
        assert OWN not in refused.stderr


@pytest.mark.parametrize('content', [None, b'', b'PK\x03\x04 is how a zip begins'], ids=['absent', 'empty', 'damaged'])
def test_ptychodus_starts_with_a_broken_model_in_its_settings(
    shared_site: Site, tmp_path: Path, content: bytes | None
) -> None:
    model, settings = tmp_path / 'model.safetensors', tmp_path / 'settings.ini'
    if content is not None:
        model.write_bytes(content)
    settings.write_text(f'[Processing]\nAlgorithm = {KEYS[0]}\n\n[PtychoPINNInference]\nModelPath = {model}\n')
    started = shared_site.start(settings)
    assert set(KEYS) <= set(started['keys'])
    assert len(started['warnings']) <= 1
    assert all(str(model) in warning for warning in started['warnings'])


def _only_warning(site: Site) -> str:
    """The host started without us, with its own reconstructors, and we said one thing."""
    window = site.window()
    assert window['entries'] and not set(KEYS) & set(window['entries'])
    assert len(window['warnings']) == 1, window['warnings']
    launched = site.window('ptychopinn_reconstructor.host.launcher')
    assert launched == window
    return str(window['warnings'][0])


def test_a_host_whose_constructor_changed(site: Site) -> None:
    site.edit(CORE, 'algorithm_libraries', 'libraries')
    assert 'algorithm_libraries' in _only_warning(site)


def test_a_host_whose_reconstructors_need_something_new(site: Site) -> None:
    new = '    @abstractmethod\n    def estimate_memory(self) -> int: ...\n\n'
    site.edit(API, 'class Reconstructor(ABC):\n', f'class Reconstructor(ABC):\n{new}')
    new = '    def estimate_memory(self) -> int: return 0\n\n'
    old = 'class NullReconstructor(TrainableReconstructor):\n'
    site.edit(API, old, old + new)
    assert 'estimate_memory' in _only_warning(site)


def test_a_host_that_is_too_old(site: Site) -> None:
    site.pretend_version('1.5.1')
    warning = _only_warning(site)
    assert '1.5.1' in warning and '1.6' in warning


def test_a_newer_host_with_the_same_internals_works_with_a_warning(site: Site) -> None:
    site.pretend_version('9.0')
    for found in (site.window(), site.window('ptychopinn_reconstructor.host.launcher')):
        assert len(found['warnings']) == 1, found['warnings']
        assert '9.0' in found['warnings'][0]
        assert set(KEYS) <= set(found['entries'])


def test_a_broken_install_of_ours_is_one_warning(site: Site) -> None:
    (site.purelib / OWN / 'host' / 'hook.py').unlink()
    started = site.start()
    assert not set(KEYS) & set(started['keys'])
    assert len(started['warnings']) == 1 and 'hook' in started['warnings'][0]
