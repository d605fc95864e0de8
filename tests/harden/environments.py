"""Commands in odd places: no HOME, no temporary folder, closed streams, another user, folders of any name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from scans import small_scan

from ptychopinn_reconstructor.backend import find_missing_modules
from ptychopinn_reconstructor.io import read_product, read_scan, write_npz
from ptychopinn_reconstructor.io.atomic import make_folder
from ptychopinn_reconstructor.model_file.opening import open_model

MODEL = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'
PATIENCE = 600.0  # seconds after which a command hangs; the campaign limits the CPU time
ERROR = 'ptychopinn: error: '
NAMES: tuple[bytes, ...] = (
    b'plain', b'with spaces', b'two\nlines', b'-leading-dash', b'--json', b'not \xff\xfe text', b'x' * 200,
    'Öl 测'.encode(), b"quote'd \"twice\"", b'percent %s {0}', b'col:on', b'back\\slash', b'[tag]', b'*', b'$HOME',
    b'a\tb', b'.hidden', b'ends.npz',
)  # fmt: skip


class Refused(Exception):  # noqa: N818 - says what happened
    """How a command has ended and should not have."""


@dataclass(frozen=True)
class Place:
    """The folder of one command: a scan, a model, a result, and where it writes."""

    folder: Path

    @property
    def scan(self) -> str:
        return str(self.folder / 'scan.npz')

    @property
    def model(self) -> str:
        return str(self.folder / 'model.safetensors')

    @property
    def out(self) -> Path:
        return self.folder / 'out'

    def fill(self) -> None:
        """Write what commands read."""
        make_folder(self.folder)
        for path in _inputs().iterdir():
            shutil.copy(path, self.folder)


@cache
def _inputs() -> Path:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix='harden-inputs-'))
    write_npz(folder / 'scan.npz', small_scan(positions=24))
    shutil.copy(MODEL, folder / 'model.safetensors')
    return folder


@dataclass(frozen=True)
class Command:
    """Its line, what it has made where it says that it has, how often it is drawn, and the framework it needs."""

    line: Callable[[Place], list[str]]
    check: Callable[[Place], object] = lambda place: None
    weight: float = 1.0
    backend: str = ''


def _train(backend: str) -> Callable[[Place], list[str]]:
    small = ('nepochs=1', 'n_filters_scale=0.1', 'device=cpu', f'backend={backend}')
    options = [part for value in small for part in ('--set', value)]
    return lambda place: ['train', place.scan, '--output-dir', str(place.out), *options]


def _trained(place: Place) -> object:
    return open_model(place.out / 'model.safetensors')


def _reconstructed(place: Place) -> object:
    return read_product(place.out / 'product.h5')


COMMANDS: dict[str, Command] = {
    'help': Command(lambda place: ['--help'], weight=0.3),
    'inspect': Command(lambda place: ['inspect', place.model]),
    'doctor': Command(lambda place: ['doctor'], weight=0.2),
    'simulate': Command(
        lambda place: ['simulate', '--out', str(place.out / 's.npz'), '--n', '32', '--positions', '16'],
        lambda place: read_scan(place.out / 's.npz'),
    ),
    'convert': Command(
        lambda place: ['convert', place.scan, str(place.out / 'scan.cxi')],
        lambda place: read_scan(place.out / 'scan.cxi'),
    ),
    'refine': Command(
        lambda place: ['refine', place.scan, '--output-dir', str(place.out), '--passes', '2'], _reconstructed, 3.0
    ),
    'evaluate': Command(lambda place: ['evaluate', place.scan, place.scan, '--picture', str(place.out / 'p.png')]),
    'diagnose': Command(lambda place: ['diagnose', place.scan], weight=0.3),
    'init': Command(
        lambda place: ['init', str(place.out)], lambda place: read_scan(next(place.out.glob('*.npz'))), 0.3
    ),
    'study': Command(lambda place: ['study', '--dry-run', '--output-dir', str(place.out)], weight=0.3),
    'train torch': Command(_train('torch'), _trained, 1.0, 'torch'),
    'train tensorflow': Command(_train('tensorflow'), _trained, 0.4, 'tensorflow'),
    'verify': Command(lambda place: ['verify', place.model], weight=0.5, backend='torch'),
    'reconstruct': Command(
        lambda place: ['reconstruct', place.scan, '--model', place.model, '--output-dir', str(place.out)],
        _reconstructed,
        1.0,
        'torch',
    ),
}


@dataclass
class Surroundings:
    """What a command finds: its environment, what a shell says before it, a prefix, and its streams."""

    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    shell: str = ''  # before 'exec', with redirections
    redirect: str = ''
    prefix: list[str] = field(default_factory=list)
    readerless: int = 0  # 1 stdout, 2 stderr: a pipe whose reader has gone
    heard: bool = True  # whether stderr can be read


Condition = Callable[[Surroundings, Path], None]


def _no_home(here: Surroundings, folder: Path) -> None:
    here.env.pop('HOME', None)


def _absent_home(here: Surroundings, folder: Path) -> None:
    here.env['HOME'] = str(folder / 'absent')


def _locked_home(here: Surroundings, folder: Path) -> None:
    here.env['HOME'] = str(_make_read_only(folder / 'home'))
    for name in ('XDG_CONFIG_HOME', 'XDG_CACHE_HOME', 'MPLCONFIGDIR'):
        here.env.pop(name, None)
    _plain_user(here, folder)


def _absent_temporary(here: Surroundings, folder: Path) -> None:
    here.env['TMPDIR'] = str(folder / 'absent')


def _locked_temporary(here: Surroundings, folder: Path) -> None:
    here.env['TMPDIR'] = str(_make_read_only(folder / 'tmp'))
    _plain_user(here, folder)


def _file_as_temporary(here: Surroundings, folder: Path) -> None:
    (folder / 'file').write_text('x')
    here.env['TMPDIR'] = str(folder / 'file')


def _make_read_only(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o555)
    return folder


def _plain_user(here: Surroundings, folder: Path) -> None:
    """The superuser passes every permission: without its capabilities it is a user as others."""
    if os.geteuid() == 0 and not here.prefix and shutil.which('setpriv'):
        here.prefix = [str(shutil.which('setpriv')), '--bounding-set=-all', '--inh-caps=-all']


def _unknown_user(here: Surroundings, folder: Path) -> None:
    """A user without a name, as containers have: may read all, since our Python may lie in another's home."""
    if os.geteuid() == 0 and shutil.which('setpriv'):
        caps = '-all,+dac_read_search'
        user = [
            '--reuid=54321',
            '--regid=54321',
            '--clear-groups',
            f'--inh-caps={caps}',
            '--ambient-caps=+dac_read_search',
        ]
        here.prefix = [str(shutil.which('setpriv')), *user]
        folder.chmod(0o755)
        for name in ('USER', 'LOGNAME', 'LNAME', 'USERNAME'):
            here.env.pop(name, None)
        here.env['HOME'] = '/'


def _owned_by_unknown_user(here: Surroundings, folder: Path) -> None:
    _unknown_user(here, folder)
    if here.prefix:
        for path in (folder, *folder.rglob('*')):
            os.chown(path, 54321, 54321)


def _set(**values: str) -> Condition:
    return lambda here, folder: here.env.update(values)


def _shell(text: str) -> Condition:
    def change(here: Surroundings, folder: Path) -> None:
        here.shell += f'{text}; '

    return change


def _redirect(text: str) -> Condition:
    def change(here: Surroundings, folder: Path) -> None:
        here.redirect = text
        here.heard = '2>' not in text

    return change


def _readerless(number: int) -> Condition:
    def change(here: Surroundings, folder: Path) -> None:
        here.readerless, here.heard = number, False  # who has gone is told nothing

    return change


CONDITIONS: dict[str, Condition] = {
    'nothing odd': _shell(':'),
    'no HOME': _no_home,
    'HOME absent': _absent_home,
    'HOME read-only': _locked_home,
    'TMPDIR absent': _absent_temporary,
    'TMPDIR read-only': _locked_temporary,
    'TMPDIR a file': _file_as_temporary,
    'umask 077': _shell('umask 077'),
    'umask 777': _shell('umask 777'),
    'a user without privileges': _plain_user,
    'a user without a name': _unknown_user,
    'a user without a name, own folder': _owned_by_unknown_user,
    'stdout closed': _redirect('>&-'),
    'stderr closed': _redirect('2>&-'),
    'all streams closed': _redirect('<&- >&- 2>&-'),
    'stdin closed': _redirect('<&-'),
    'stdout full': _redirect('>/dev/full'),
    'stderr full': _redirect('2>/dev/full'),
    'stdout without a reader': _readerless(1),
    'stderr without a reader': _readerless(2),
    'plain C locale': _set(LC_ALL='C', LANG='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0'),
    'ASCII streams': _set(PYTHONIOENCODING='ascii'),
    'no PATH': _set(PATH=''),
    'few handles': _shell('ulimit -n 24'),
    'no core, small stack': _shell('ulimit -c 0; ulimit -s 1024'),
}


def attack_environment(folder: Path, rng: np.random.Generator) -> str:
    """'held' when a command in odd surroundings works, or ends in one sentence."""
    names = [
        name for name in COMMANDS if not COMMANDS[name].backend or not find_missing_modules(COMMANDS[name].backend)
    ]
    weights = np.array([COMMANDS[name].weight for name in names])
    command = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    drawn = rng.choice(len(CONDITIONS), size=int(rng.integers(1, 3)), replace=False)
    return run_in(folder, command, [list(CONDITIONS)[i] for i in drawn], NAMES[int(rng.integers(len(NAMES)))])


def run_in(folder: Path, command: str, conditions: list[str], name: bytes = b'plain') -> str:
    """'held', or Refused with how a command ended in a folder of this name under these conditions."""
    place, here = Place(folder / os.fsdecode(name)), Surroundings()
    place.fill()
    for condition in conditions:
        CONDITIONS[condition](here, folder)
    code, said = _run(COMMANDS[command].line(place), here, folder)
    what = f'{command} with {", ".join(conditions)} in {name[:30]!r}: exit code {code}'
    lines = said.splitlines()
    if code < 0 or code > 128 or any(word in said for word in ('Traceback', 'Unexpected', 'Exception ignored')):
        raise Refused(f'{what}: {said[-300:]}')
    if code and here.heard and (not lines or not lines[-1].startswith(ERROR) or lines[-1].strip() == ERROR.strip()):
        raise Refused(f'{what}, no sentence: {said[-300:]}')
    if not code:
        COMMANDS[command].check(place)
    if left := [path.name for path in place.folder.rglob('*') if '.partial' in path.name]:
        raise Refused(f'{what} left {left}')
    return 'held' if code == 0 else f'held: {what}: {lines[-1][:200] if lines else ""}'


def _run(line: list[str], here: Surroundings, folder: Path) -> tuple[int, str]:
    """Exit code of a command, and what it said on stderr."""
    here.env['OMP_NUM_THREADS'] = '1'
    program = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *line]
    script = f'cd "$WHERE"; {here.shell}exec "$@" {here.redirect}'
    with (folder / 'stdout').open('wb') as out, (folder / 'stderr').open('w+b') as error:
        streams = [out.fileno(), error.fileno()]
        if here.readerless:
            reader, writer = os.pipe()
            os.close(reader)
            streams[here.readerless - 1] = writer
        try:
            done = subprocess.run(
                ['/bin/sh', '-c', script, 'sh', *here.prefix, *program],
                env=here.env | {'WHERE': str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                timeout=PATIENCE,
            )
        finally:
            if here.readerless:
                os.close(writer)
        error.seek(0)
        return done.returncode, error.read().decode('utf-8', 'replace')
