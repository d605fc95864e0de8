"""A list of our commands in a file: an ensemble of trainings, several instruments, a thousand scans.

Each is done once: what came of it stands in job.json in its output folder, so that a list goes on where it was ended.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PtychoPINNError, quote
from ..events import Emit, Progress, ShouldStop, ignore, never
from ..io.locks import FolderLock
from ..io.plain_json import write_json
from ..training.folder import can_resume
from .jobs import Engine, Task, run_tasks
from .processes import run_command

RECORD, CLAIM = 'job.json', '.job.lock'
COMMANDS = ('train', 'pretrain', 'reconstruct', 'refine', 'compare')
RESUMABLE = ('train', 'pretrain')
OUTPUT = '--output-dir'
NO_RECORD = 'It ended without a record; do all machines see its output folder?'
OPEN, BEGUN, DONE, FAILED = 'open', 'begun', 'done', 'failed'


@dataclass(frozen=True)
class Line:
    """A command of a list, as written, with its output folder, which is its name."""

    name: str
    arguments: tuple[str, ...]

    def read_record(self) -> dict[str, Any]:
        """What is known of it; of another command with the same folder nothing is."""
        try:
            record = json.loads((Path(self.name) / RECORD).read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) and record.get('arguments') == [*self.arguments] else {}

    @property
    def state(self) -> str:
        """open, begun, done or failed."""
        return str(self.read_record().get('status', OPEN))

    def run(self, *, should_stop: ShouldStop = never) -> str:
        """Sentence of the error it ended with, empty where there was none; nothing is done where it is done.

        A training that was begun and has a checkpoint is resumed. Raises FolderInUseError where another process is at
        it, KilledError or Interrupted where it was ended; then it is to be done again.
        """
        with FolderLock(self.name, 'batch', name=CLAIM):
            state = self.state
            if state == DONE:
                return ''
            arguments = self._resume() if state == BEGUN else self.arguments
            self._write(BEGUN)
            try:
                done = run_command([*arguments, '--quiet'], f'{self.name}', should_stop=should_stop)
            except PtychoPINNError as error:
                if should_stop() or error.exit_code == 130:
                    raise
                self._write(FAILED, error=str(error))
                return str(error)
            self._write(DONE, cost=asdict(done.cost))
            return ''

    def _resume(self) -> tuple[str, ...]:
        if self.arguments[0] not in RESUMABLE or not can_resume(Path(self.name)):
            return self.arguments
        return (*(word for word in self.arguments if word not in ('--overwrite', '--resume')), '--resume')

    def _write(self, status: str, **more: Any) -> None:
        write_json(Path(self.name) / RECORD, {'status': status, 'arguments': [*self.arguments], **more})


def read_list(path: Path) -> list[Line]:
    """The commands in a file, one a line, as in a shell; empty lines and what follows a # are left out.

    ConfigError names the line that is no command of ours with an output folder of its own.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not text'
        raise ConfigError(f'Cannot read the list {path} ({reason}); write a command a line.') from error
    found: dict[str, Line] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = _split_words(line, f'Line {number} of {path}')
        if not words:
            continue
        one = Line(_find_output(words, f'Line {number} of {path}'), words)
        if one.name in found:
            raise ConfigError(f'Line {number} of {path} has the output folder {one.name} of another; choose another.')
        found[one.name] = one
    if not found:
        raise ConfigError(f'{path} holds no command; write one a line: train scan.npz --output-dir out.')
    return [*found.values()]


def _split_words(line: str, where: str) -> tuple[str, ...]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise ConfigError(f'{where} is no command ({error}); close the quotation.') from error
    words = words[1:] if words[:1] == ['ptychopinn'] else words
    if words and words[0] not in COMMANDS:
        raise ConfigError(f'{where} begins with {quote(words[0])}; choose one of {", ".join(COMMANDS)}.')
    return tuple(words)


def _find_output(words: Sequence[str], where: str) -> str:
    for number, word in enumerate(words):
        if word == OUTPUT and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(f'{OUTPUT}='):
            return word.partition('=')[2]
    raise ConfigError(f'{where} has no {OUTPUT} DIR; add it: it is the name of the job.')


def select_lines(lines: Sequence[Line], names: Sequence[str], path: Path) -> list[Line]:
    """The lines of these names, all without any; ConfigError where there is none of a name."""
    known = {line.name: line for line in lines}
    if missing := [name for name in names if name not in known]:
        raise ConfigError(f'{path} has no job {quote(missing[0])}; --list names those that it has.')
    return [known[name] for name in names] if names else [*lines]


def run_lines(
    lines: Sequence[Line],
    path: Path,
    *,
    engine: Engine | None = None,
    bundle: int = 1,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> dict[str, str]:
    """Errors by the names of the lines, empty where there was none; lines that are done are not done again.

    An `engine` runs them in other processes, here or elsewhere, `bundle` in each. Interrupted when asked to stop.
    """
    waiting = [line for line in lines if line.state != DONE]
    errors = {line.name: '' for line in lines}
    ended = _run_here(waiting, should_stop) if engine is None else _run_on(engine, waiting, path, bundle, should_stop)
    emit(Progress('jobs', len(lines) - len(waiting), len(lines)))
    for number, (name, error) in enumerate(ended, len(lines) - len(waiting) + 1):
        errors[name] = error
        emit(Progress(name, number, len(lines)))
    return errors


def _run_here(lines: Sequence[Line], should_stop: ShouldStop) -> Iterator[tuple[str, str]]:
    for line in lines:
        try:
            yield line.name, line.run(should_stop=should_stop)
        except PtychoPINNError as error:
            if should_stop():
                raise
            yield line.name, str(error)


def _run_on(
    engine: Engine, lines: Sequence[Line], path: Path, bundle: int, should_stop: ShouldStop
) -> Iterator[tuple[str, str]]:
    parts = [lines[first : first + bundle] for first in range(0, len(lines), bundle)]
    file = str(path.absolute())
    tasks = {}
    for part in parts:
        named = [word for line in part for word in ('--run', line.name)]
        tasks[Task(part[0].name, ('batch', file, *named, '--quiet'), Path.cwd())] = part
    for task, error in run_tasks([*tasks], engine, should_stop=should_stop):
        for line in tasks[task]:
            known = line.read_record()
            yield line.name, '' if line.state == DONE else str(known.get('error') or error or NO_RECORD)
