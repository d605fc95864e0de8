"""A file with several scans, told apart by scan_index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from command_line import run

from ptychopinn_reconstructor.io import read_product, read_scans, write_npz
from ptychopinn_reconstructor.physics.simulation.simulate import simulate


def test_each_scan_of_a_file_gives_an_object(tmp_path: Path) -> None:
    """As it does from a file of its own; with --as-is all are taken for one."""
    first, second = (simulate(n=32, positions=36, step=4, object=name, seed=0) for name in ('cells', 'spokes'))
    places = np.concatenate([first.positions, second.positions])
    patterns = np.concatenate([first.diffraction, second.diffraction])
    both = replace(first, diffraction=patterns, positions=places, object=None, scan_index=np.repeat([2, 5], 36))
    write_npz(tmp_path / 'both.npz', both)
    write_npz(tmp_path / 'second.npz', replace(second, object=None))
    assert [len(read.scan) for read in read_scans(tmp_path / 'both.npz').values()] == [36, 36]
    refine = ('refine', '--passes', '2', '--quiet', '--output-dir')
    for name, *options in (('both',), ('second',), ('both', '--as-is')):
        folder = tmp_path / ''.join([name, *options])
        assert run(*refine, str(folder), str(tmp_path / f'{name}.npz'), *options).exit_code == 0
    overview = json.loads((tmp_path / 'both' / 'metrics.json').read_text())
    assert overview['notes'][0] == 'The file holds 2 scans (scan_index 2, 5): each has a folder scan_N.'
    alone = json.loads((tmp_path / 'second' / 'metrics.json').read_text())
    assert overview['scans']['5']['residual'] == alone['residual']
    result, expected = (read_product(tmp_path / folder / 'product.h5') for folder in ('both/scan_5', 'second'))
    assert np.array_equal(result.object, expected.object)
    assert len(read_product(tmp_path / 'both--as-is' / 'product.h5').positions) == 72
