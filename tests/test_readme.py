"""The commands of README.md run as they stand there, in one folder and in their order, and leave the files they name.

A block is what stands between ```console and ```; a command begins with `$ ` and goes on in the next line after a
backslash. Commands of ours run, and `cd`; those of others (pip, make, ptychodus) do not. They run in this process,
which spares each the import of a framework; trainings get a few seconds.
"""

from __future__ import annotations

import itertools
import re
import shlex
from contextlib import chdir
from pathlib import Path

import pytest
from command_line import run

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / 'shared' / 'data'
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCKS = [
    re.findall(r'^\$ (.+)', block.replace('\\\n', ' '), re.MULTILINE)
    for block in re.findall(r'^```console\n(.*?)^```', README, re.MULTILINE | re.DOTALL)
]
OURS = [block for block in BLOCKS if any(line.startswith('ptychopinn ') for line in block)]
LIMITED = {'train': ('--max-cpu-seconds', '2'), 'pretrain': ('--max-cpu-seconds', '2')}
LONG = {'compare', 'study', 'demo'}  # they train several times
OUTPUTS = {'--output-dir', '--out', '--picture'}
FILES = {'.npz', '.h5', '.png', '.json', '.csv', '.html', '.yaml', '.md', '.zip', '.safetensors'}


def block_cases() -> list[object]:
    return [
        pytest.param(block, id=f'block {number}', marks=[pytest.mark.slow] if used(block) & LONG else [])
        for number, block in enumerate(OURS, start=1)
    ]


def used(block: list[str]) -> set[str]:
    """The commands of ours in a block: 'train', 'reconstruct' ..."""
    return {line.split()[1] for line in block if line.startswith('ptychopinn ') and len(line.split()) > 1}


class Shell:
    """A folder beside the shared data, as a checkout would lie, in which commands run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / 'checkout'
        self.folder.mkdir()
        if SHARED_DATA.exists():
            (folder / 'shared').symlink_to(SHARED_DATA.parent)

    def run(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if words[0] == 'cd':
            self.folder = (self.folder / words[1]).resolve(strict=True)
        elif words[0] == 'ptychopinn':
            with chdir(self.folder):
                done = run(*words[1:], *LIMITED.get(words[1], ()))
            assert done.exit_code == 0, f'{line}\n{done.stderr}'
            for name in files_of(words[2:]):
                assert (self.folder / name).exists(), f'{line}: {name} is not there'


def files_of(words: list[str]) -> list[str]:
    """What a command reads and writes, as far as it names it; a key within a file, behind a colon, left out."""
    named = [word for option, word in itertools.pairwise(words) if option in OUTPUTS]
    return named + [word.partition(':')[0] for word in words if Path(word.partition(':')[0]).suffix in FILES]


@pytest.fixture(scope='module')
def shell(tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> Shell:
    return Shell(tmp_path_factory.mktemp('readme'))


@pytest.mark.parametrize('block', block_cases())
def test_its_commands_run(shell: Shell, block: list[str]) -> None:
    if any('shared/data' in line for line in block) and not SHARED_DATA.exists():
        pytest.skip('no data: ../shared/data beside the checkout is absent')
    for line in block:
        shell.run(line)


def test_files_are_found_in_commands() -> None:
    """And there are commands to be found."""
    assert len(OURS) > 1 and {'train', 'reconstruct'} <= set().union(*map(used, OURS))
    line = 'evaluate a/b.npz:probe result --truth scan.npz --picture p.png --output-dir out --set a=3 --refine 2.5'
    assert sorted(files_of(line.split())) == ['a/b.npz', 'out', 'p.png', 'p.png', 'scan.npz']
