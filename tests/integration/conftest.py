"""Environments to install into; made once for all tests where no test changes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sites import FRAMEWORKS, HOST, OURS, Site, linked_packages, wheel_of

MakeSite = Callable[..., Site]


@pytest.fixture(scope='session')
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of our package and of Ptychodus, as they are installed here."""
    folder = tmp_path_factory.mktemp('wheels')
    return {name: wheel_of(name, folder) for name in (OURS, HOST)}


@pytest.fixture(scope='session')
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to everything that both depend on."""
    return linked_packages(tmp_path_factory.mktemp('linked') / 'packages')


@pytest.fixture(scope='session')
def no_frameworks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to everything but the frameworks of the backends."""
    return linked_packages(tmp_path_factory.mktemp('linked') / 'packages', without=FRAMEWORKS)


@pytest.fixture
def make_site(tmp_path: Path, packages: Path) -> MakeSite:
    """Makes an environment with the given wheels, installed in this order."""

    def make(*wheels: Path, packages: Path = packages) -> Site:
        site = Site.new(tmp_path / 'environment', packages)
        site.install(*wheels)
        return site

    return make


@pytest.fixture(scope='session')
def shared_site(tmp_path_factory: pytest.TempPathFactory, packages: Path, wheels: dict[str, Path]) -> Site:
    """An environment with Ptychodus and our wheel, which no test changes."""
    site = Site.new(tmp_path_factory.mktemp('shared') / 'environment', packages)
    site.install(wheels[HOST], wheels[OURS])
    site.start()  # compiles what it imports, for every copy
    return site


@pytest.fixture
def site(tmp_path: Path, shared_site: Site) -> Site:
    """An environment with Ptychodus and our wheel, for a test that changes it."""
    return shared_site.copy(tmp_path / 'environment')
