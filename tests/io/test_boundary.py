"""Readers and files of others: whatever these hold, a scan or one sentence of the reader's own comes out."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import damage, damage_ends
from scans import noise_product, small_scan

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.config.yaml_text import parse_yaml
from ptychopinn_reconstructor.errors import MAX_MESSAGE, ConfigError, PtychoPINNError, ScanError, quote, shorten
from ptychopinn_reconstructor.io import read_object, read_probe, read_scan, write_npz, write_product
from ptychopinn_reconstructor.io.boundary import bound_errors
from ptychopinn_reconstructor.io.tiff import write_tiff_object


def check_message(error: PtychoPINNError) -> None:
    """One sentence on one line, in which no value takes more than its share."""
    text = str(error)
    assert '\n' not in text and len(text) <= MAX_MESSAGE
    quoted = [part for part in re.findall(r"'([^']*)'", text) if '/' not in part]
    assert all(len(part) <= 320 for part in quoted), text


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('files')
    scan = small_scan(positions=16)
    write_npz(folder / 'stored.npz', scan)
    write_npz(folder / 'packed.npz', scan, compressed=True)
    write_product(folder / 'product.h5', noise_product())
    write_tiff_object(folder / 'object.tif', noise_product().object, None)
    np.save(folder / 'probe.npy', np.ones((16, 16), np.complex64))
    return folder


READERS: dict[str, Callable[[Path], Any]] = {
    'stored.npz': read_scan,
    'packed.npz': read_scan,
    'object.tif': read_object,
    'probe.npy': read_probe,
}


@pytest.mark.parametrize('name', READERS)
@pytest.mark.filterwarnings('ignore')  # numpy's own, about headers of old versions
def test_damaged_files_are_read_or_refused(name: str, files: Path, tmp_path: Path) -> None:
    """Sixty of each, drawn anew from the same seed: no other exception, no message without an end."""
    content, rng = (files / name).read_bytes(), np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / name
        path.write_bytes((damage if number % 2 else damage_ends)(content, rng))
        try:
            READERS[name](path)
        except ScanError as error:
            check_message(error)


HEADERS = {
    'no literal': b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,(}",
    'a name': b"{'descr': '<f4', 'fortran_order': False, 'shape': huge}",
    'nested': b'(' * 3000,
    'unfinished': b"{'descr': '<f4",
    'too much': b"{'descr': '<f4', 'fortran_order': False, 'shape': (200000000000,)}",
    'negative': b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}",
    'odd type': b"{'descr': 'complex', 'fortran_order': 'x', 'shape': (4,)}",
    'long text': b"{'descr': '" + b'x' * 9000 + b"', 'fortran_order': False, 'shape': (4,)}",
}


def _npy(header: bytes) -> bytes:
    header += b'\n'
    return b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + b'\0' * 16


@pytest.mark.parametrize('header', HEADERS.values(), ids=HEADERS)
def test_headers_that_are_none_are_the_readers_own_error(header: bytes, tmp_path: Path) -> None:
    """As a file of its own and in an archive; 800 GB in 100 bytes among them."""
    (tmp_path / 'probe.npy').write_bytes(_npy(header))
    with zipfile.ZipFile(tmp_path / 'scan.npz', 'w') as archive:
        for key in ('xcoords', 'ycoords', 'diff3d', 'probeGuess'):
            archive.writestr(f'{key}.npy', _npy(header))
    for read, name in ((read_probe, 'probe.npy'), (read_scan, 'scan.npz'), (read_probe, 'scan.npz')):
        with pytest.raises(ScanError) as caught:
            read(tmp_path / name)
        check_message(caught.value)


def test_an_archive_that_declares_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Neither is memory taken for it, nor anything unpacked."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,)}\n"
    path = tmp_path / 'scan.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for key in ('xcoords', 'ycoords', 'diff3d'):
            archive.writestr(f'{key}.npy', _npy(header)[:-16] + b'\0' * 1000)
    content, size = path.read_bytes(), len(_npy(header)) - 16 + 1000
    declared = (2**32 - 2).to_bytes(4, 'little')
    path.write_bytes(content.replace(size.to_bytes(4, 'little'), declared))
    with pytest.raises(ScanError, match=r'damaged|more than the file can hold'):
        read_scan(path)


@pytest.mark.parametrize(
    'error', [MemoryError(), RecursionError('deep'), SyntaxError('x'), KeyError('x' * 500), OSError()]
)
def test_any_exception_becomes_the_readers_own_error(error: Exception) -> None:
    with pytest.raises(ScanError, match=r'scan\.h5') as caught, bound_errors('scan.h5'):
        raise error
    check_message(caught.value)


def test_our_own_errors_and_a_missing_package_pass_the_boundary() -> None:
    for error in (ConfigError('as it is'), ImportError('h5py')):
        with pytest.raises(type(error), match=str(error)), bound_errors('scan.h5'):
            raise error


BOMB = 'a: &a [x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{new}: &{new} [{", ".join([f"*{old}"] * 9)}]\n' for old, new in zip('abcdefgh', 'bcdefghi', strict=True)
)
YAML = {
    'timestamp': '!!timestamp x',
    'brackets': '[' * 3000,
    'aliases': f'{BOMB}training: *i\n',
    'itself': 'training: &a {batch_size: [*a]}\n',
    'python': '!!python/object/apply:os.system [ls]',
    'number': f'training: {{batch_size: {"9" * 5000}}}',
    'float': '!!float x',
    'long key': f'training: {{{"k" * 3000}: 1}}',
    'long value': f'training: {{batch_size: {"v" * 3000}}}',
    'long section': f'{"s" * 3000}: {{a: 1}}',
    'list': f'training: [{"1, " * 3000}]',
    'too long': 'a: 1\n' * 300_000,
}


@pytest.mark.parametrize('text', YAML.values(), ids=YAML)
def test_yaml_of_others_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().merged(parse_yaml(text, 'settings.yaml', 'mend it'))
    check_message(caught.value)
    assert len(str(caught.value)) < 500


def test_quotes_are_bounded_and_short_ones_complete() -> None:
    assert quote('as it is') == "'as it is'" and quote([1, 2]) == '[1, 2]' and quote(None) == 'None'
    for value in ('x' * 10**6, [['y' * 100] * 100] * 100, 10**5000, {str(n): n for n in range(10**4)}, b'\0' * 10**6):
        assert len(quote(value)) <= 80
    assert shorten('first ' + 'x' * 500 + ' last').startswith('first') and shorten('a\nb') == 'a b'
    assert len(str(ScanError('x' * 10**6))) <= MAX_MESSAGE
