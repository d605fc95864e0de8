"""Attacks on files and requests, each numbered: the number is the seed, so that what escaped can be repeated.

An attack is held when what it meets ends as its own error or in the same result as before; it has escaped when another
exception comes out, a message has no end, a file is cut short, or another result comes out without a word.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from full_disk import disk_with_room_for
from mutations import damage, damage_ends
from scans import noise_product, short_config, small_scan

from ptychopinn_reconstructor.cli.configuration import read_command_line, read_file
from ptychopinn_reconstructor.config import Config, parse
from ptychopinn_reconstructor.errors import (
    MAX_MESSAGE,
    ConfigError,
    InputError,
    ModelFileError,
    OutputError,
    ScanError,
    VerificationError,
)
from ptychopinn_reconstructor.io import read_object, read_probe, read_product, read_scan, write_cxi, write_npz
from ptychopinn_reconstructor.io.images import write_amplitude_phase
from ptychopinn_reconstructor.io.plain_json import write_json
from ptychopinn_reconstructor.io.ptychodus_folder import write_ptychodus_folder
from ptychopinn_reconstructor.io.sealing import check_seal, seal, write_sealed
from ptychopinn_reconstructor.io.tiff import write_tiff_object
from ptychopinn_reconstructor.model_file.format import DIGEST, decode, encode
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.training.metrics_table import COLUMNS, read_losses
from ptychopinn_reconstructor.worker import main as worker
from ptychopinn_reconstructor.worker.handover import write_arrays

GOLDEN = Path(__file__).parents[1] / 'golden'
MODEL = GOLDEN / 'model_format2.safetensors'
HELD = 'held'
Rng = np.random.Generator
Attack = Callable[[Path, Rng], str]


class Escaped(Exception):  # noqa: N818 - says what happened
    """What came out of an attack and should not have."""


@dataclass(frozen=True)
class Series:
    """A kind of attack: what it is, the files it begins with, one attack, and how many there are in a campaign."""

    what: str
    attack: Attack
    count: int
    sample: int = 20


def run_attack(name: str, number: int, folder: Path, series_by_name: Mapping[str, Series] | None = None) -> str:
    """'held', or what escaped, of one attack in an empty folder."""
    series, rng = (series_by_name or SERIES)[name], np.random.default_rng([zlib.crc32(name.encode()), number])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # numpy's own, about headers of old versions
            return series.attack(folder, rng)
    except Escaped as error:
        return f'escaped: {error}'
    except Exception as error:
        return f'escaped: {type(error).__name__}: {str(error)[:200]}'


def expect(errors: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> Any:
    """What a call returns; None where it raised one of the errors, with a message of one line and an end."""
    try:
        return call()
    except errors as error:
        if '\n' in str(error) or len(str(error)) > MAX_MESSAGE:
            raise Escaped(f'a message of {len(str(error))} characters') from error
        return None


def damaged(path: Path, content: bytes, rng: Rng) -> Path:
    """A file with damaged content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((damage if rng.integers(2) else damage_ends)(content, rng))
    return path


# model files


def attack_model(folder: Path, rng: Rng) -> str:
    """Damaged bytes of a model file: refused, or the same model."""
    content = MODEL.read_bytes()
    path = damaged(folder / 'model.safetensors', content, rng)
    opened = expect(ModelFileError, lambda: open_model(path))
    if opened is not None and path.read_bytes() != content:
        original = open_model(MODEL)
        if not all(np.array_equal(opened.weights[name], values) for name, values in original.weights.items()):
            raise Escaped('other weights without a word')
    return HELD


def attack_manifest(folder: Path, rng: Rng) -> str:
    """Other types and values in the manifest, under right hashes: refused, or a model."""
    manifest, tensors = decode(MODEL)
    manifest.pop(DIGEST)
    _alter(manifest, rng)
    path = folder / 'model.safetensors'
    path.write_bytes(encode(manifest, tensors))
    expect(ModelFileError, lambda: open_model(path))
    return HELD


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**53, 2**70, 1e300, -0.5, '', 'x', 'x' * 5000, [], [[]], {}, {'a': [1, {'b': None}]},
    [1] * 3000,
)  # fmt: skip


def _alter(values: Any, rng: Rng) -> None:
    """Replace, remove or add one entry somewhere in plain JSON."""
    place = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], dict | list) and place[key] and rng.integers(4):
            place = place[key]
            continue
        kind = int(rng.integers(5))
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[str(key) + '_'] = place[key]
        else:
            place[key] = VALUES[int(rng.integers(len(VALUES)))]
        return


def attack_weights(folder: Path, rng: Rng) -> str:
    """Other numbers in weights, probe or what was recorded, under right hashes: refused before it reconstructs."""
    from ptychopinn_reconstructor.backend import load_backend
    from ptychopinn_reconstructor.model_file.replaying import replay
    from ptychopinn_reconstructor.model_file.trained import make_predictor

    manifest, tensors = decode(MODEL)
    manifest.pop(DIGEST)
    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    flat = tensors[name].reshape(-1)
    before, place = flat.copy(), rng.integers(flat.size, size=int(rng.integers(1, 50)))
    flat[place] = rng.choice([0.0, -1.0, 1e-3, 5.0, 1e30], size=len(place)) + flat[place] * rng.choice([0.9, 1.1, -1.0])
    path = folder / 'model.safetensors'
    path.write_bytes(encode(manifest, tensors))
    model = expect(ModelFileError, lambda: open_model(path))
    if model is None:
        return HELD
    done = expect(VerificationError, lambda: replay(path, model, make_predictor(load_backend('torch'))))
    if done is not None and np.abs(flat - before).max() > 0.1 * np.abs(before).max() and not name.startswith('weights'):
        raise Escaped(f'{name} altered without a word')
    return HELD


# scans


@cache
def _scan_contents() -> dict[str, bytes]:
    """The bytes of small files of each format, made once."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder, scan = Path(name), small_scan(positions=16)
        write_npz(folder / 'stored.npz', scan)
        write_npz(folder / 'packed.npz', scan, compressed=True)
        write_cxi(folder / 'scan.cxi', scan)
        write_ptychodus_folder(folder / 'host', scan)
        write_tiff_object(folder / 'object.tif', noise_product().object, None)
        np.save(folder / 'probe.npy', np.ones((16, 16), np.complex64))
        with h5py.File(folder / 'scan.ptyd', 'w') as file:
            file['chunks/0/data'], file['chunks/0/positions'] = scan.diffraction, scan.positions * 1e-8
            file['meta/energy'], file['meta/distance'], file['meta/psize'] = 8.0, 2.0, 75e-6
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def attack_npz(folder: Path, rng: Rng) -> str:
    """Damaged NPZ, NPY and TIFF files: a scan, probe or object, or the reader's own error."""
    readers: tuple[tuple[str, Any], ...] = (
        ('stored.npz', read_scan), ('stored.npz', read_object), ('packed.npz', read_scan), ('packed.npz', read_probe),
        ('probe.npy', read_probe), ('object.tif', read_object),
    )  # fmt: skip
    name, read = readers[int(rng.integers(len(readers)))]
    path = damaged(folder / name, _scan_contents()[name], rng)
    expect(ScanError, lambda: read(path))
    return HELD


def attack_hdf5(folder: Path, rng: Rng) -> str:
    """Damaged HDF5 files of each layout: a scan, product or probe, or the reader's own error, and no crash."""
    readers: tuple[tuple[str, Any], ...] = (
        ('scan.cxi', read_scan), ('scan.ptyd', read_scan), ('host/diffraction.h5', read_scan),
        ('host/product.h5', read_product), ('host/product.h5', read_probe), ('host/product.h5', read_object),
    )  # fmt: skip
    name, read = readers[int(rng.integers(len(readers)))]
    if name == 'host/diffraction.h5':
        (folder / 'host').mkdir()
        (folder / 'host' / 'product.h5').write_bytes(_scan_contents()['host/product.h5'])
    path = damaged(folder / name, _scan_contents()[name], rng)
    expect(ScanError, lambda: read(path))
    return HELD


# checkpoints


def _attack_checkpoint(name: str, load: Callable[[Path], Any], folder: Path, rng: Rng) -> str:
    """Damaged checkpoints, half of them sealed again: the first are told by their seal, none ends in another error."""
    content = (GOLDEN / name).read_bytes()
    path = damaged(folder / name, content, rng)
    if path.read_bytes() != content:
        expect(ModelFileError, partial(_refute_seal, path))
        if rng.integers(2) and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[:-73] + b'\0\0')
            seal(path)
            expect(ModelFileError, lambda: load(path))
    return HELD


def _refute_seal(path: Path) -> None:
    check_seal(path)
    raise Escaped('damage that its seal does not tell')


def attack_torch_checkpoint(folder: Path, rng: Rng) -> str:
    """See `_attack_checkpoint`."""
    from ptychopinn_reconstructor.backends.torch_lightning.checkpoints import read_checkpoint

    return _attack_checkpoint('last.ckpt', read_checkpoint, folder, rng)


def attack_keras_checkpoint(folder: Path, rng: Rng) -> str:
    """See `_attack_checkpoint`."""
    from ptychopinn_reconstructor.backends.tensorflow_keras.training import load

    return _attack_checkpoint('last.keras', load, folder, rng)


# settings and requests


def attack_settings(folder: Path, rng: Rng) -> str:
    """Damaged YAML, other types in it, and odd --set: a configuration, or ConfigError."""
    plain = Config().to_json()
    kind = int(rng.integers(3))
    if kind == 2:
        text = ''.join(map(chr, rng.integers(32, 300, size=int(rng.integers(1, 40)))))
        keys = [name for section in plain.values() if isinstance(section, dict) for name in section]
        setting = f'{keys[int(rng.integers(len(keys)))]}={text}' if rng.integers(2) else text
        expect(ConfigError, lambda: Config().merged(read_command_line([setting], {})))
        return HELD
    if kind == 1:
        _alter(plain, rng)
    path = folder / 'settings.yaml'
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding='utf-8')
    if kind == 0:
        damaged(path, path.read_bytes(), rng)
    expect(ConfigError, lambda: Config().merged(read_file(str(path))))
    expect(ConfigError, lambda: parse(plain))
    return HELD


class _Silent(worker.Channel):
    """A worker's channel that keeps what is said."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, 'w', encoding='utf-8'))  # noqa: SIM115 - closed with the process
        self.said: list[Any] = []

    def say(self, message: Any) -> None:
        self.said.append(message)


def attack_request(folder: Path, rng: Rng) -> str:
    """Damaged requests and handed-over folders: done, bad input, or a job's own error; never 'the job failed'."""
    scan = small_scan(positions=16)
    arrays = {name: getattr(scan, name) for name in ('diffraction', 'positions', 'probe', 'object')}
    write_arrays(folder / 'scan', arrays, {'domain': 'counts', 'on_object_grid': True, 'metadata': {'name': 'x'}})
    config = short_config(refinement__passes=1).to_json()
    request = {'job': 'reconstruct', 'scan': str(folder / 'scan'), 'config': config, 'preview_seconds': None}
    line, kind = json.dumps(request), int(rng.integers(4))
    if kind == 0:
        _alter(request, rng)
        line = json.dumps(request)
    elif kind == 1:
        line = damage(line.encode(), rng).decode('utf-8', 'replace')
    else:
        files = sorted((folder / 'scan').iterdir())
        target = files[int(rng.integers(len(files)))]
        damaged(target, target.read_bytes(), rng)
    channel, here = _Silent(), Path.cwd()
    os.chdir(folder)
    try:
        code = worker.answer(channel, line)
    finally:
        os.chdir(here)
        channel.out.close()
    last = channel.said[-1]
    if code not in (0, 1, 2) or 'The job failed' in getattr(last, 'message', ''):
        raise Escaped(f'exit code {code}: {getattr(last, "message", last)}'[:300])
    return HELD


# disks


def _write_sealed(path: Path) -> None:
    with write_sealed(path) as temporary, temporary.open('wb') as file:
        np.savez(file, values=np.arange(5000.0))


def _write_model(path: Path) -> None:
    from model_files import parts

    from ptychopinn_reconstructor.model_file.writing import write_model

    write_model(path, **parts())


WRITERS: dict[str, Callable[[Path], Any]] = {
    'scan.npz': lambda path: write_npz(path, small_scan(positions=16)),
    'packed.npz': lambda path: write_npz(path, small_scan(positions=16), compressed=True),
    'scan.cxi': lambda path: write_cxi(path, small_scan(positions=16)),
    'settings.ini': lambda path: write_ptychodus_folder(path.parent, small_scan(positions=16)),
    'object.tif': lambda path: write_tiff_object(path, noise_product().object, None),
    'object_amplitude.png': lambda path: write_amplitude_phase(path.parent, noise_product().object, prefix='object'),
    'metrics.json': lambda path: write_json(path, {'numbers': [*range(5000)]}),
    'last.ckpt': _write_sealed,
    'model.safetensors': _write_model,
}


def attack_disk(folder: Path, rng: Rng) -> str:
    """A disk that is full at a random size: one sentence, and every file as it was."""
    name = sorted(WRITERS)[int(rng.integers(len(WRITERS)))]
    WRITERS[name](folder / name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    room = int(rng.integers(max(map(len, before.values()))))
    with disk_with_room_for(room):
        expect(OutputError, lambda: WRITERS[name](folder / name))
    if other := [path.name for path in folder.iterdir() if path.read_bytes() != before.get(path.name)]:
        raise Escaped(f'{other} with room for {room} bytes')
    return HELD


def attack_metrics(folder: Path, rng: Rng) -> str:
    """Damaged metrics.csv: whole rows come back, or none."""
    rows = [','.join(COLUMNS), *(f'{i},{1 / i},,1e-3,64,1.5' for i in range(1, 9))]
    damaged(folder / 'metrics.csv', '\r\n'.join([*rows, '']).encode(), rng)
    expect((OutputError, InputError), lambda: read_losses(folder))
    return HELD


SERIES: dict[str, Series] = {
    'model': Series('damaged model files', attack_model, 7000),
    'manifest': Series('model files with another manifest, right hashes', attack_manifest, 2000),
    'weights': Series('model files with other numbers, right hashes', attack_weights, 1000, 5),
    'npz': Series('damaged NPZ, NPY, TIFF', attack_npz, 5000),
    'hdf5': Series('damaged HDF5', attack_hdf5, 5000),
    'torch checkpoint': Series('damaged PyTorch checkpoints', attack_torch_checkpoint, 2000),
    'keras checkpoint': Series('damaged Keras checkpoints', attack_keras_checkpoint, 2000, 5),
    'settings': Series('YAML and --set', attack_settings, 1000),
    'request': Series('worker requests, handed-over folders', attack_request, 1000, 5),
    'disk': Series('full disks, every writer', attack_disk, 450),
    'metrics': Series('damaged metrics.csv', attack_metrics, 500),
}
