"""What Ptychodus is promised of its plugin, measured inside the real host: a part of `make bench`.

Runs in an environment with Ptychodus and its window, one part a process, and prints JSON rows of (what, measured).
Nothing is asserted.

    QT_QPA_PLATFORM=offscreen python -P benchmarks/host_figures.py PART BACKEND
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.worker.messages import Message, Preview, ReconstructDone, Started

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / 'tests' / 'host'))
sys.path.insert(0, str(HERE.parents[1] / 'tests'))

LONG = 1000  # epochs that nobody waits for
REPEATS = 3
HANG = 120.0
SIDE, PATTERNS = 64, 1024
LARGE_SIDES, LARGE_BYTES = (128, 256), 2 * 2**30
Row = tuple[str, str]  # what, measured


def cpu() -> float:
    """CPU seconds of this thread so far."""
    return time.thread_time()


def start(backend: str) -> list[Row]:
    """Our own part of the start, in CPU seconds: the plugin's module, `install`, the library, the panels."""
    import importlib

    from PyQt5.QtWidgets import QApplication

    application = QApplication([])
    for host_module in ('ptychodus.model.core', 'ptychodus.controller.core', 'ptychodus.view'):
        importlib.import_module(host_module)  # what the host imports anyway
    spent: dict[str, float] = {}
    begin = cpu()
    importlib.import_module('ptychodus.plugins.ptychopinn_reconstructor').register_plugins(None)
    spent['plugin and install'] = cpu() - begin

    from ptychopinn_reconstructor.host import hook

    def timed(name: str, around: Callable[..., None]) -> Callable[..., None]:
        """A constructor's wrapper whose own time, less the host's, is kept."""

        def call(original: Callable[..., None], self: Any, bound: Any) -> None:
            inside = 0.0

            def host_s(*args: Any, **kwargs: Any) -> None:
                nonlocal inside
                at = cpu()
                original(*args, **kwargs)
                inside += cpu() - at

            at = cpu()
            around(host_s, self, bound)
            spent[name] = cpu() - at - inside

        return call

    # The constructors are wrapped already: wrap them anew, around the host's own, with a clock.
    core = importlib.import_module(hook.CORE).ProcessingCore
    controller = importlib.import_module(hook.CONTROLLER).ProcessingController
    for wrapped, name, around in (
        (core, 'library', hook._init_with_library),
        (controller, 'panel factory', hook._init_with_panel),
    ):
        wrapped.__init__ = wrapped.__init__.__wrapped__
        hook._wrap(wrapped, timed(name, around))

    from ptychodus.controller import ControllerCore
    from ptychodus.model import ModelCore
    from ptychodus.view import ViewCore

    with ModelCore(None) as model:
        from ptychopinn_reconstructor.host.window.factory import PanelFactory

        create, panels = PanelFactory.create_view_controller, 0.0

        def timed_create(self: PanelFactory, reconstructor_name: str) -> Any:
            nonlocal panels
            at = cpu()
            panel = create(self, reconstructor_name)
            panels += cpu() - at
            return panel

        PanelFactory.create_view_controller = timed_create  # type: ignore[method-assign]
        view = ViewCore()
        window = ControllerCore(model, view)
        window.show_main_window('host_figures')
        for _ in range(50):
            application.processEvents()
        window._run_tasks_timer.stop()
        view.close()
        spent['panels'] = panels
    frameworks = sorted({'torch', 'lightning', 'tensorflow', 'keras'} & sys.modules.keys())
    parts = ', '.join(f'{name} {seconds:.3f}' for name, seconds in spent.items())
    total = sum(spent.values())
    return [
        (f'our CPU time in the start of Ptychodus {version("ptychodus")}', f'{total:.3f} s ({parts})'),
        ('frameworks imported in its process', ', '.join(frameworks) or 'none'),
    ]


@contextmanager
def overheard() -> Iterator[list[tuple[float, Message]]]:
    """What the worker says, with the time at which the host heard it."""
    from ptychopinn_reconstructor.host.runner import Worker

    heard: list[tuple[float, Message]] = []
    original = Worker.events

    def events(self: Worker) -> Iterator[Message]:
        for message in original(self):
            heard.append((time.perf_counter(), message))
            yield message

    Worker.events = events  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        Worker.events = original  # type: ignore[method-assign]


def trained_model(backend: str, size: int, folder: Path) -> Any:
    """A host without its thread, and in it a model of a few epochs on a few patterns."""
    from host_sessions import TITLES, small_case, unstarted

    changes = {'PtychoPINNPlugin.Backend': TITLES[backend], 'PtychoPINNModel.NumFiltersScale': 2}
    host = unstarted(**changes, **{'PtychoPINNTraining.NumEpochs': 3, 'PtychoPINNTraining.BatchSize': 4})
    case = small_case(n=size, positions=25, step=8.0)
    (folder / 'empty').mkdir()
    with host.library.session.training_on(case.input):
        list(host.library.reconstructors[0].train(folder / 'empty', folder / 'out'))
    host.model.run_tasks()
    return host


def infer(backend: str) -> list[Row]:
    """From Infer to the object, less the import of the framework and the network, both of the same worker."""
    from host_sessions import small_case

    case = small_case(n=SIDE, positions=PATTERNS, step=8.0, jitter=2.0)
    beyond, ends, firsts, details = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, overheard() as heard:
        host = trained_model(backend, SIDE, Path(folder))
        data = case.input
        for _ in range(REPEATS):
            heard.clear()
            begin = time.perf_counter()
            for _ in host.library.reconstructors[0].reconstruct(data):
                pass
            end = time.perf_counter() - begin
            told = [(at - begin, message) for at, message in heard]
            shown = [(at, message) for at, message in told if isinstance(message, Preview)]
            complete = next(at for at, message in shown if message.complete)
            done = told[-1][1]
            assert isinstance(done, ReconstructDone)
            stages = {name: float(values['wall_seconds']) for name, values in done.stages.items()}
            imports = done.import_seconds
            begun = next(at for at, message in told if isinstance(message, Started))
            beyond.append(complete - imports - stages['network'])
            ends.append(end)
            firsts.append((shown[0][0], shown[0][1].patterns))
            others = ', '.join(f'{name} {seconds:.2f}' for name, seconds in stages.items())
            details.append(f'import {imports:.2f}, begins after {begun:.2f}, then {others}; complete {complete:.2f}')
    middle = sorted(range(REPEATS), key=beyond.__getitem__)[REPEATS // 2]
    first, patterns = firsts[middle]
    return [
        (
            f'Infer to the complete object, {PATTERNS} patterns of {SIDE} x {SIDE}, beyond import and network',
            f'{beyond[middle]:.2f} s ({details[middle]} s; of {REPEATS}: {", ".join(f"{b:.2f}" for b in beyond)})',
        ),
        ('first preview', f'{first:.2f} s after Infer, of {patterns} patterns'),
        ('Infer to the last product in the host', f'{statistics.median(ends):.2f} s'),
    ]


def anonymous(pid: int) -> int:
    """Bytes of resident anonymous memory of a process; 0 where it is gone."""
    with suppress(OSError):
        for line in Path(f'/proc/{pid}/status').read_text().splitlines():
            if line.startswith('RssAnon:'):
                return int(line.split()[1]) * 1024
    return 0


def children() -> list[int]:
    """The worker processes of this one."""
    lists = Path(f'/proc/{os.getpid()}/task').glob('*/children')
    return [int(pid) for file in lists for pid in file.read_text().split()]


def memory(backend: str) -> list[Row]:
    """Growth of the anonymous memory of both processes from Infer until patterns go through the network."""
    return [_memory(backend, side) for side in LARGE_SIDES]


def _memory(backend: str, side: int) -> Row:
    from host_sessions import small_case

    with tempfile.TemporaryDirectory() as folder, overheard() as heard:
        host = trained_model(backend, side, Path(folder))
        few = small_case(n=side, positions=36, step=8.0)
        own, _, _ = _grown(host, few.input, heard)
        count = LARGE_BYTES // (2 * side**2)
        many = _many(few, count)
        growth, here, seconds = _grown(host, many, heard)
    size = many.diffraction_patterns.nbytes
    mib = 2**20
    return (
        f'growth of RssAnon of both processes, the framework and its first batch included, {size / 2**30:.1f} GiB of '
        f'patterns of N = {side}',
        f'{100 * growth / size:.1f} % ({growth / mib:.0f} MiB, of which the host {here / mib:.0f}; with 36 patterns '
        f'{own / mib:.0f}, so that the data themselves are {100 * (growth - own) / size:.1f} %), '
        f'{seconds:.1f} s from Infer to the first patterns in the network',
    )


def _many(few: Any, count: int) -> Any:
    """A scan of as many positions, whose patterns are those of a small one again and again."""
    from host_sessions import PIXEL
    from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence

    side = int(np.ceil(np.sqrt(count)))
    points = [ProbePosition(i, (i % side) * 4 * PIXEL, (i // side) * 4 * PIXEL) for i in range(count)]
    patterns: NDArray[np.uint16] = np.empty((count, *few.scan.diffraction.shape[1:]), dtype=np.uint16)
    patterns[:] = np.resize(np.asarray(few.scan.diffraction), (1, *patterns.shape[1:]))
    from ptychodus.api.object import Object

    product = replace(few.product, probe_positions=ProbePositionSequence(points), object_=Object(None, None, None))
    return replace(few.input, diffraction_patterns=patterns, product=product)


def _grown(host: Any, data: Any, heard: list[tuple[float, Message]]) -> tuple[int, int, float]:
    """Largest growth of both processes and of this one, bytes, until patterns go through the network; the seconds."""
    before, peak, here = anonymous(os.getpid()), 0, 0
    ready = threading.Event()

    def watch() -> None:
        nonlocal peak, here
        while not ready.wait(0.02):
            mine = anonymous(os.getpid()) - before
            here, peak = max(here, mine), max(peak, mine + sum(map(anonymous, children())))

    thread = threading.Thread(target=watch)
    heard.clear()
    begin = time.perf_counter()
    thread.start()
    try:
        job = host.library.reconstructors[0].reconstruct(data)
        next(job)
        seconds = time.perf_counter() - begin
        job.close()
    finally:
        ready.set()
        thread.join()
    return peak, here, seconds


def ends(backend: str) -> list[Row]:
    """From Stop to idle, from the worker's death to the report."""
    from host_sessions import PINN, TITLES, session, small_case

    stops: list[float] = []
    reports: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'empty').mkdir()
        data = small_case(n=SIDE, positions=100, step=8.0).write(folder / 'data')
        changes = {'PtychoPINNPlugin.Backend': TITLES[backend], 'PtychoPINNModel.NumFiltersScale': 2}
        with session(**changes, **{'PtychoPINNTraining.NumEpochs': LONG}) as host:
            product = host.open(data)
            for number in range(REPEATS):
                for what, times in (('stop', stops), ('kill', reports)):
                    host.monitor.update_progress(0, LONG)
                    out = folder / f'{what}{number}'
                    product.train_reconstructor_local(folder / 'empty', out, algorithm=PINN)
                    _wait(host, lambda: host.monitor.get_progress() >= 1)
                    begin = time.perf_counter()
                    if what == 'stop':
                        host.monitor.stop_processing()
                    else:
                        os.kill(children()[0], signal.SIGKILL)
                    _wait(host, lambda: not host.monitor.is_processing)
                    times.append(time.perf_counter() - begin)
                    _wait(host, lambda: not host.library.session.is_finishing)
    return [
        ('Stop to idle, in training', _seconds(stops)),
        ('worker killed to the error in the host', _seconds(reports)),
        ('host killed to the end of the worker', _seconds([_orphaned(backend) for _ in range(REPEATS)])),
    ]


def _wait(host: Any, is_it: Callable[[], bool]) -> None:
    begin = time.monotonic()
    while not is_it():
        host.model.run_tasks()
        if time.monotonic() - begin > HANG:
            raise TimeoutError('the host is not where it should be')
        time.sleep(0.005)


def _orphaned(backend: str) -> float:
    """Seconds from SIGKILL of a training Ptychodus to the end of its worker."""
    command = [sys.executable, '-P', str(HERE), 'host_to_kill', backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        host.kill()
        begin = time.perf_counter()
        while _runs(pid) and time.perf_counter() - begin < HANG:
            time.sleep(0.005)
        return time.perf_counter() - begin


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    return False


def host_to_kill(backend: str) -> list[Row]:
    """A Ptychodus that trains; prints the process id of its worker."""
    from host_sessions import PINN, TITLES, session, small_case

    folder = Path(tempfile.mkdtemp(prefix='host_figures-'))
    (folder / 'empty').mkdir()
    data = small_case(n=SIDE, positions=100, step=8.0).write(folder / 'data')
    with session(**{'PtychoPINNPlugin.Backend': TITLES[backend], 'PtychoPINNTraining.NumEpochs': LONG}) as host:
        host.open(data).train_reconstructor_local(folder / 'empty', folder / 'out', algorithm=PINN)
        _wait(host, lambda: host.monitor.get_progress() >= 1)
        print(children()[0], flush=True)
        time.sleep(HANG)
    return []


def _seconds(values: list[float]) -> str:
    return f'{statistics.median(values):.2f} s ({", ".join(f"{value:.2f}" for value in values)})'


PARTS = {'start': start, 'infer': infer, 'memory': memory, 'ends': ends, 'host_to_kill': host_to_kill}


def main() -> None:
    """Print the rows of a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('part', choices=list(PARTS))
    parser.add_argument('backend', choices=['torch', 'tensorflow'])
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as home:  # Ptychodus reads settings there
        os.environ['HOME'] = home
        print(json.dumps(PARTS[options.part](options.backend)))


if __name__ == '__main__':
    main()
