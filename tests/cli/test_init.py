"""What someone who has only the wheel gets by `ptychopinn init`, and that its README can be followed to the letter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import assert_refused, ok, run, snapshot
from scans import backend_options

from ptychopinn_reconstructor.cli.configuration import list_presets
from ptychopinn_reconstructor.io import read_scan

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('init') / 'a' / 'b'
    said = ok('init', path).stdout
    assert f'read {path / "README.md"}' in said and 'scan.npz' in said
    return path


def test_it_writes_two_scans_of_one_instrument(folder: Path) -> None:
    first, second = (read_scan(folder / name).scan for name in ('scan.npz', 'second_scan.npz'))
    assert len(first) == len(second) == 256 and first.n_pixels == 64
    assert first.probe is not None and second.probe is not None
    assert (first.probe == second.probe).all()
    assert first.object is not None and second.object is not None
    assert abs(abs(first.object).mean() - abs(second.object).mean()) > 1e-3


def test_it_writes_presets_and_examples(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        'README.md', 'examples', 'presets', 'scan.npz', 'second_scan.npz',
    ]  # fmt: skip
    assert sorted(path.stem for path in (folder / 'presets').glob('*.yaml')) == list_presets()
    assert (folder / 'presets' / 'studies' / 'dose.yaml').exists()
    written = {path.relative_to(folder / 'examples') for path in (folder / 'examples').rglob('*') if path.is_file()}
    kept = {path.relative_to(EXAMPLES) for path in EXAMPLES.rglob('*') if path.is_file() and path.suffix != '.pyc'}
    assert kept - written == {Path('__init__.py'), Path('first_steps.md')} and written <= kept
    assert len(written) > 5
    for path in written:
        assert (folder / 'examples' / path).read_bytes() == (EXAMPLES / path).read_bytes()


def test_every_example_is_listed_with_what_it_ends_with(folder: Path) -> None:
    text = (folder / 'examples' / 'README.md').read_text(encoding='utf-8')
    there = {path.name + '/' * path.is_dir() for path in (folder / 'examples').iterdir()} - {'README.md', 'pictures/'}
    assert {line.split('`')[1] for line in text.splitlines() if line.startswith('| `')} == there
    pictures = re.findall(r'\((pictures/[^)]+)\)', text)
    sizes = [(folder / 'examples' / name).stat().st_size for name in pictures]
    assert len(pictures) == 4 and max(sizes) < 100_000 and min(sizes) > 5_000


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('mine')
    before = snapshot(tmp_path)
    assert_refused(run('init', str(tmp_path)), (str(tmp_path), 'not empty', 'name a new one'))
    assert_refused(run('init', str(tmp_path / 'mine.txt')), ('mine.txt', 'is a file'))
    assert snapshot(tmp_path) == before


def test_what_the_readme_names_is_there(folder: Path) -> None:
    text = (folder / 'README.md').read_text(encoding='utf-8')
    named = set(re.findall(r'(?:presets|examples)/[\w./]+\w', text))
    assert len(named) > 2 and all((folder / name).exists() for name in named)


@pytest.mark.slow
@pytest.mark.skipif(bool(backend_options()), reason='PyTorch, the default backend of the README, is not installed')
def test_the_readme_can_be_followed(folder: Path) -> None:
    """Every command of it, in order, as typed; the figures that it promises come out."""
    text = (folder / 'README.md').read_text(encoding='utf-8')
    commands = re.findall(r'^\$ (.+)$', text, re.MULTILINE)
    assert len(commands) == 6
    programs = folder.parent / 'bin'
    programs.mkdir()
    for name, arguments in (('python', ''), ('ptychopinn', '-P -m ptychopinn_reconstructor ')):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    environment = os.environ | {'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}'}
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f'{command}: {done.stderr}'
    for line, (name, key) in promised().items():
        row = re.search(rf'^\| {re.escape(line)} \| (\d+) \| (\d+) \| (\.\d+) \|$', text, re.MULTILINE)
        assert row, line
        image = json.loads((folder / name / 'metrics.json').read_text())[key]
        assert image['phase_psnr'] == pytest.approx(float(row[1]), abs=2.0), line
        assert image['amplitude_psnr'] == pytest.approx(float(row[2]), abs=2.0), line
        assert image['frc_area'] == pytest.approx(float(row[3]), abs=0.05), line


def promised() -> dict[str, tuple[str, str]]:
    """The lines of the README's table: which folder's metrics.json, and which entry of it, they are about."""
    return {
        '`result`: network alone': ('result', 'image_network'),
        '`result`: after the passes': ('result', 'image'),
        '`engine`': ('engine', 'image'),
        '`second`: network alone': ('second', 'image_network'),
        '`second`: after the passes': ('second', 'image'),
    }
