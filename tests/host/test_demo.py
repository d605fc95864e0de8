"""`make demo` and `make gui` in a short form, in new processes as make runs them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptychopinn_reconstructor.backend import find_missing_modules
from ptychopinn_reconstructor.io import read_object, read_product
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.reconstruction.evaluate import evaluate

pytestmark = pytest.mark.slow
SCRIPT = str(Path(__file__).resolve().parents[2] / 'examples' / 'demo.py')
DEMO = [sys.executable, '-P', SCRIPT]
SHORT = ['--positions', '144']

# The window as it is, but for the event loop, which ends by itself when the window has had time to show the scan.
WINDOW = """
import sys
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QApplication, QComboBox, QPushButton
execute = QApplication.exec
def look():
    window = next(w for w in QApplication.topLevelWidgets() if w.windowTitle().startswith('Ptychodus'))
    boxes = {box.currentText() for box in window.findChildren(QComboBox) if box.isVisible()}
    infer = {b.text(): b.isEnabled() for b in window.findChildren(QPushButton) if b.isVisible()}
    print('SHOWN', sorted(boxes), sorted(text for text, enabled in infer.items() if enabled), flush=True)
    QApplication.quit()
def run(*_):
    QTimer.singleShot(2500, look)
    return execute()
QApplication.exec = run
import runpy
runpy.run_path(sys.argv.pop(1), run_name='__main__')
"""


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, 'HOME': str(home), 'QT_QPA_PLATFORM': 'offscreen'}


def run(folder: Path, *arguments: str, command: list[str] = DEMO) -> subprocess.CompletedProcess[str]:
    line = [*command, *arguments]
    return subprocess.run(
        line, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.parametrize('backend', ['torch', 'tensorflow'])
def test_the_demo_reconstructs_in_ptychodus(tmp_path: Path, backend: str) -> None:
    if missing := find_missing_modules(backend):
        pytest.skip(f'{backend} is not installed: {", ".join(missing)}')
    done = run(tmp_path, '--backend', backend, '--out', 'd', '--max-cpu-seconds', '12', *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / 'd'
    assert open_model(folder / 'model' / 'model.safetensors').manifest.backend == backend
    found = {name: evaluate(read_object(folder / name), read_object(folder / 'input' / 'truth.h5'), margin=4)
             for name in ('network.h5', 'product.h5')}  # fmt: skip
    assert found['product.h5'].phase_psnr > max(20.0, found['network.h5'].phase_psnr)
    for title, name in (('network alone', 'network.h5'), ('network + 2 passes', 'product.h5')):
        row = re.search(rf'{re.escape(title)} +([\d.]+) +([\d.]+)', done.stdout)
        assert row is not None and float(row[1]) == pytest.approx(found[name].phase_psnr, abs=1e-3)
        assert float(row[2]) == pytest.approx(found[name].amplitude_psnr, abs=1e-3)
    for picture in ('comparison', 'loss', 'reconstructed_amplitude', 'reconstructed_phase'):
        assert (folder / f'{picture}.png').read_bytes()[:4] == b'\x89PNG'
        assert f'd/{picture}.png' in done.stdout
    assert len(re.findall(r'Epoch \d+ of \d+: loss', done.stdout + done.stderr)) == len(
        read_product(folder / 'product.h5').losses
    )


def test_the_product_is_on_the_canvas_of_the_scan(tmp_path: Path) -> None:
    """As Ptychodus has saved it: the object's pixels are those of the truth, and so is its place."""
    if missing := find_missing_modules('torch'):
        pytest.skip(f'torch is not installed: {", ".join(missing)}')
    done = run(tmp_path, '--out', 'd', '--max-cpu-seconds', '1', *SHORT)
    assert 'The phase PSNR of the object is' in done.stdout or done.returncode == 0, done.stderr
    assert done.returncode in (0, 1) and 'Traceback' not in done.stdout + done.stderr
    with h5py.File(tmp_path / 'd' / 'product.h5') as found, h5py.File(tmp_path / 'd' / 'input' / 'truth.h5') as truth:
        assert found['object'].shape == truth['object'].shape
        for key in ('center_x_m', 'center_y_m', 'pixel_width_m', 'pixel_height_m'):
            assert float(found['object'].attrs[key]) == pytest.approx(float(truth['object'].attrs[key]), rel=1e-9)
        assert np.array_equal(found['probe_position_indexes'], truth['probe_position_indexes'])


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--backend', 'jax'], 'jax backend selected'),
        (['--positions', 'three'], 'invalid int value'),
        (['--quickly'], 'Unrecognized arguments: --quickly; see demo.py --help.'),
        (['--out', 'file'], 'choose another output folder'),
    ],
)
def test_bad_input_ends_with_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / 'file').touch()
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith('demo.py: error: ')
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != '.'] == ['file']  # Ptychodus has a .config


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere there always is a screen')
def test_without_a_screen_the_window_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Qt would abort the process."""
    hidden = {'DISPLAY', 'WAYLAND_DISPLAY', 'QT_QPA_PLATFORM'}
    without = {name: value for name, value in environment(tmp_path).items() if name not in hidden}
    done = subprocess.run(
        [*DEMO, '--gui', '--out', 'd'],
        cwd=tmp_path,
        env=without,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1 and 'There is no screen' in done.stderr and 'QT_QPA_PLATFORM' in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / 'd').exists()


def hears_ctrl_c() -> None:
    """Also where the tests themselves were started in the background, which makes a shell ignore it for all below."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_the_demo_and_its_worker(tmp_path: Path) -> None:
    if missing := find_missing_modules('torch'):
        pytest.skip(f'torch is not installed: {", ".join(missing)}')
    arguments = [*DEMO, '--out', 'd', *SHORT]
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=hears_ctrl_c,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if 'Epoch 1 of' in line:
                break
        children = workers_of(process.pid)
        assert len(children) == 1
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130 and said.strip().endswith('error: Interrupted.'), said
    assert 'Traceback' not in said
    deadline = time.monotonic() + 30
    while any(Path(f'/proc/{child}').exists() for child in children):
        assert time.monotonic() < deadline, 'the worker lives on'
        time.sleep(0.1)


def workers_of(pid: int) -> list[int]:
    """Its child processes."""
    tasks = Path(f'/proc/{pid}/task').glob('*/children')
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_the_window_opens_on_the_scan_with_the_algorithm_selected(tmp_path: Path) -> None:
    if missing := find_missing_modules('torch'):
        pytest.skip(f'torch is not installed: {", ".join(missing)}')
    done = run(tmp_path, '--gui', '--out', 'd', *SHORT, command=[sys.executable, '-P', '-c', WINDOW, SCRIPT])
    assert done.returncode == 0, done.stdout + done.stderr
    shown = next(line for line in done.stdout.splitlines() if line.startswith('SHOWN'))
    assert 'ptychopinn_pinn' in shown and "'simulated'" in shown and "'Train'" in shown, shown
    assert (tmp_path / 'd' / 'input' / 'product.h5').exists() and not (tmp_path / 'd' / 'product.h5').exists()
