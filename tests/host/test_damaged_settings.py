"""INI files with damage and strange values: Ptychodus reads them in its own way, and our settings end in a sentence."""

from __future__ import annotations

import configparser
from pathlib import Path

import numpy as np
import pytest
from host_sessions import Host, unstarted
from mutations import damage

from ptychopinn_reconstructor.config import field_table
from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.host.settings import ONLY_IN_PLUGIN, PluginSettings

COUNT = 40
STRANGE = (
    '', ' ', '0', '-1', '1e400', '-1e400', 'nan', 'inf', '9' * 5000, '0x10', '1_000', '1,5', 'True', 'none', 'None',
    'auto', '.', '~', '~nobody-here/x', '/' * 3000, 'x' * 5000, 'a\0b', '%(x)s', '${HOME}', '[x]', '"quoted"', '\u0662',
    'ö', '🙂',
)  # fmt: skip


def read_all(settings: PluginSettings) -> list[str]:
    """The sentences with which settings that are not as they should be are refused when they are used."""
    said = []
    uses = (
        lambda: settings.config('pinn'),
        lambda: settings.config('supervised'),
        settings.backend,
        settings.scratch_folder,
        settings.model_path,
        settings.further_models,
    )
    for use in uses:
        try:
            use()
        except ConfigError as error:
            said.append(str(error))
    return said


@pytest.fixture(scope='module')
def host() -> Host:
    return unstarted()


@pytest.fixture(scope='module')
def saved(host: Host, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An INI file as Ptychodus saves it."""
    path = tmp_path_factory.mktemp('saved') / 'settings.ini'
    host.api.save_settings(path)
    return path.read_bytes()


def test_strange_values_are_used_or_refused_in_a_sentence(host: Host, saved: bytes, tmp_path: Path) -> None:
    """Those of our own section: on the host's own keys Ptychodus itself fails where a number is none."""
    rng, path, refused = np.random.default_rng(0), tmp_path / 'settings.ini', set()
    own = [row.ini.split('.')[1] for row in field_table() if row.ini.startswith('PtychoPINNPlugin.')]
    names = [*own, *(key for key, _ in ONLY_IN_PLUGIN.values())]
    for _ in range(4 * COUNT):
        file = configparser.ConfigParser(interpolation=None)
        file.optionxform = str  # type: ignore[assignment,method-assign]
        file.read_string(saved.decode())
        for name in rng.choice(names, size=3):
            file['PtychoPINNPlugin'][name] = STRANGE[int(rng.integers(len(STRANGE)))]
        with path.open('w', encoding='utf-8') as stream:
            file.write(stream)
        host.model.settings_registry.open_settings(path)
        for sentence in read_all(host.library.settings):
            assert '\n' not in sentence and len(sentence) < 600
            refused.add(sentence.split(' = ')[0])
    assert len(refused) > 10


def test_the_home_of_an_unknown_user_is_a_sentence(host: Host) -> None:
    host.set(**{'PtychoPINNPlugin.ScratchDir': '~nobody-here/x'})
    with pytest.raises(ConfigError, match=r"'~nobody-here/x' is no path on this machine .* write the whole path"):
        host.library.settings.scratch_folder()


@pytest.mark.filterwarnings('ignore')
def test_a_damaged_file_leaves_settings_that_are_used_or_refused(host: Host, saved: bytes, tmp_path: Path) -> None:
    """What Ptychodus itself cannot read it logs, or refuses on its own; our settings are usable afterwards."""
    rng, path = np.random.default_rng(1), tmp_path / 'settings.ini'
    read = 0
    for _ in range(COUNT):
        path.write_bytes(damage(saved, rng))
        try:
            host.model.settings_registry.open_settings(path)
        except ValueError:  # of one of the host's own keys
            continue
        read += 1
        assert all('\n' not in sentence and len(sentence) < 600 for sentence in read_all(host.library.settings))
    assert read > COUNT // 2
