"""Output folder of a training: finding, resuming and replacing an earlier training."""

from __future__ import annotations

import filecmp
import os
import shutil
import time
from itertools import chain, count
from pathlib import Path

from ..backend import Capability, check_capability, describe, resolve_name
from ..config import Config, parse
from ..config.yaml_text import parse_yaml
from ..errors import ConfigError
from ..events import Emit, Event, Progress
from ..io.atomic import write_atomically
from .metrics_table import read_losses

# The suffix of a checkpoint is the backend's: last.ckpt, last.keras.
CHECKPOINTS = 'checkpoints'
MODEL, CONFIG, LAST = 'model.safetensors', 'config.yaml', f'{CHECKPOINTS}/last.*'
METRICS = 'metrics.json'
START = 'start.safetensors'  # a copy of the model that the training started from
LEFT_BY_TRAINING = (MODEL, LAST, f'{CHECKPOINTS}/best*')
# How many processes go on with a training is said anew each time.
ONE_PROCESS = {'strategy': 'auto', 'devices': 1, 'num_nodes': 1}
# What a resumed training may change: the others are in the checkpoint, and a change would have no effect.
FREE_ON_RESUME = {
    'train_data_file', 'test_data_file', 'output_dir', 'nepochs', 'max_cpu_seconds', 'early_stop_patience',
    'learning_rate',
}  # fmt: skip


def can_resume(folder: Path) -> bool:
    """Whether a folder holds a checkpoint and a configuration to resume from."""
    return any(folder.glob(LAST)) and (folder / CONFIG).exists()


def read_stored_config(folder: Path) -> Config:
    """Configuration of the training in `folder`.

    Raises ConfigError if there is none to resume, BackendError if its backend leaves resuming out.
    """
    missing = [needed for needed in (LAST, CONFIG) if not any(folder.glob(needed))]
    if CONFIG in missing:
        raise _nothing_to_resume(folder / missing[0])
    try:
        text = (folder / CONFIG).read_text(encoding='utf-8')
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{folder / CONFIG} cannot be read ({error}); leave out resume=True to train anew.'
        ) from error
    stored = parse(parse_yaml(text, str(folder / CONFIG), 'leave out resume=True to train anew'))
    if missing:
        check_capability(describe(resolve_name(stored.execution.backend)), Capability.RESUMING)
        raise _nothing_to_resume(folder / LAST)
    return stored.merged({'execution': ONE_PROCESS})


def _nothing_to_resume(missing: Path) -> ConfigError:
    return ConfigError(f'There is nothing to resume: {missing} does not exist; leave out resume=True.')


def check_resumable(stored: Config, config: Config) -> None:
    """Raise ConfigError if `config` differs from `stored` in a setting that a resume cannot change."""
    for section in ('model', 'data', 'training'):
        old, new = stored.to_json()[section], config.to_json()[section]
        for key in old.keys() - FREE_ON_RESUME:
            if old[key] != new[key]:
                raise ConfigError(
                    f'A resumed training is the same training, whose {key} is {old[key]}, not {new[key]}; '
                    f'set {section}.{key} back, or train anew in another folder.'
                )


def find_start_model(folder: Path, given: str | Path | None, *, resume: bool) -> Path | None:
    """Path of the model that a training in `folder` starts from (its own copy on resume); None for random weights.

    Raises ConfigError when a resumed training is `given` another model than its own.
    """
    named = None if given is None else Path(given)
    if not resume:
        return named
    copy = folder / START
    if not copy.exists():
        if named is not None:
            raise ConfigError(f'The training in {folder} did not start from a model; leave {named} out to resume it.')
        return None
    if named is not None and not (named.is_file() and filecmp.cmp(named, copy, shallow=False)):
        raise ConfigError(f'The training in {folder} started from another model than {named}; leave it out to resume.')
    return copy


def copy_start_model(folder: Path, start: Path | None) -> None:
    """Copy the model that a training starts from into `folder`, for a later resume; an earlier copy is removed."""
    copy = folder / START
    if start is None:
        copy.unlink(missing_ok=True)
    elif not (copy.exists() and copy.samefile(start)):
        with write_atomically(copy) as temporary:
            shutil.copyfile(start, temporary)


def count_epochs(folder: Path) -> int:
    """Number of complete epochs of the training in `folder`, from its metrics.csv."""
    return max((losses.epoch for losses in read_losses(folder)), default=0)


def replace_earlier(folder: Path, emit: Emit) -> Emit:
    """Callback `emit` that also removes an earlier training once the first step of the new one is complete.

    Files that the new one has written by then, its first checkpoint, stay.
    """
    earlier = _list_versions(folder)

    def emit_and_remove(event: Event) -> None:
        if earlier and isinstance(event, Progress) and event.stage == 'train':
            for path, version in _list_versions(folder).items():
                if earlier.get(path) == version:
                    path.unlink()
            earlier.clear()
        emit(event)

    return emit_and_remove


def _list_versions(folder: Path) -> dict[Path, tuple[int, int]]:
    """Files of a training in `folder` with inode and modification time, which change when one is rewritten."""
    paths = [path for pattern in LEFT_BY_TRAINING for path in folder.glob(pattern)]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def set_aside(folder: Path) -> list[Path]:
    """New paths of an earlier training's files, renamed to carry its date.

    Its model stays in its place too, until a new one replaces it: it may be in use. Checkpoints are kept where no model
    was made of them yet.
    """
    copy = []
    model, checkpoints = folder / MODEL, folder / CHECKPOINTS
    if model.exists():
        copy.append(_add_date(model))
        if not copy[-1].exists():
            os.link(model, copy[-1])
    last = max((path.stat().st_mtime for path in folder.glob(LAST)), default=None)
    if last is not None and not (model.exists() and model.stat().st_mtime >= last):
        copy.append(_add_date(checkpoints))
        checkpoints.rename(copy[-1])
    return copy


def _add_date(path: Path) -> Path:
    """Path with the date of modification in its name, numbered where that name is taken."""
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(path.stat().st_mtime))
    numbers = chain([''], (f'-{number}' for number in count(2)))
    names = (path.with_name(f'{path.stem}-{stamp}{number}{path.suffix}') for number in numbers)
    return next(name for name in names if not name.exists() or name.samefile(path))
