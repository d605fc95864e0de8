"""Bad input on the command line: exit code 2, one clear sentence on stderr, nothing written.

The scans of bad_inputs.py and the cases below together are the table of bad inputs.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from bad_inputs import BAD_OBJECTS, BAD_PROBES, BAD_SCANS, Builder
from command_line import assert_refused, make_model, run, snapshot
from scans import backend_options

from ptychopinn_reconstructor.backend import find_missing_modules, installed
from ptychopinn_reconstructor.cli.folders import OutputFolder
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.physics.simulation.simulate import simulate

Case = tuple[str, str, tuple[str, ...]]  # name, command line with {files}, words that the sentence must hold


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good scans, models and folders that the cases use."""
    folder = tmp_path_factory.mktemp('files')
    write_npz(folder / 'scan.npz', simulate(n=32, positions=36, step=5.0, seed=1))
    write_npz(folder / 'scan64.npz', simulate(n=64, positions=16, seed=2))
    write_npz(folder / 'scan20.npz', simulate(n=20, positions=16, step=5.0, seed=2))
    with np.load(folder / 'scan.npz') as scan:
        arrays = dict(scan)
    np.savez(folder / 'no_object.npz', **{key: value for key, value in arrays.items() if key != 'objectGuess'})
    np.savez(folder / 'no_probe.npz', **{key: value for key, value in arrays.items() if key != 'probeGuess'})
    np.savez(folder / 'small_object.npz', objectGuess=np.ones((20, 20), np.complex64))
    rng = np.random.default_rng(0)
    other = rng.uniform(0.5, 1, arrays['objectGuess'].shape) * np.exp(1j)
    np.savez(folder / 'object_only.npz', object=other.astype(np.complex64))
    wide = simulate(n=32, positions=144, step=7.0, seed=4)
    write_npz(folder / 'wide.npz', wide)
    assert wide.object is not None
    np.savez(folder / 'shifted.npz', objectGuess=np.roll(wide.object, (6, 5), axis=(0, 1)))
    make_model(folder / 'model.safetensors', arrays)
    content = (folder / 'model.safetensors').read_bytes()
    (folder / 'truncated.safetensors').write_bytes(content[: len(content) // 2])
    altered = bytearray(content)
    altered[len(content) // 2] ^= 0xFF
    (folder / 'altered.safetensors').write_bytes(altered)
    (folder / 'text.safetensors').write_text('not a model')
    with zipfile.ZipFile(folder / 'foreign.zip', 'w') as archive:
        archive.writestr('diffraction_to_obj/weights.h5', b'0')
    make_configurations(folder)
    make_training(folder / 'trained')
    (folder / 'empty').mkdir()
    return folder


def make_configurations(folder: Path) -> None:
    texts = {
        'malformed': 'training: [1, 2',
        'list': '- 1\n- 2\n',
        'flat': 'training: 7\n',
        'unknown_key': 'training: {epochs: 3}\n',
        'unknown_section': 'optimizer: {learning_rate: 0.1}\n',
        'newer': 'format_version: 99\n',
        'range': 'training: {learning_rate: -1}\n',
    }
    for name, text in texts.items():
        (folder / f'{name}.yaml').write_text(text)
    (folder / 'binary.yaml').write_bytes(b'\xff\xfe\x00\x80')


def make_training(folder: Path) -> None:
    """What a training of five epochs leaves, as far as --resume looks at it before the checkpoint is opened."""
    (folder / 'checkpoints').mkdir(parents=True)
    (folder / 'checkpoints' / 'last.ckpt').write_bytes(b'a checkpoint')
    (folder / 'config.yaml').write_text(yaml.safe_dump(Config().merged({'model': {'N': 32}}).to_json()))
    (folder / 'metrics.csv').write_text('epoch,train_loss\n' + ''.join(f'{i},1.0\n' for i in range(1, 6)))


TRAIN = ' '.join(['train {f}/scan.npz --output-dir {out}', *backend_options(), ''])
RECONSTRUCT = 'reconstruct {f}/scan.npz --output-dir {out} '
REFINE = 'refine {f}/scan.npz --output-dir {out} '
RESUME = 'train {f}/scan.npz --output-dir {f}/trained --resume '

CASES: list[Case] = [
    # models
    ('model that is a text', RECONSTRUCT + '--model {f}/text.safetensors', ('text.safetensors', 'model')),
    ('truncated model', RECONSTRUCT + '--model {f}/truncated.safetensors', ('truncated.safetensors',)),
    ('altered model', RECONSTRUCT + '--model {f}/altered.safetensors', ('altered',)),
    ('scan as model', RECONSTRUCT + '--model {f}/scan.npz', ('scan.npz', 'NPZ')),
    ('archive of another program', RECONSTRUCT + '--model {f}/foreign.zip', ('foreign.zip',)),
    ('no such model', RECONSTRUCT + '--model {f}/absent.safetensors', ('absent.safetensors',)),
    ('folder as model', RECONSTRUCT + '--model {f}/trained', ('trained',)),
    ('no model named', RECONSTRUCT, ('--model',)),
    (
        'model for another N',
        'reconstruct {f}/scan64.npz --output-dir {out} --model {f}/model.safetensors',
        ('N = 32', '64'),
    ),
    ('weights of another network', RECONSTRUCT + '--model {f}/model.safetensors', ('The weights lack', 'stem.kernel')),
    ('inspect: no such file', 'inspect {f}/absent.safetensors', ('absent.safetensors',)),
    ('inspect: a scan', 'inspect {f}/scan.npz --json', ('scan.npz',)),
    ('verify: truncated', 'verify {f}/truncated.safetensors', ('truncated.safetensors',)),
    ('verify: unknown backend', 'verify {f}/model.safetensors --backend jax', ('jax backend selected', 'torch')),
    ('train further from a truncated model', TRAIN + '--from {f}/truncated.safetensors', ('truncated.safetensors',)),
    (
        'train further with another width',
        TRAIN + '--from {f}/model.safetensors --n-filters-scale 1',
        ('n_filters_scale', '2'),
    ),
    # devices and backends
    ('device that is not there', TRAIN + '--device cuda:77', ("'cuda:77'", 'cpu')),
    ('device that does not exist', TRAIN + '--device tpu', ("'tpu'", 'cpu')),
    ('unknown backend', TRAIN + '--backend jax', ('jax backend selected', 'torch')),
    ('unknown backend to reconstruct', RECONSTRUCT + '--model {f}/model.safetensors --backend jax', ('jax', 'torch')),
    # output
    ('file as output folder', 'refine {f}/scan.npz --output-dir {f}/scan64.npz', ('scan64.npz', 'is a file')),
    ('output folder below a file', 'train {f}/scan.npz --output-dir {f}/scan64.npz/out', ('scan64.npz', 'is a file')),
    ('simulate onto a folder', 'simulate --out {f}/empty --positions 4 --n 16', ('empty', 'folder')),
    ('simulate below a file', 'simulate --out {f}/scan.npz/x.npz', ('scan.npz', 'is a file')),
    ('earlier training in the folder', 'train {f}/scan.npz --output-dir {f}/trained', ('--resume', '--overwrite')),
    ('no output folder named', 'train {f}/scan.npz', ('--output-dir',)),
    # resuming
    ('nothing to resume', TRAIN + '--resume', ('nothing to resume', 'checkpoints')),
    ('resume in an empty folder', 'train {f}/scan.npz --output-dir {f}/empty --resume', ('nothing to resume',)),
    ('resume another network', RESUME + '--gridsize 2', ('gridsize is 1', '2')),
    ('resume with another seed', RESUME + '--seed 1', ('seed is 0',)),
    # settings
    ('no epochs', TRAIN + '--epochs 0', ('nepochs', '0')),
    ('negative learning rate', TRAIN + '--learning-rate -1', ('learning_rate', '-1')),
    ('not a number', TRAIN + '--epochs many', ('--epochs', 'many')),
    ('unknown setting', TRAIN + '--set nepoch=3', ('nepoch', 'did you mean nepochs')),
    ('setting without a value', TRAIN + '--set nepochs', ('key=value',)),
    ('setting of a wrong type', TRAIN + '--set nepochs=many', ('nepochs', 'many')),
    ('setting given twice', TRAIN + '--set nepochs=3 --epochs 4', ('nepochs', 'twice')),
    ('unknown choice', TRAIN + '--model-type gan', ('gan', 'supervised')),
    ('oversampling without being possible', TRAIN + '--n-groups 1000', ('n_groups', '1000')),
    ('more patterns than there are', TRAIN + '--n-subsample 1000', ('n_subsample', '1000', '36')),
    ('missing configuration', TRAIN + '--config {f}/absent.yaml', ('absent.yaml', 'quick')),
    ('malformed YAML', TRAIN + '--config {f}/malformed.yaml', ('malformed.yaml', 'line')),
    ('YAML list', TRAIN + '--config {f}/list.yaml', ('list.yaml', 'section')),
    ('section that is a number', TRAIN + '--config {f}/flat.yaml', ("'training'", '7')),
    ('unknown key in a file', TRAIN + '--config {f}/unknown_key.yaml', ('training.epochs',)),
    ('unknown section in a file', TRAIN + '--config {f}/unknown_section.yaml', ("'optimizer'", 'training')),
    ('configuration of a newer version', TRAIN + '--config {f}/newer.yaml', ('99', 'update')),
    ('value out of range in a file', TRAIN + '--config {f}/range.yaml', ('learning_rate', '-1')),
    ('configuration that is not text', TRAIN + '--config {f}/binary.yaml', ('binary.yaml', 'not text')),
    ('N of another scan', TRAIN + '--n 64', ('64', '32')),
    ('scans of different sizes', TRAIN.replace('scan.npz', 'scan.npz {f}/scan64.npz'), ('32 and 64',)),
    ('N the network cannot take', TRAIN.replace('scan.npz', 'scan20.npz'), ('20', 'multiple of 16')),
    # probes and objects
    ('supervised without object', TRAIN.replace('scan.npz', 'no_object.npz') + '--model-type supervised', ('object',)),
    ('scan without probe', 'train {f}/no_probe.npz --output-dir {out}', ('no probe', '--probe')),
    ('engine without probe', 'refine {f}/no_probe.npz --output-dir {out}', ('no probe', '--probe')),
    ('validation scan without probe', TRAIN + '--validation {f}/no_probe.npz', ('no_probe.npz', 'no probe')),
    ('probe of another size', TRAIN + '--probe {f}/scan64.npz', ('64', '32')),
    ('given probe of another size', RECONSTRUCT + '--model {f}/model.safetensors --probe {f}/scan64.npz', ('64', '32')),
    ('truth without object', REFINE + '--truth {f}/no_object.npz', ('no_object.npz',)),
    ('truth of another scan', REFINE + '--passes 1 --truth {f}/small_object.npz', ('truth',)),
    ('truth lies elsewhere', REFINE.replace('scan', 'wide') + '--passes 8 --truth {f}/shifted.npz', ('shifted by',)),
    ('evaluate without positions', 'evaluate {f}/object_only.npz {f}/object_only.npz', ('positions', 'product.h5')),
    ('evaluate an area too small', 'evaluate {f}/scan.npz {f}/scan.npz --margin 100', ('area', 'margin')),
    ('margin below zero', 'evaluate {f}/scan.npz {f}/scan.npz --margin -1', ('--margin',)),
    # simulation
    ('simulate: N not divisible by 4', 'simulate --out {out}/s.npz --n 30', ('30', 'divisible by 4')),
    ('simulate: unknown object', 'simulate --out {out}/s.npz --object cat', ("'cat'", 'spokes')),
    ('simulate: unknown probe', 'simulate --out {out}/s.npz --probe torch', ("'torch'", 'defocused', 'file')),
    ('simulate: no photons', 'simulate --out {out}/s.npz --photons 0', ('photons', '0')),
    ('simulate: one position', 'simulate --out {out}/s.npz --positions 1', ('positions is 1',)),
    ('simulate: no step', 'simulate --out {out}/s.npz --step 0', ('step',)),
    ('simulate: no modes', 'simulate --out {out}/s.npz --modes 0', ('modes',)),
    ('simulate: negative seed', 'simulate --out {out}/s.npz --seed -1', ('seed',)),
    ('simulate: probe of another size', 'simulate --out {out}/s.npz --n 64 --probe {f}/scan.npz', ('32', '64')),
    # usage
    ('unknown command', 'trian {f}/scan.npz', ('trian', '--help')),
    ('unknown option', TRAIN + '--epoch 3', ('--epoch', "'ptychopinn train --help'")),
    ('missing argument', 'evaluate {f}/scan.npz', ('TRUTH', "'ptychopinn evaluate --help'")),
    ('no scan named', 'train --output-dir {out}', ('scan',)),
    (
        'setting of the training',
        RECONSTRUCT + '--model {f}/text.safetensors --set nepochs=7',
        ('nepochs', 'of the training'),
    ),
    ('absurd number of threads', TRAIN + '--threads 100000', ('threads', '256', '100000')),
    ('no passes', REFINE + '--passes 0', ('--passes', '0')),
    ('pixel size of zero', REFINE + '--pixel-size 0', ('--pixel-size',)),
]  # fmt: skip


def test_the_table_holds_forty_kinds_of_bad_input() -> None:
    assert len({name for name, *_ in [*CASES, *BAD_SCANS]}) >= 40


@pytest.mark.parametrize(('line', 'words'), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_is_one_sentence_and_leaves_no_trace(
    files: Path, tmp_path: Path, line: str, words: tuple[str, ...]
) -> None:
    """ERRORS: exit code 2 and one line on stderr with the value seen."""
    before = snapshot(files)
    assert_refused(run(*line.format(f=files, out=tmp_path / 'deep' / 'out').split()), words)
    assert snapshot(files) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('command', ['refine', 'train'])
@pytest.mark.parametrize(('build', 'words'), [entry[1:] for entry in BAD_SCANS], ids=[entry[0] for entry in BAD_SCANS])
def test_bad_scans(tmp_path: Path, build: Builder, words: tuple[str, ...], command: str) -> None:
    (tmp_path / 'in').mkdir()
    scan, out = build(tmp_path / 'in'), tmp_path / 'out'
    assert_refused(run(command, str(scan), '--output-dir', str(out)), words)
    assert not out.exists()


@pytest.mark.parametrize(
    ('build', 'words'), [entry[1:] for entry in BAD_PROBES], ids=[entry[0] for entry in BAD_PROBES]
)
def test_bad_probes(files: Path, tmp_path: Path, build: Builder, words: tuple[str, ...]) -> None:
    (tmp_path / 'in').mkdir()
    probe, out = build(tmp_path / 'in'), tmp_path / 'out'
    assert_refused(run('refine', str(files / 'scan.npz'), '--probe', str(probe), '--output-dir', str(out)), words)
    assert not out.exists()


@pytest.mark.parametrize(
    ('build', 'words'), [entry[1:] for entry in BAD_OBJECTS], ids=[entry[0] for entry in BAD_OBJECTS]
)
def test_bad_truths(files: Path, tmp_path: Path, build: Builder, words: tuple[str, ...]) -> None:
    (tmp_path / 'in').mkdir()
    truth, out = build(tmp_path / 'in'), tmp_path / 'out'
    assert_refused(run('refine', str(files / 'scan.npz'), '--truth', str(truth), '--output-dir', str(out)), words)
    assert not out.exists()


HIDE = """
import importlib.util, sys
find, hidden = importlib.util.find_spec, sys.argv.pop(1).split()
importlib.util.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)
from ptychopinn_reconstructor.cli.main import main
main(sys.argv[1:])
"""


def refused_in_a_process(arguments: list[str], hidden: list[str]) -> str:
    """The one line that the command line says in a new process, for which some modules are not installed."""
    start = ['-c', HIDE, ' '.join(hidden)] if hidden else ['-m', 'ptychopinn_reconstructor']
    result = subprocess.run(
        [sys.executable, '-P', *start, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 2 and result.stdout == '' and len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ('backend', 'title', 'modules'),
    [('tensorflow', 'TensorFlow', ['tensorflow', 'keras']), ('torch', 'PyTorch', ['torch', 'lightning'])],
)
def test_a_backend_that_is_not_installed(
    files: Path, tmp_path: Path, backend: str, title: str, modules: list[str]
) -> None:
    """BACKEND: the sentence names the backend, the pip command and what can be chosen instead; nothing is written.

    As it stands in an environment without the framework, in others with its modules hidden.
    """
    hidden = [] if find_missing_modules(backend) else modules
    arguments = ['train', str(files / 'scan.npz'), '--output-dir', str(tmp_path / 'out'), '--backend', backend]
    sentence = refused_in_a_process(arguments, hidden)
    assert f'{title} backend selected' in sentence
    assert f"pip install 'ptychopinn-reconstructor[{backend}]'" in sentence
    others = [name for name in installed(training=True) if name != backend]
    assert all(f'--backend {name}' in sentence for name in others) and f'--backend {backend}' not in sentence
    assert ('choose' in sentence) == bool(others)
    assert list(tmp_path.iterdir()) == []


def test_no_backend_at_all(files: Path, tmp_path: Path) -> None:
    """BACKEND: with nothing installed there is nothing else to choose, and nothing is offered."""
    hidden = ['torch', 'lightning', 'tensorflow', 'keras', 'onnxruntime']
    sentence = refused_in_a_process(['train', str(files / 'scan.npz'), '--output-dir', str(tmp_path / 'out')], hidden)
    assert sentence.endswith("pip install 'ptychopinn-reconstructor[torch]'\n") and 'choose' not in sentence


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='the superuser may write anywhere')
def test_a_folder_that_may_not_be_written(files: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        for line in (TRAIN, 'refine {f}/scan.npz --output-dir {out}', 'simulate --out {out}/s.npz'):
            result = run(*line.format(f=files, out=tmp_path / 'out').split())
            assert_refused(result, ('not writable', str(tmp_path)))
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(importlib.util.find_spec('mlflow') is not None, reason='mlflow is installed')
def test_a_logger_that_is_not_installed_leaves_no_trace(files: Path, tmp_path: Path) -> None:
    line = (TRAIN + '--logger-backend mlflow').format(f=files, out=tmp_path / 'out')
    assert_refused(run(*line.split()), ('mlflow', 'pip install'))
    assert list(tmp_path.iterdir()) == []


def test_bad_input_found_late_does_not_touch_an_earlier_training(files: Path, tmp_path: Path) -> None:
    """--overwrite replaces a training only when the new one has begun."""
    make_training(tmp_path / 'out')
    (tmp_path / 'out' / 'model.safetensors').write_bytes(b'a model')
    before = snapshot(tmp_path)
    line = (TRAIN.replace('scan.npz', 'scan20.npz') + '--overwrite').format(f=files, out=tmp_path / 'out')
    assert_refused(run(*line.split()), ('multiple of 16',))
    assert snapshot(tmp_path) == before


def test_files_of_others_in_the_output_folder_are_never_removed(tmp_path: Path) -> None:
    """A detector may write into the same folder while bad input is found."""
    with pytest.raises(ScanError), OutputFolder(tmp_path / 'out'):
        (tmp_path / 'out' / 'checkpoints').mkdir(parents=True)
        for name in ('config.yaml', 'metrics.csv', 'checkpoints/last.ckpt', 'frame_0001.h5'):
            (tmp_path / 'out' / name).write_bytes(b'1')
        raise ScanError('The scan is bad; pass another.')
    assert [path.name for path in (tmp_path / 'out').rglob('*')] == ['frame_0001.h5']


@pytest.mark.parametrize(
    'line',
    [
        'refine {f}/absent.npz --output-dir {out}',
        'reconstruct {f}/scan.npz --output-dir {out} --model {f}/text.safetensors',
    ],
)
def test_a_process_says_one_line_and_exits_2(files: Path, tmp_path: Path, line: str) -> None:
    command = line.format(f=files, out=tmp_path / 'out').split()
    result = subprocess.run(
        [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 2 and result.stdout == ''
    assert result.stderr.startswith('ptychopinn: error: ') and result.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_a_traceback_is_shown_with_debug_only(tmp_path: Path) -> None:
    line = ('evaluate', str(tmp_path / 'a.npz'), str(tmp_path / 'b.npz'))
    assert 'Traceback' not in run(*line).stderr
    for command in (('--debug', *line), (*line, '--debug')):
        result = run(*command)
        assert result.exit_code == 2 and 'Traceback' in result.stderr
        assert f'\nScanError: {inspect.getdoc(ScanError)}\n' in result.stderr
        assert result.stderr.splitlines()[-1].startswith('ptychopinn: error: ')


def test_an_unexpected_exception_is_one_line_and_exit_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError('a bug\nof ours')

    monkeypatch.setattr('ptychopinn_reconstructor.cli.doctor.examine', broken)
    result = run('doctor')
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        'ptychopinn: error: Unexpected ZeroDivisionError: a bug of ours; run it again with --debug to see where.'
    ]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`ptychopinn doctor | head -1` says nothing on stderr."""
    command = f'{sys.executable} -P -m ptychopinn_reconstructor doctor --quick --json | true'
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300, check=False)
    assert result.stderr == ''
