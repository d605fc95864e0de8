"""One job in a process of its own: `[sys.executable, '-P', '-m', 'ptychopinn_reconstructor.worker.main', BACKEND]`.

The request comes as one JSON line on stdin, events go out as JSON lines on stdout (specs/ptychodus_api_spec.md); what
libraries print goes to stderr. A later line `stop` asks the job to stop; the end of stdin means that whoever asked is
gone: the process then ends within two seconds and takes its scratch folder with it. The current folder is the job's
scratch folder.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .. import events
from ..errors import Interrupted, OutputError, PtychoPINNError, shorten
from ..events import Emit, Event
from .messages import (
    DevicesDone,
    DiagnoseDone,
    Error,
    Log,
    Message,
    Preview,
    ReconstructDone,
    Stopped,
    TrainDone,
    message_of,
)
from .requests import DevicesRequest, DiagnoseRequest, ReconstructRequest, Request, TrainRequest, parse_request

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..config import Config
    from ..reconstruction.finish import Result
    from ..scan import Scan

RELIABILITY, TRIALS = 'reliability.npz', 'trials.png'
ORPHAN_SECONDS = 1.0  # how long a job may go on after whoever asked for it is gone


@dataclass
class Channel:
    """The worker's end of the conversation: messages out, one request and `stop` in."""

    out: IO[str]
    stopped: threading.Event = field(default_factory=threading.Event)
    requests: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    orphaned: threading.Event = field(default_factory=threading.Event)
    import_seconds: float = 0.0  # what the framework's own import took
    saved: int = 0  # arrays
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listen(self) -> None:
        """Read stdin to its end, which means that the process that asked is gone; so does a line that is no text."""
        with suppress(UnicodeDecodeError, OSError):
            for line in (raw.decode() for raw in sys.stdin.buffer):
                if line.strip() == 'stop':
                    self.stopped.set()
                elif line.strip():
                    self.requests.put(line)
        self.orphaned.set()
        self.stopped.set()
        self.requests.put('')
        time.sleep(ORPHAN_SECONDS)
        remove_scratch()
        os._exit(Interrupted.exit_code)

    def say(self, message: Message) -> None:
        """Write one message."""
        with self._lock, suppress(BrokenPipeError):
            self.out.write(message.model_dump_json() + '\n')
            self.out.flush()

    def log(self, text: str) -> None:
        """A line for the user."""
        self.say(Log(level='info', message=text))

    def emit(self, event: Event) -> None:
        """Pass an event of the job on but for its last one: the worker's own says where the result lies."""
        if isinstance(event, events.Preview):
            values = {entry.name: getattr(event, entry.name) for entry in fields(event)}
            self.say(Preview(**values | {'object': self.save('object', event.object)}))
        elif not isinstance(event, events.Done):
            self.say(message_of(event))

    def save(self, name: str, values: NDArray[Any]) -> Path:
        """Write an array into the current folder; its file, which has a number of its own."""
        import numpy as np

        self.saved += 1
        path = Path(f'{name}-{self.saved}.npy')
        np.save(path, values, allow_pickle=False)
        return path


def remove_scratch() -> None:
    """Remove the scratch folder, which is the current one, if it is one of ours."""
    from .handover import PREFIX

    with suppress(OSError):
        if Path.cwd().name.startswith(PREFIX):
            shutil.rmtree(Path.cwd(), ignore_errors=True)


def run(request: Request, channel: Channel) -> None:
    """Do what is asked; its last message is the result."""
    if isinstance(request, DevicesRequest):
        channel.say(DevicesDone(devices={name: devices(name) for name in request.backends}))
    elif isinstance(request, ReconstructRequest):
        reconstruct(request, channel)
    elif isinstance(request, DiagnoseRequest):
        diagnose(request, channel)
    else:
        train(request, channel)


def devices(name: str) -> list[str]:
    """The devices of a backend; none when it cannot be loaded."""
    from ..backend import load_backend

    with suppress(PtychoPINNError):
        return load_backend(name).devices()
    return []


def reconstruct(request: ReconstructRequest, channel: Channel) -> None:
    """Reconstruct, and hand object, probe, moved positions and what is known of reliability over as files."""
    from ..config import parse
    from ..reconstruction.diagnostic_pictures import to_bytes
    from ..reconstruction.earlier_result import own_result
    from ..reconstruction.patches import NAME as PATCHES
    from ..reconstruction.reconstruct import reconstruct as reconstruct_scan
    from ..reconstruction.reconstruct import refine_scan
    from .handover import read_arrays, restore_positions

    config = parse(request.config)
    handed = read_arrays(request.scan, as_is=config.data.as_is)
    watched: Any = {
        'preview_seconds': request.preview_seconds, 'emit': channel.emit, 'should_stop': channel.stopped.is_set,
    }  # fmt: skip
    result: Result
    if request.model is None:
        result = refine_scan(handed.scan, config, initial=own_result(handed.scan), **watched)
    else:
        result = reconstruct_scan(
            handed.scan,
            request.model,
            config,
            ensemble=request.ensemble,
            scratch=Path.cwd(),
            patches_file=request.model.parent / PATCHES,
            **watched,
        )
    reconstruction, reliability = result.reconstruction, result.report.reliability
    Path(RELIABILITY).write_bytes(to_bytes(reliability))
    moved = config.refinement.positions
    places = restore_positions(request.scan, handed.scan, reconstruction.positions) if moved else None
    positions = None if places is None else channel.save('positions', places)
    channel.say(
        ReconstructDone(
            object=channel.save('object', reconstruction.object),
            probe=channel.save('probe', reconstruction.probe),
            positions=positions,
            origin=reconstruction.origin,
            comments=reconstruction.comments,
            losses=reconstruction.losses,
            residual=result.report.residual,
            reliability=reliability.line(),
            reliability_file=Path(RELIABILITY),
            run=result.report.run,
            notices=(*handed.notices, *result.report.notices),
            stages=result.report.stages,
            import_seconds=channel.import_seconds,
        )
    )


def diagnose(request: DiagnoseRequest, channel: Channel) -> None:
    """Diagnose a scan as it was handed over, and hand the picture of its trials over as a file."""
    from ..diagnosis.diagnose import diagnose as diagnose_scan
    from ..diagnosis.pictures import write_trials
    from .handover import read_arrays

    handed = read_arrays(request.scan, as_is=True)
    found = diagnose_scan(handed.scan, emit=channel.emit, should_stop=channel.stopped.is_set)
    picture = write_trials(Path(TRIALS), found.images) if found.images else None
    channel.say(
        DiagnoseDone(
            findings=found.findings,
            figures=found.figures,
            trials=len(found.trials),
            cpu_seconds=found.cpu_seconds,
            picture=picture,
        )
    )


def train(request: TrainRequest, channel: Channel) -> None:
    """Train in the output folder; an earlier training there is kept beside the new one."""
    from ..backend import load_trainer_for
    from ..config import parse
    from ..io.locks import FolderLock
    from ..training.setup import complete_config

    config = parse(request.config)
    load_trainer_for(config, resume=request.resume or request.finish)  # its refusal leaves the folder as it is
    scans, sources = training_scans(request, config, channel)
    config = complete_config(scans, config)
    with FolderLock(request.output_dir, 'training') as lock:
        train_in(lock.folder, request, channel, scans, sources, config)


def train_in(
    folder: Path, request: TrainRequest, channel: Channel, scans: list[Scan], sources: list[str], config: Config
) -> None:
    """Train in a folder that no other process writes to."""
    from ..training.folder import check_resumable, read_stored_config, replace_earlier, set_aside
    from ..training.train import train as train_scans

    emit: Emit = channel.emit
    resume = request.resume or request.finish
    if resume:
        stored = read_stored_config(folder)
        check_resumable(stored, config)
    else:
        for kept in set_aside(folder):
            channel.log(f'The earlier training is kept as {kept}.')
        emit = replace_earlier(folder, emit)
    validation = None if request.validation is None else read(request.validation, config, channel)
    trained = train_scans(
        scans,
        config,
        folder,
        validation=validation,
        initial=request.initial,
        resume=resume,
        sources=sources,
        preview_seconds=None if request.finish else request.preview_seconds,
        keep_interrupted=request.finish,
        emit=emit,
        should_stop=always if request.finish else channel.stopped.is_set,
    )
    channel.say(TrainDone(model=trained.model, losses=trained.trained.losses, notices=trained.notices))


def always() -> bool:
    """A `should_stop` that ends a training before its next step, with the epochs of its checkpoint."""
    return True


def training_scans(request: TrainRequest, config: Config, channel: Channel) -> tuple[list[Scan], list[str]]:
    """The scans to train on, and what the model will say of where they are from."""
    from .handover import read_arrays

    if request.scan is not None:
        file = read_arrays(request.scan, as_is=config.data.as_is)
        for notice in file.notices:
            channel.log(notice.text)
        return [file.scan], [request.name]
    return [read(path, config, channel) for path in request.files], [str(path) for path in request.files]


def read(path: Path, config: Config, channel: Channel) -> Scan:
    """The scan in a file; what was decided about it goes to the log."""
    from ..io import read_scan

    file = read_scan(path, domain=config.data.measurement_domain, as_is=config.data.as_is)
    for notice in file.notices:
        channel.log(f'{path.name}: {notice.text}')
    return file.scan


def preload(name: str) -> float:
    """Import a framework while the scan is still being handed over; the seconds that took.

    What is wrong with it comes out when it is used.
    """
    import ptychopinn_reconstructor.training.train  # noqa: F401 - scipy and the physics

    from ..backend import load_backend

    begin = time.perf_counter()
    with suppress(PtychoPINNError):
        load_backend(name)
    return time.perf_counter() - begin


def answer(channel: Channel, line: str) -> int:
    """Run the request of one line; the exit code."""
    try:
        run(parse_request(line), channel)
    except Interrupted as error:
        channel.say(Stopped(message=str(error)))
        return error.exit_code
    except PtychoPINNError as error:
        channel.say(Error(kind=type(error).__name__, message=str(error)))
        return error.exit_code
    except (MemoryError, OSError) as error:
        channel.say(Error(kind=OutputError.__name__, message=_resources(error)))
        return 1
    except Exception as error:  # a bug, or a framework's own: one sentence, the traceback goes to stderr
        traceback.print_exc()
        if channel.stopped.is_set():
            channel.say(Stopped(message='Stopped on request.'))
            return Interrupted.exit_code
        text = shorten(error, 300) or 'no message'
        channel.say(Error(kind='PtychoPINNError', message=f'The job failed: {type(error).__name__}: {text}'))
        return 1
    return 0


def _resources(error: MemoryError | OSError) -> str:
    if isinstance(error, MemoryError):
        return f'There is not enough memory ({error}); use a smaller batch size, or fewer patterns.'
    return f'A file cannot be read or written: {error}; check the disk and the folders.'


def main() -> int:
    """Answer one request; the exit code is 0, 2 for bad input, 1 for a failure, 130 when stopped."""
    logging.getLogger(events.LOGGER).addHandler(logging.NullHandler())  # what is told goes out as events
    out = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # what libraries print must not come between the events
    channel = Channel(out)
    threading.Thread(target=channel.listen, daemon=True).start()
    if len(sys.argv) > 1:
        channel.import_seconds = preload(sys.argv[1])
    line = channel.requests.get()
    code = answer(channel, line) if line else Interrupted.exit_code
    if channel.orphaned.is_set():
        remove_scratch()
    return code


if __name__ == '__main__':
    code = main()
    sys.stderr.flush()
    os._exit(code)  # frameworks' own threads and exit handlers can take seconds, and nothing is left to be done
