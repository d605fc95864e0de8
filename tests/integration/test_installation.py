"""Our wheel and Ptychodus are installed, upgraded and removed by pip; the unmodified host is started after each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from sites import FRAMEWORKS, HOST, KEYS, OURS, PURELIB, Site, wheel_of

import ptychopinn_reconstructor

ROOT = Path(__file__).resolve().parents[2]
Wheels = dict[str, Path]
MakeSite = Callable[..., Site]


def test_the_installed_wheel_is_tested_and_not_the_checkout() -> None:
    assert Path(ptychopinn_reconstructor.__file__).is_relative_to(PURELIB)
    assert (PURELIB / 'ptychodus' / 'plugins' / 'ptychopinn_reconstructor.py').exists()
    assert str(ROOT) not in sys.path


@pytest.mark.parametrize('order', [(HOST, OURS), (OURS, HOST)], ids=' then '.join)
def test_ptychodus_finds_us_in_either_order(make_site: MakeSite, wheels: Wheels, order: tuple[str, str]) -> None:
    site = make_site(*(wheels[name] for name in order))
    started = site.start()
    assert set(KEYS) <= set(started['keys'])
    assert started['warnings'] == []
    window = site.window()
    assert set(KEYS) <= set(window['entries'])
    assert window['warnings'] == []


def test_starting_ptychodus_loads_no_framework_and_no_qt(shared_site: Site) -> None:
    started = shared_site.start()
    assert set(KEYS) <= set(started['keys'])
    assert {*FRAMEWORKS, 'PyQt5'} & set(started['modules']) == set()


def test_an_upgrade_of_ptychodus_keeps_us(make_site: MakeSite, wheels: Wheels, tmp_path: Path) -> None:
    oldest = Path(sys.prefix).with_name('.venv-ptychodus-1.6')
    if not oldest.exists():
        pytest.skip('no Ptychodus 1.6 to upgrade from: make test-ptychodus installs it in .venv-ptychodus-1.6')
    site = make_site(wheel_of(HOST, tmp_path, next(oldest.glob('lib/python*/site-packages'))), wheels[OURS])
    assert set(KEYS) <= set(site.start()['keys'])
    assert '1.6.0' in site.call('ptychodus', '--version').stdout
    site.install(wheels[HOST])
    started = site.start()
    assert set(KEYS) <= set(started['keys']) and started['warnings'] == []
    assert version(HOST) in site.call('ptychodus', '--version').stdout


def test_an_upgrade_of_our_wheel_keeps_ptychodus_and_us(site: Site, wheels: Wheels) -> None:
    before = site.start()['keys']
    site.install(wheels[OURS])
    assert site.start()['keys'] == before


def test_without_our_wheel_ptychodus_is_as_if_we_had_never_been(site: Site, wheels: Wheels) -> None:
    with_us = site.start()
    site.uninstall(OURS)
    files = [path.relative_to(site.purelib) for path in site.purelib.rglob('*ptychopinn_reconstructor*')]
    assert files == []
    result = site.start()
    assert sorted({*result['keys'], *KEYS}) == sorted(with_us['keys'])
    assert not set(KEYS) & set(result['keys'])
    assert not [name for name in result['modules'] if 'ptychopinn' in name and not name.startswith('ptychodus.')]
    spoken = site.call('ptychodus', '--batch', 'reconstruct')
    assert spoken.returncode == 2 and 'ptychodus' in spoken.stderr
    assert 'ptychopinn_reconstructor' not in spoken.stdout + spoken.stderr


def test_without_ptychodus_our_command_line_works(site: Site) -> None:
    site.uninstall(HOST)
    result = site.call('ptychopinn', '--version')
    assert result.returncode == 0 and ptychopinn_reconstructor.__version__ in result.stdout
    models = site.call('ptychopinn', 'doctor')
    assert models.returncode == 0, models.stdout + models.stderr
    launched = site.call('ptychodus-ptychopinn')
    assert launched.returncode == 2
    assert launched.stderr == "Ptychodus is not installed in this environment: pip install 'ptychodus[gui]>=1.6'\n"


def test_an_editable_install_harms_nothing_and_has_its_own_command(
    make_site: MakeSite, wheels: Wheels, tmp_path: Path
) -> None:
    """Ptychodus looks for plugins in one folder only; the command brings ours to it from wherever it lies."""
    tree = tmp_path / 'checkout'
    hidden = shutil.ignore_patterns('.*', '__pycache__', '*.egg-info', 'build', 'dist', 'demo')
    shutil.copytree(ROOT, tree, ignore=hidden)
    site = make_site(wheels[HOST])
    site.pip('install', '--no-deps', '--no-index', '--no-build-isolation', '--editable', tree)
    started = site.start()
    assert not set(KEYS) & set(started['keys']) and started['warnings'] == []
    window = site.window('ptychopinn_reconstructor.host.launcher')
    assert set(KEYS) <= set(window['entries']) and window['warnings'] == []


def test_our_command_beside_the_found_plugin_adds_us_once(shared_site: Site) -> None:
    window = shared_site.window('ptychopinn_reconstructor.host.launcher')
    assert set(KEYS) <= set(window['entries']) and window['warnings'] == []
    assert [key for key in window['entries'] if key.startswith('ptychopinn')] == KEYS
