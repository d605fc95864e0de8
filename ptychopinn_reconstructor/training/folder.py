"""The folder of a training: what of an earlier one is in it, how to go on with it, how to replace it."""

from __future__ import annotations

import filecmp
import os
import shutil
import time
from itertools import chain, count
from pathlib import Path

from ..config import Config, parse
from ..errors import ConfigError
from ..events import Emit, Event, Progress
from ..io.atomic import write_atomically
from .metrics_table import read_losses

# The suffix of a checkpoint is the backend's: last.ckpt, last.keras.
MODEL, CONFIG, LAST = 'model.safetensors', 'config.yaml', 'checkpoints/last.*'
START = 'start.safetensors'  # a copy of the model that the training started from
LEFT_BY_TRAINING = (MODEL, LAST, 'checkpoints/best*')
# What a resumed training may change: the others are in the checkpoint, and a change would have no effect.
FREE_ON_RESUME = {
    'train_data_file', 'test_data_file', 'output_dir', 'nepochs', 'max_cpu_seconds', 'early_stop_patience',
    'learning_rate',
}  # fmt: skip


def can_resume(folder: Path) -> bool:
    """Whether a folder holds what a training goes on from."""
    return any(folder.glob(LAST)) and (folder / CONFIG).exists()


def stored_config(folder: Path) -> Config:
    """The configuration of the training in `folder`; ConfigError when there is none to go on with."""
    import yaml

    for needed in (LAST, CONFIG):
        if not any(folder.glob(needed)):
            raise ConfigError(f'There is nothing to resume: {folder / needed} does not exist; leave out --resume.')
    try:
        return parse(yaml.safe_load((folder / CONFIG).read_text(encoding='utf-8')))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f'{folder / CONFIG} cannot be read ({error}); leave out --resume and train anew.') from error


def check_resumable(folder: Path, stored: Config, config: Config) -> None:
    """ConfigError when `config` would go on with another training than the `stored` one, or is behind it already."""
    for section in ('model', 'data', 'training'):
        old, new = stored.to_json()[section], config.to_json()[section]
        for key in old.keys() - FREE_ON_RESUME:
            if old[key] != new[key]:
                raise ConfigError(
                    f'--resume goes on with the same training, whose {key} is {old[key]}, not {new[key]}; '
                    f'leave {key} out, or train anew in another folder.'
                )
    done = epochs_done(folder)
    if config.training.nepochs < done:
        raise ConfigError(f'The training in {folder} has {done} epochs already; pass a larger --epochs than that.')


def start_of(folder: Path, given: str | Path | None, *, resume: bool) -> Path | None:
    """The model that a training in `folder` starts from, or has started from when it is resumed; None: from no model.

    Raises ConfigError when a resumed training is `given` another model than its own.
    """
    named = None if given is None else Path(given)
    if not resume:
        return named
    kept = folder / START
    if not kept.exists():
        if named is not None:
            raise ConfigError(f'The training in {folder} did not start from a model; leave {named} out to resume it.')
        return None
    if named is not None and not (named.is_file() and filecmp.cmp(named, kept, shallow=False)):
        raise ConfigError(f'The training in {folder} started from another model than {named}; leave it out to resume.')
    return kept


def keep_start(folder: Path, start: Path | None) -> None:
    """Keep a copy of the model that a training starts from, for when it is resumed; that of an earlier one goes."""
    kept = folder / START
    if start is None:
        kept.unlink(missing_ok=True)
    elif not (kept.exists() and kept.samefile(start)):
        with write_atomically(kept) as temporary:
            shutil.copyfile(start, temporary)


def epochs_done(folder: Path) -> int:
    """Complete epochs of the training in `folder`, from its metrics.csv."""
    return max((losses.epoch for losses in read_losses(folder)), default=0)


def replacing(folder: Path, emit: Emit) -> Emit:
    """An `emit` that removes an earlier training when the first step of the new one is done.

    What the new one has written by then, its first checkpoint, stays.
    """
    earlier = _versions(folder)

    def both(event: Event) -> None:
        if earlier and isinstance(event, Progress) and event.stage == 'train':
            for path, version in _versions(folder).items():
                if earlier.get(path) == version:
                    path.unlink()
            earlier.clear()
        emit(event)

    return both


def _versions(folder: Path) -> dict[Path, tuple[int, int]]:
    """The files of a training in `folder`, with what changes when one is written anew."""
    paths = [path for pattern in LEFT_BY_TRAINING for path in folder.glob(pattern)]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def set_aside(folder: Path) -> list[Path]:
    """Keep what an earlier training has left in `folder` under names with its date; the new names.

    Its model stays in its place too, until a new one replaces it: it may be in use. Checkpoints are kept where no model
    was made of them yet.
    """
    kept = []
    model, checkpoints = folder / MODEL, folder / 'checkpoints'
    if model.exists():
        kept.append(_dated(model))
        if not kept[-1].exists():
            os.link(model, kept[-1])
    last = max((path.stat().st_mtime for path in folder.glob(LAST)), default=None)
    if last is not None and not (model.exists() and model.stat().st_mtime >= last):
        kept.append(_dated(checkpoints))
        checkpoints.rename(kept[-1])
    return kept


def _dated(path: Path) -> Path:
    """The name for keeping `path`: with its date, and with a number where another of the same second has that name."""
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(path.stat().st_mtime))
    numbers = chain([''], (f'-{number}' for number in count(2)))
    names = (path.with_name(f'{path.stem}-{stamp}{number}{path.suffix}') for number in numbers)
    return next(name for name in names if not name.exists() or name.samefile(path))
