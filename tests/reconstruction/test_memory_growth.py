"""How memory grows with the patterns of a scan: by what is known of each, not by the patterns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.io import write_cxi
from ptychopinn_reconstructor.reconstruction.memory import PER_PATTERN
from ptychopinn_reconstructor.scan import Scan

SCRIPT = """
import sys, threading, time
from pathlib import Path
import numpy as np
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.events import Previews, ignore, never
from ptychopinn_reconstructor.io import lazy, read_scan
from ptychopinn_reconstructor.physics.arrays import NumpyArrays
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction import network_object as inference
from ptychopinn_reconstructor.reconstruction.finish import finish
from ptychopinn_reconstructor.reconstruction.reconstruct import run_info
from ptychopinn_reconstructor.reconstruction.refinement import refinement_options
from ptychopinn_reconstructor.reconstruction.report import StageTimes
from ptychopinn_reconstructor.reconstruction.usable_scan import make_usable
from ptychopinn_reconstructor.reconstruction.writing import write_result

lazy.LARGE = inference.IN_MEMORY = 2**20
peak = 0

def watch():
    global peak
    while True:
        lines = Path('/proc/self/status').read_text().splitlines()
        peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith('RssAnon')))
        time.sleep(0.01)

class Ones:
    def predict(self, root4, backprojection):
        return np.ones((len(root4), *backprojection.shape[2:]), np.complex64)

threading.Thread(target=watch, daemon=True).start()
scratch, config = Path(sys.argv[2]), Config().merged({'refinement': {'passes': 1}})
scan, _ = make_usable(read_scan(sys.argv[1], scratch=scratch).scan, config.data)
prepared, times, arrays = prepare_scan(scan), StageTimes(), NumpyArrays()
start = inference.network_object(prepared, Ones(), config, times=times, scratch=scratch, arrays=arrays)
options = refinement_options(config.refinement, prepared, start='network')
run = run_info(prepared, 'torch', 'cpu', 'pinn', 'scan')
previews = Previews(ignore, None)
result = finish(prepared, start, options, run, times, previews=previews, should_stop=never, arrays=arrays)
report = result.report
metrics = {'residual_per_pattern': report.residual_per_pattern}
write_result(scratch / 'out', result.reconstruction, metrics, reliability=report.reliability, pictures='none')
time.sleep(0.05)
print(peak)
"""


def write_repeated(path: Path, scan: Scan, count: int) -> None:
    """A CXI file of `count` patterns on one small canvas: those of a scan, again and again, by a virtual dataset."""
    positions = np.random.default_rng(0).uniform(0, 40, (count, 2))
    source, patterns = path.with_suffix('.h5'), np.asarray(scan.diffraction)
    with h5py.File(source, 'w') as file:
        file['patterns'] = patterns
    write_cxi(path, Scan(np.tile(patterns, (count // len(patterns), 1, 1)), positions, scan.probe, as_is=True))
    with h5py.File(path, 'a') as file:
        detector = file['entry_1/instrument_1/detector_1']
        del detector['data']
        layout = h5py.VirtualLayout((count, *patterns.shape[1:]), patterns.dtype)
        for start in range(0, count, len(patterns)):
            layout[start : start + len(patterns)] = h5py.VirtualSource(source.name, 'patterns', patterns.shape)
        detector.create_virtual_dataset('data', layout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='anonymous memory is read from /proc')
def test_memory_grows_by_less_a_pattern_than_is_foreseen(tmp_path: Path) -> None:
    """From the file to the product, through a network, the engine and all that is written."""
    scan = small_scan(n=16, positions=2000, step=1.0, jitter=0.3)
    peaks = {}
    for count in (4000, 40_000):
        write_repeated(tmp_path / f'{count}.cxi', scan, count)
        command = [sys.executable, '-c', SCRIPT, str(tmp_path / f'{count}.cxi'), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert not done.returncode, done.stderr
        peaks[count] = 1024 * int(done.stdout)
    assert (peaks[40_000] - peaks[4000]) / 36_000 < PER_PATTERN
