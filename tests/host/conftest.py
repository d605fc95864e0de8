"""A home of the tests' own, cases, and the sessions that several tests look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from host_scripts import TRAIN_AND_INFER
from host_sessions import TITLES, Case, Finished, run_script, small_case

from ptychopinn_reconstructor.backend import find_missing_modules


@pytest.fixture(scope='session', autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ptychodus keeps files in the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('home')
        patch.setenv('HOME', str(folder))
        yield folder


@pytest.fixture(scope='session')
def case() -> Case:
    return small_case()


@pytest.fixture(scope='session')
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """diffraction.h5 and product.h5 of `case`."""
    return case.write(tmp_path_factory.mktemp('case'))


@pytest.fixture(scope='session')
def script_of(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Finished]:
    """A script that trains and infers with a backend, run once."""

    @cache
    def run(backend: str) -> Finished:
        if missing := find_missing_modules(backend):
            pytest.skip(f'{TITLES[backend]} is not installed: {", ".join(missing)}')
        return run_script(TRAIN_AND_INFER, tmp_path_factory.mktemp(backend), folder, TITLES[backend])

    return run


@pytest.fixture(params=['torch', pytest.param('tensorflow', marks=pytest.mark.slow)])
def scripted(request: pytest.FixtureRequest, script_of: Callable[[str], Finished]) -> Finished:
    """That script, for each backend."""
    return script_of(request.param)


@pytest.fixture
def trained(script_of: Callable[[str], Finished]) -> Finished:
    """That script, for PyTorch."""
    return script_of('torch')


@pytest.fixture
def model(trained: Finished) -> Path:
    return trained.folder / 'out' / 'model.safetensors'
