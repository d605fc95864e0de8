"""Scan: what it accepts, what it hands out, what it refuses (specs/data_contracts.md, section 1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.scan import MAX_CANVAS, Scan, check_probe

N = 16


def make(**changes: Any) -> Scan:
    """A small valid scan with some fields replaced."""
    random = np.random.default_rng(3)
    fields: dict[str, Any] = {
        'diffraction': random.poisson(4, (6, N, N)).astype(np.uint16),
        'positions': random.uniform(0, 30, (6, 2)),
    }
    return Scan(**{**fields, **changes})


@settings(max_examples=30)
@given(
    values=hnp.arrays(np.uint16, (5, N, N), elements=st.integers(0, 4000)).filter(lambda a: a.any()),
    bad=hnp.arrays(bool, (N, N)).filter(lambda a: not a.all()),
    start=st.integers(0, 3),
)
def test_counts_squares_amplitudes_and_zeroes_bad_pixels(values: np.ndarray, bad: np.ndarray, start: int) -> None:
    """D18, D19: both domains hand out the same counts; bad pixels count zero."""
    expected = np.where(bad, 0.0, values[start : start + 2].astype(np.float64))
    if not np.where(bad, 0, values).any():
        return
    positions = np.arange(10.0).reshape(5, 2)
    for domain, data in (('counts', values), ('amplitude', np.sqrt(values.astype(np.float64)))):
        scan = Scan(diffraction=data, positions=positions, domain=domain, bad_pixels=bad)  # type: ignore[arg-type]
        found = scan.counts(slice(start, start + 2))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(scan.mean_counts, np.where(bad, 0, values).sum() / 5, rtol=1e-6)


def test_indexing_by_integers_keeps_their_order() -> None:
    """D19."""
    scan = make()
    np.testing.assert_array_equal(scan.counts(np.array([4, 1, 4])), np.asarray(scan.diffraction)[[4, 1, 4]])


@pytest.mark.parametrize(('n', 'side'), [(2, N), (255, 128), (256, 128), (257, 128), (513, 128), (35, 512), (3, 4096)])
def test_blocks_cover_every_pattern_once(n: int, side: int) -> None:
    """D19, MEMORY: in blocks of at most 16 MiB of float32, or of one pattern where that is larger."""
    patterns = np.broadcast_to(np.ones((), np.uint8), (n, side, side))
    scan = make(diffraction=patterns, positions=np.random.default_rng(0).uniform(0, 9, (n, 2)))
    blocks = list(scan.blocks())
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[block] for block in blocks]), np.arange(n))
    longest = max(block.stop - block.start for block in blocks)
    assert longest == min(n, max(1, 2**22 // side**2))
    assert scan.mean_counts == side * side


@pytest.mark.skipif(sys.platform != 'linux', reason='private memory is read from the kernel of Linux')
def test_checking_a_mapped_scan_takes_little_memory(tmp_path: Path) -> None:
    """D19, MEMORY: 268 MB of patterns of 512 x 512 pixels, of which 32 MB at a time are held at most."""
    np.lib.format.open_memmap(tmp_path / 'patterns.npy', 'w+', np.uint16, (512, 512, 512))[:, 256, 256] = 3
    code = """
import sys, threading
import numpy as np
from ptychopinn_reconstructor.scan import Scan

def private():
    return int(next(line for line in open('/proc/self/status') if line.startswith('RssAnon')).split()[1])

def watch():
    while not done.wait(0.001):
        seen.append(private())

done, seen = threading.Event(), [private()]
watcher = threading.Thread(target=watch)
watcher.start()
bad = np.eye(512, dtype=bool)[::-1]
scan = Scan(np.load(sys.argv[1], mmap_mode='r'), np.random.default_rng(0).uniform(0, 300, (512, 2)), bad_pixels=bad)
assert scan.mean_counts == 3
done.set()
watcher.join()
print(max(seen) - seen[0], len(seen))
"""
    command = [sys.executable, '-c', code, str(tmp_path / 'patterns.npy')]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    growth, looks = map(int, run.stdout.split())
    assert looks > 20
    assert growth < 100_000, 'private memory in kB'


def test_a_scan_is_immutable() -> None:
    """D18: neither the fields nor the arrays change, and the caller's array stays writable."""
    positions = np.random.default_rng(0).uniform(0, 9, (6, 2))
    scan = make(positions=positions, probe=np.ones((N, N)), metadata={'name': 'a'})
    with pytest.raises(AttributeError):
        scan.domain = 'amplitude'  # type: ignore[misc]
    for array in (scan.positions, scan.probe, scan.diffraction):
        assert array is not None and not array.flags.writeable
    with pytest.raises(TypeError):
        scan.metadata['name'] = 'b'  # type: ignore[index]
    positions[0] = 5
    assert positions.flags.writeable and not (scan.positions[0] == 5).all()


def test_with_probe_changes_the_probe_only() -> None:
    """D12."""
    scan = make(bad_pixels=np.eye(N, dtype=bool), pixel_size=(np.float32(1e-8), 1e-8), scan_index=np.arange(6))
    other = scan.with_probe(np.full((3, N, N), 2j))
    assert other.probe is not None and other.probe.shape == (3, N, N) and scan.probe is None
    assert other.pixel_size == scan.pixel_size and other.mean_counts == scan.mean_counts
    np.testing.assert_array_equal(other.positions, scan.positions)


@pytest.mark.parametrize('shape', [(N, N), (N, N, 1), (1, N, N), (3, N, N)])
def test_probe_shapes(shape: tuple[int, ...]) -> None:
    """D12."""
    values = np.arange(np.prod(shape)).reshape(shape) + 1j
    np.testing.assert_array_equal(check_probe(values, N), values.reshape(-1, N, N).astype(np.complex64))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'domain': 'intensity'}, "'intensity'"),
        ({'diffraction': [[1, 2], [3, 4]]}, 'expected (n, N, N)'),
        ({'diffraction': np.ones((6, N, N), bool)}, 'type bool'),
        ({'diffraction': np.ones((6, 14, 14), int)}, 'N = 14'),
        ({'diffraction': np.zeros((6, N, N))}, 'All diffraction patterns are zero'),
        ({'diffraction': np.full((6, N, N), np.nan)}, 'pattern 0'),
        ({'diffraction': np.ones((5, N, N))}, 'expected (5, 2)'),
        ({'positions': np.zeros((6, 2))}, 'span only 0 pixels'),
        ({'positions': np.arange(12).reshape(6, 2) * 1e-8}, 'in meters'),
        ({'positions': np.arange(12).reshape(6, 2) * float(MAX_CANVAS)}, 'not in object pixels'),
        ({'positions': np.full((6, 2), np.inf)}, 'NaN or infinity'),
        ({'positions': np.ones((6, 2), complex)}, 'complex128'),
        ({'positions': np.ones((6, 3))}, '(6, 3)'),
        ({'probe': np.ones((8, 8))}, '8 pixels wide'),
        ({'probe': np.ones((N, 8))}, '(16, 8)'),
        ({'probe': np.zeros((N, N))}, 'zero everywhere'),
        ({'probe': np.full((N, N), np.inf)}, 'NaN or infinity'),
        ({'probe': np.full((N, N), 'x')}, 'complex numbers'),
        ({'object': np.ones((2, 30, 30))}, '(2, 30, 30)'),
        ({'object': np.full((30, 30), np.nan)}, 'NaN'),
        ({'object_origin': (np.nan, 0.0)}, 'two finite numbers'),
        ({'object_origin': (1.0, 2.0, 3.0)}, '(1.0, 2.0, 3.0)'),
        ({'bad_pixels': np.ones((N, N), bool)}, 'every pixel'),
        ({'bad_pixels': np.zeros((N, N))}, 'float64'),
        ({'bad_pixels': np.zeros((4, 4), bool)}, '(4, 4)'),
        ({'scan_index': np.zeros((6, 1))}, '(6, 1)'),
        ({'pixel_size': (0.0, 1e-8)}, 'positive meters'),
    ],
)
def test_what_a_scan_refuses(changes: dict[str, Any], words: str) -> None:
    """D3, D18: one sentence with the value seen."""
    with pytest.raises(ScanError) as caught:
        make(**changes)
    assert words in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('value', [-1, np.nan])
def test_a_pattern_that_is_bad_late_in_the_scan_is_named(value: float) -> None:
    """D18: the number of the pattern counts over all blocks."""
    values = np.ones((600, 128, 128), np.float16)
    values[517, 3, 3] = value
    with pytest.raises(ScanError, match='pattern 517'):
        make(diffraction=values, positions=np.random.default_rng(0).uniform(0, 9, (600, 2)))
