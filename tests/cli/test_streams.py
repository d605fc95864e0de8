"""Commands whose standard streams are closed, full, or without a reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scans import small_scan

from ptychopinn_reconstructor.io import read_product, write_npz

GOLDEN = Path(__file__).parents[1] / 'golden'
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='a shell of POSIX')


def run_shell(redirect: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command started by a shell with these redirections."""
    program = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *arguments]
    return subprocess.run(['/bin/sh', '-c', f'exec "$@" {redirect}', 'sh', *program], capture_output=True, text=True)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / 'scan.npz'
    write_npz(path, small_scan(positions=16))
    return path


@pytest.mark.parametrize('redirect', ['>&-', '2>&-', '<&- >&- 2>&-', '2>/dev/full'])
def test_a_command_works_when_nobody_can_hear_it(redirect: str, scan: Path, tmp_path: Path) -> None:
    done = run_shell(redirect, 'refine', str(scan), '--output-dir', str(tmp_path / 'out'), '--passes', '1')
    assert done.returncode == 0, done.stderr
    assert read_product(tmp_path / 'out' / 'product.h5').positions.shape == (16, 2)


@pytest.mark.parametrize('redirect', ['', '>&-', '2>&-', '>&- 2>&-'])
def test_names_that_are_no_text_are_told_or_not_but_never_fail(redirect: str, scan: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b'/not \xff\xfe text'))
    done = run_shell(redirect, 'refine', str(scan), '--output-dir', str(folder), '--passes', '1')
    assert done.returncode == 0, done.stderr
    assert (folder / 'product.h5').exists()
    assert ('not \\udcff\\udcfe text' in done.stdout) == ('>&-' not in redirect.split())


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library prints would be written into it."""
    program = (
        'import os, sys\n'
        'from ptychopinn_reconstructor.cli.streams import prepare_streams\n'
        'prepare_streams()\n'
        f'file = open({str(tmp_path / "file")!r}, "w")\n'
        'os.write(2, b"a library speaks")\n'
        'print("ours", file=sys.stderr)\n'
        'sys.exit(file.fileno() < 3)\n'
    )
    done = subprocess.run(['/bin/sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh', sys.executable, '-P', '-c', program])
    assert done.returncode == 0
    assert (tmp_path / 'file').read_bytes() == b''


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='Linux')
def test_a_full_standard_output_is_one_sentence() -> None:
    done = run_shell('>/dev/full', 'inspect', str(GOLDEN / 'model_format2.safetensors'))
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('ptychopinn: error: Cannot print the result (No space left on device)')


def test_a_name_that_is_no_text_is_printed(scan: Path) -> None:
    """Of a locale that knows ASCII only, or of bytes that are no UTF-8."""
    odd = os.fsdecode(bytes(scan.parent) + b'/\xff\xc3\xb6.npz')
    os.rename(scan, odd)
    done = run_shell('', 'convert', odd, str(scan.parent / 'scan.cxi'))
    assert done.returncode == 0, done.stderr
    done = run_shell('', 'convert', f'{odd}x', str(scan.parent / 'other.cxi'))
    assert done.returncode == 2 and 'There is no file' in done.stderr, done.stderr
