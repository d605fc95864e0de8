"""Long series in one process: memory, file handles, threads and scratch folders stay what they were after a few."""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from scans import short_config, small_scan

from ptychopinn_reconstructor.host.runner import Worker
from ptychopinn_reconstructor.reconstruction.reconstruct import reconstruct, refine_scan
from ptychopinn_reconstructor.worker.handover import Scratch, write_arrays
from ptychopinn_reconstructor.worker.requests import ReconstructRequest

MODEL = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'
# Bytes a repetition, and at once: the patterns of one scan alone are 64 KiB a repetition; allocators take some hundred
# KiB now and then.
SLOPE, STEP = 8 * 2**10, 512 * 2**10
ARRAYS = ('diffraction', 'positions', 'probe', 'object')


class Grown(Exception):  # noqa: N818 - says what happened
    """What a long series has piled up."""


@dataclass(frozen=True)
class Held:
    """What this process holds now (Linux): bytes of memory, and counts."""

    memory: int
    handles: int
    threads: int
    children: int
    scratch: int

    @classmethod
    def measure(cls, folder: Path) -> Held:
        """As it is now, with the entries of the folder for temporary files."""
        gc.collect()
        process = Path('/proc/self')
        pages = int((process / 'statm').read_text().split()[1])
        tasks = list((process / 'task').iterdir())
        return cls(
            pages * os.sysconf('SC_PAGE_SIZE'),
            len(list((process / 'fd').iterdir())),
            len(tasks),
            sum(len((task / 'children').read_text().split()) for task in tasks),
            len(list(folder.iterdir())),
        )


def repeat(act: Callable[[], object], count: int, folder: Path) -> list[Held]:
    """What the process holds after each of so many repetitions, all temporary files in `folder`."""
    before, tempfile.tempdir, held = tempfile.tempdir, str(folder), []
    try:
        for _ in range(count):
            act()
            held.append(Held.measure(folder))
    finally:
        tempfile.tempdir = before
    return held


def judge(held: list[Held]) -> str:
    """'held', with the slope of memory after the first half; Grown where something has piled up since then.

    In the first half allocators and caches of libraries are still filling.
    """
    half, end = held[len(held) // 2 : 3 * len(held) // 4], held[3 * len(held) // 4 :]
    grown = statistics.median(one.memory for one in end) - statistics.median(one.memory for one in half)
    if grown > SLOPE * len(half) + STEP:
        raise Grown(f'memory grows by {grown / len(half) / 2**10:.1f} KiB a repetition')
    for name in ('handles', 'threads', 'children', 'scratch'):
        first, last = (min(asdict(one)[name] for one in part) for part in (half, end))
        if last > first:
            raise Grown(f'{first} {name} became {last}')
    return f'held: {grown / len(half):+.0f} bytes a repetition, {end[-1]}'


def refine_repeatedly(count: int, folder: Path) -> str:
    """The engine alone."""
    scan, config = small_scan(positions=16), short_config(refinement__passes=2)
    return judge(repeat(lambda: refine_scan(scan, config), count, folder))


def reconstruct_repeatedly(backend: str, count: int, folder: Path) -> str:
    """A network of a model file and two passes of the engine after it."""
    scan, config = small_scan(positions=16), short_config(refinement__passes=2, execution__backend=backend)
    return judge(repeat(lambda: reconstruct(scan, MODEL, config), count, folder))


def start_workers(count: int, folder: Path) -> str:
    """A worker with a scratch folder of its own, as a host starts one for each job."""
    scan, config = small_scan(positions=16), short_config(refinement__passes=1).to_json()

    def work() -> None:
        with Scratch(10**6) as scratch:
            arrays = {name: getattr(scan, name) for name in ARRAYS}
            write_arrays(scratch.path / 'scan', arrays, {'domain': 'counts', 'on_object_grid': True})
            with Worker(scratch.path) as worker:
                worker.ask(ReconstructRequest(scan=scratch.path / 'scan', config=config))
                *_, done = worker.events()
            if done.event != 'done' or worker.process.returncode:
                raise Grown(f'the worker ended with {done}')

    return judge(repeat(work, count, folder))
