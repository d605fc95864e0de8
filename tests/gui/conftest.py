"""One window for all tests, on a scan that a training takes seconds for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('PyQt5.QtWidgets', reason='the window of Ptychodus needs PyQt5')
pytest.importorskip('ptychodus.controller', reason='Ptychodus is not installed with its window')

from PyQt5.QtWidgets import QApplication
from window import Window, window_on

from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder
from ptychopinn_reconstructor.physics.simulation.simulate import simulate


@pytest.fixture(scope='session')
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, since Ptychodus reads settings from there."""
    import matplotlib

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MPLCONFIGDIR', matplotlib.get_configdir())
        patch.setenv('HOME', str(tmp_path_factory.mktemp('home')))
        yield Path(os.environ['HOME'])


@pytest.fixture(scope='session')
def scan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of 100 patterns of 32 x 32 pixels, as Ptychodus reads it."""
    folder = tmp_path_factory.mktemp('scan')
    write_ptychodus_folder(folder, simulate(n=32, positions=100, step=4.0, jitter=1.0, seed=0))
    return folder


@pytest.fixture(scope='session')
def shared_window(qapp: QApplication, home: Path, scan_folder: Path) -> Iterator[Window]:
    """A window that all tests use after each other."""
    with window_on(scan_folder) as window:
        yield window


@pytest.fixture
def window(shared_window: Window) -> Iterator[Window]:
    """The window, its settings at their defaults, PINN selected, no error dialog yet."""
    _reset(shared_window)
    yield shared_window
    _reset(shared_window)


def _reset(window: Window) -> None:
    for name, value in window.settings.defaults.items():
        window.settings[name].set_value(value)
    window.select('pinn')
    window.errors.clear()
    window.progress.text_edit.clear()
