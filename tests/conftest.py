"""Fixtures that several test files share."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings
from scans import backend_here

from ptychopinn_reconstructor.backend import find_missing_modules

TESTS = Path(__file__).resolve().parent
SHARED_DATA = TESTS.parents[1] / 'shared' / 'data'

# No example is timed. The tests of every day draw the same examples each time, so that no landing hangs on a draw; the
# complete suite draws new ones.
settings.register_profile('untimed', deadline=None)
settings.register_profile('repeated', deadline=None, derandomize=True)
settings.load_profile('untimed')


def _is_here(module: str) -> bool:
    """Whether a package is installed; an editable install of ours leaves an empty namespace named ptychodus."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


# Where Ptychodus is not installed, the folders that test us inside it are left out, each with one line at the end.
NEEDS = {'host': ['ptychodus'], 'gui': ['ptychodus', 'PyQt5', 'pytestqt'], 'integration': ['ptychodus', 'PyQt5']}
LEFT_OUT = {folder: absent for folder, names in NEEDS.items() if (absent := [n for n in names if not _is_here(n)])}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave these folders out, also where they are named on the command line."""
    return True if LEFT_OUT.keys() & {*collection_path.relative_to(TESTS).parts} else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the folders that were left out."""
    for folder, absent in LEFT_OUT.items():
        reason = f'{" and ".join(absent)} not installed; `make test-ptychodus` runs them'
        terminalreporter.write_line(f'LEFT OUT tests/{folder}: {reason}')


@pytest.fixture
def shared_data() -> Path:
    """The folder of real and simulated scans beside the checkout; skips where it is absent."""
    if not (SHARED_DATA / 'simulated_A.npz').exists():
        pytest.skip('no data: ../shared/data/simulated_A.npz beside the checkout is absent')
    return SHARED_DATA


@pytest.fixture(scope='session')
def backend_name() -> str:
    """The backend that scans.short_config chooses, PyTorch where it is installed; skips where there is none at all."""
    name = backend_here()
    if missing := find_missing_modules(name):
        pytest.skip(f'no backend is installed: neither TensorFlow nor PyTorch ({" and ".join(missing)})')
    return name


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """The file of a model with two weights (model_files.py)."""
    from model_files import parts

    from ptychopinn_reconstructor.model_file.writing import write_model

    return write_model(tmp_path / 'model.safetensors', **parts())
