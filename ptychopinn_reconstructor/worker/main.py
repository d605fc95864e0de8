"""One job in a process of its own: `[sys.executable, '-P', '-m', 'ptychopinn_reconstructor.worker.main', BACKEND]`.

The request comes as one JSON line on stdin, events go out as JSON lines on stdout (specs/ptychodus_api_spec.md); what
libraries print goes to stderr. A later line `stop` asks the job to stop; the end of stdin means that whoever asked is
gone: the process then ends within two seconds and takes its scratch folder with it. The current folder is the job's
scratch folder.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import Interrupted, OutputError, PtychoPINNError
from ..events import Event
from .requests import DevicesRequest, ReconstructRequest, Request, TrainRequest, parse_request

if TYPE_CHECKING:
    from ..config import Config
    from ..reconstruction.finish import Result
    from ..scan import Scan

TRUST = 'trust.npz'
ORPHAN_SECONDS = 1.0  # how long a job may go on after whoever asked for it is gone


@dataclass
class Channel:
    """The worker's end of the conversation: events out, one request and `stop` in."""

    out: IO[str]
    stopped: threading.Event = field(default_factory=threading.Event)
    requests: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    orphaned: threading.Event = field(default_factory=threading.Event)
    import_seconds: float = 0.0  # what the framework's own import took
    previews: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listen(self) -> None:
        """Read stdin to its end, which means that the process that asked is gone."""
        for line in sys.stdin:
            if line.strip() == 'stop':
                self.stopped.set()
            elif line.strip():
                self.requests.put(line)
        self.orphaned.set()
        self.stopped.set()
        self.requests.put('')
        time.sleep(ORPHAN_SECONDS)
        leave_nothing()
        os._exit(Interrupted.exit_code)

    def say(self, event: str, /, **data: Any) -> None:
        """Write one event."""
        from ..reconstruction.writing import finite

        line = json.dumps({'event': event, **finite(data)}, allow_nan=False)
        with self._lock, suppress(BrokenPipeError):
            self.out.write(line + '\n')
            self.out.flush()

    def emit(self, event: Event) -> None:
        """Pass an event of the job on; arrays become files beside it."""
        self.say(event.kind, **self.with_files(event.data))

    def with_files(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` in which every array is the name of a .npy file in the current folder."""
        import numpy as np

        self.previews += 1
        plain = {}
        for key, value in data.items():
            if isinstance(value, np.ndarray) and value.ndim >= 2:
                plain[key] = f'{key}-{self.previews}.npy'
                np.save(plain[key], value, allow_pickle=False)
            else:
                plain[key] = value
        return plain


def leave_nothing() -> None:
    """Remove the scratch folder, which is the current one, if it is one of ours."""
    from .handover import PREFIX

    with suppress(OSError):
        if Path.cwd().name.startswith(PREFIX):
            shutil.rmtree(Path.cwd(), ignore_errors=True)


def run(request: Request, channel: Channel) -> None:
    """Do what is asked; the result is the event `done`."""
    if isinstance(request, DevicesRequest):
        channel.say('done', devices={name: devices(name) for name in request.backends})
    elif isinstance(request, ReconstructRequest):
        reconstruct(request, channel)
    else:
        train(request, channel)


def devices(name: str) -> list[str]:
    """The devices of a backend; none when it cannot be loaded."""
    from ..backend import load_backend

    with suppress(PtychoPINNError):
        return load_backend(name).devices()
    return []


def reconstruct(request: ReconstructRequest, channel: Channel) -> None:
    """Reconstruct, and hand object, probe, moved positions and what is known of trust over as files."""
    from ..config import parse
    from ..reconstruction.diagnostic_pictures import to_bytes
    from ..reconstruction.patches import NAME as PATCHES
    from ..reconstruction.reconstruct import reconstruct as reconstruct_scan
    from .handover import read_arrays

    config = parse(request.config)
    result: Result = reconstruct_scan(
        read_arrays(request.scan),
        request.model,
        config,
        ensemble=request.ensemble,
        scratch=Path.cwd(),
        patches_file=Path(request.model).parent / PATCHES,
        preview_seconds=request.preview_seconds,
        emit=_without_done(channel),
        should_stop=channel.stopped.is_set,
    )
    found, trust = result.reconstruction, result.report.trust
    Path(TRUST).write_bytes(to_bytes(trust))
    channel.emit(
        Event(
            'done',
            {
                'object': found.object,
                'probe': found.probe,
                'origin': found.origin,
                'comments': found.comments,
                'losses': found.losses,
                'residual': result.report.residual,
                'positions': found.positions if config.inference.refine_positions else None,
                'trust': trust.line(),
                'trust_file': TRUST,
                'notices': [asdict(notice) for notice in result.report.notices],
                'run': result.report.run.to_json(),
                'stages': result.report.stages,
                'import_seconds': channel.import_seconds,
            },
        )
    )


def train(request: TrainRequest, channel: Channel) -> None:
    """Train in the output folder; an earlier training there is kept beside the new one."""
    from ..config import parse
    from ..io.atomic import writable_folder
    from ..training.folder import check_resumable, replacing, set_aside, stored_config
    from ..training.setup import complete_config
    from ..training.train import train as train_scans

    config = parse(request.config)
    scans, sources = training_scans(request, config, channel)
    config = complete_config(scans, config)
    folder = writable_folder(request.output_dir)
    emit = _without_done(channel)
    if request.resume:
        stored = stored_config(folder)
        check_resumable(folder, stored, config)
    else:
        for kept in set_aside(folder):
            channel.say('log', level='info', message=f'The earlier training is kept as {kept}.')
        emit = replacing(folder, emit)
    validation = None if request.validation is None else read(request.validation, config, channel)
    trained = train_scans(
        scans,
        config,
        folder,
        validation=validation,
        initial=request.initial,
        resume=request.resume,
        sources=sources,
        preview_seconds=request.preview_seconds,
        keep_interrupted=False,
        emit=emit,
        should_stop=channel.stopped.is_set,
    )
    channel.say(
        'done',
        model=str(trained.model),
        notices=[asdict(notice) for notice in trained.notices],
        losses=trained.trained.losses,
    )


def training_scans(request: TrainRequest, config: Config, channel: Channel) -> tuple[list[Scan], list[str]]:
    """The scans to train on, and what the model will say of where they are from."""
    from .handover import read_arrays

    if request.scan is not None:
        return [read_arrays(request.scan)], [request.name]
    return [read(path, config, channel) for path in request.files], [str(path) for path in request.files]


def read(path: Path, config: Config, channel: Channel) -> Scan:
    """A scan file, with what was decided about it told."""
    from ..io import read_scan

    found = read_scan(path, domain=config.data.measurement_domain)
    for notice in found.notices:
        channel.say('log', level='info', message=f'{path.name}: {notice.text}')
    return found.scan


def _without_done(channel: Channel) -> Any:
    """An `emit` that keeps the pipeline's own last word back: the worker's says where the result lies."""

    def emit(event: Event) -> None:
        if event.kind != 'done':
            channel.emit(event)

    return emit


def preload(name: str) -> float:
    """Import a framework while the scan is still being handed over; the seconds that took.

    What is wrong with it is told when it is used.
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
        channel.say('stopped', message=str(error))
        return error.exit_code
    except PtychoPINNError as error:
        channel.say('error', kind=type(error).__name__, message=str(error))
        return error.exit_code
    except (MemoryError, OSError) as error:
        channel.say('error', kind=OutputError.__name__, message=_resources(error))
        return 1
    except Exception as error:  # a bug, or a framework's own: told in one sentence, the traceback goes to stderr
        traceback.print_exc()
        if channel.stopped.is_set():
            channel.say('stopped', message='Stopped on request.')
            return Interrupted.exit_code
        text = ' '.join(str(error).split()) or 'no message'
        channel.say('error', kind='PtychoPINNError', message=f'The job failed: {type(error).__name__}: {text}')
        return 1
    return 0


def _resources(error: MemoryError | OSError) -> str:
    if isinstance(error, MemoryError):
        return f'There is not enough memory ({error}); use a smaller batch size, or fewer patterns.'
    return f'A file cannot be read or written: {error}; check the disk and the folders.'


def main() -> int:
    """Answer one request; the exit code is 0, 2 for bad input, 1 for a failure, 130 when stopped."""
    out = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # what libraries print must not come between the events
    channel = Channel(out)
    threading.Thread(target=channel.listen, daemon=True).start()
    if len(sys.argv) > 1:
        channel.import_seconds = preload(sys.argv[1])
    line = channel.requests.get()
    code = answer(channel, line) if line else Interrupted.exit_code
    if channel.orphaned.is_set():
        leave_nothing()
    return code


if __name__ == '__main__':
    code = main()
    sys.stderr.flush()
    os._exit(code)  # frameworks' own threads and exit handlers can take seconds, and nothing is left to be done
