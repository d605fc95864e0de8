"""An exported model: an ONNX file with everything of the model file in it, opened without a framework, or refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from frameworks import lazy, needs

from ptychopinn_reconstructor.errors import BackendError, ModelFileError, VerificationError
from ptychopinn_reconstructor.io.onnx import encode_metadata, encode_model, encode_tensor, read_model
from ptychopinn_reconstructor.io.protobuf import read_fields, write_field
from ptychopinn_reconstructor.model_file import exported
from ptychopinn_reconstructor.model_file.export import export_model, replay_export
from ptychopinn_reconstructor.model_file.format import decode
from ptychopinn_reconstructor.model_file.opening import inspect_model, open_model, read_parts
from ptychopinn_reconstructor.model_file.trained import verify_model

GOLDEN = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'
REFUSED = Path(__file__).parents[1] / 'refused'
onnxruntime = lazy('onnxruntime')
pytestmark = needs('onnx')


@pytest.fixture(scope='module')
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden model, exported."""
    path = tmp_path_factory.mktemp('export') / 'model.onnx'
    report = export_model(GOLDEN, path)
    assert report.path == path and report.patterns == 4 and report.difference <= report.tolerance == 1e-5
    return path


@pytest.fixture
def export(original: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / 'model.onnx'
    copy.write_bytes(original.read_bytes())
    return copy


def test_nothing_is_lost(original: Path) -> None:
    """C24: manifest and every array of the model file, bit by bit, and the same digest."""
    (manifest, arrays), (values, tensors) = decode(GOLDEN), read_parts(original)
    assert values == manifest and tensors.keys() == arrays.keys()
    assert all(np.array_equal(tensors[name], arrays[name]) for name in arrays)
    assert inspect_model(original).shapes == inspect_model(GOLDEN).shapes


@pytest.mark.parametrize('backend', [pytest.param(name, marks=needs(name)) for name in ('onnx', 'torch')])
def test_every_backend_opens_it(original: Path, backend: str) -> None:
    """C24, C2: as the model file itself."""
    assert verify_model(original, backend).difference <= 1e-5


def test_another_program_runs_it(original: Path) -> None:
    """C25: the runtime finds inputs, output and manifest in the file; patterns of any number go in."""
    session = onnxruntime.InferenceSession(str(original), providers=['CPUExecutionProvider'])
    shapes = {end.name: end.shape for end in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {'root4': ['b', 32, 32], 'backprojection': ['b', 2, 16, 16], 'patches': ['b', 2, 16, 16]}
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata['manifest'])['architecture']['N'] == 32
    assert session.get_modelmeta().producer_name == 'ptychopinn-reconstructor'
    for count in (1, 7):
        inputs = {name: np.ones((count, *shapes[name][1:]), np.float32) for name in ('root4', 'backprojection')}
        (patches,) = session.run(None, inputs)
        assert patches.shape == (count, 2, 16, 16) and np.isfinite(patches).all()


OPEN = """
import sys
from ptychopinn_reconstructor.model_file.opening import open_model
model = open_model(sys.argv[1])
frameworks = {'torch', 'tensorflow', 'keras', 'lightning', 'onnxruntime', 'onnx'}
print(model.manifest.sha256, sorted(frameworks & {name.partition('.')[0] for name in sys.modules}))
"""


def test_it_opens_where_no_framework_is(original: Path, tmp_path: Path) -> None:
    """C24, SINGLETON: in a new process in which none can be imported, not even the one that runs it."""
    hidden = 'torch lightning tensorflow keras onnxruntime onnx'
    environment = {**os.environ, 'PYTHONPATH': str(REFUSED), 'PTYCHOPINN_REFUSE': hidden}
    command = [sys.executable, '-P', '-c', OPEN, str(original)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.split() == [open_model(GOLDEN).manifest.sha256, '[]'], done.stderr


def test_none_of_its_bytes_may_change(export: Path) -> None:
    """C26: four hundred places, forty lengths, and what is added; each is one sentence that names the file."""
    data, rng = export.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(data), 400):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        assert_refused(export, bytes(changed))
    for length in rng.integers(0, len(data), 40):
        assert_refused(export, data[:length])
    assert_refused(export, data + b'\0', 'does not end with its SHA-256')


def assert_refused(path: Path, data: bytes, words: str = '') -> None:
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    sentence = str(caught.value)
    assert sentence.endswith('.') and '\n' not in sentence and path.name in sentence and words in sentence, sentence


def reseal(data: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """An export whose content was edited and sealed again, as somebody would who wants to be believed."""
    body = edit(data[: -len(exported._make_seal(b''))])
    return body + exported._make_seal(body)


def without(body: bytes, key: str) -> bytes:
    """An export without an entry of its metadata."""
    kept = b''
    for number, value in read_fields(memoryview(body)):
        message = value if isinstance(value, int) else bytes(value)
        if number != 14 or not isinstance(message, bytes) or f'\n{chr(len(key))}{key}'.encode() not in message[:20]:
            kept += write_field(number, message)
    return kept


def with_initializer(body: bytes, tensor: bytes) -> bytes:
    """An export with one more array."""
    return body + write_field(7, write_field(5, tensor))


EDITS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    'a weight': (lambda body: body.replace(weight_bytes(), bytes(len(weight_bytes()))), 'SHA-256 is not the recorded'),
    'the manifest': (lambda body: body.replace(b'"backend":"torch"', b'"backend":"tOrch"'), 'was altered'),
    'no manifest': (lambda body: without(body, 'manifest'), "the entries ['arrays']"),
    'no arrays': (lambda body: without(body, 'arrays'), "the entries ['manifest']"),
    'one entry more': (lambda body: body + encode_metadata('author', 'me'), "['arrays', 'author', 'manifest']"),
    'an entry twice': (lambda body: body + encode_metadata('arrays', ''), 'a name is there twice'),
    'an entry without text': (lambda body: body + write_field(14, write_field(1, 'x')), 'not enough values'),
    'an array twice': (lambda body: with_initializer(body, encode_tensor(np.zeros(2, '<f4'), 'stem.bias')), 'twice'),
    'another type': (lambda body: with_initializer(body, encode_tensor(np.zeros(2, '<i8'), 'x')), 'the type [7]'),
    'another size': (
        lambda body: with_initializer(body, write_field(1, 2**40) + encode_tensor(np.zeros(2, '<f4'), 'x')),
        'for an array of the shape [1099511627776, 2]',
    ),
    'not finite': (lambda body: with_initializer(body, encode_tensor(np.full(2, np.nan, '<f4'), 'x')), 'NaN'),
    'no base64': (lambda body: without(body, 'arrays') + encode_metadata('arrays', '!'), 'base64'),
    'no safetensors': (lambda body: without(body, 'arrays') + encode_metadata('arrays', encoded(b'abc')), 'truncated'),
    'no message': (lambda body: body + b'\xff', 'does not end'),
}


def weight_bytes() -> bytes:
    return open_model(GOLDEN).weights['stem.bias'].tobytes()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize('name', EDITS)
def test_what_was_altered_and_sealed_again_is_refused(export: Path, name: str) -> None:
    """C26: what it holds is checked as that of a model file."""
    edit, words = EDITS[name]
    data = export.read_bytes()
    changed = reseal(data, edit)
    assert changed != data
    assert_refused(export, changed, words)


def test_an_onnx_file_of_another_program_is_named(tmp_path: Path) -> None:
    """C5: by what it is."""
    foreign = write_field(1, 8) + write_field(2, 'pytorch') + encode_model(b'')
    assert_refused(tmp_path / 'model.onnx', foreign, 'is an ONNX file that another program wrote')
    assert_refused(tmp_path / 'model.onnx', encode_model(b''), 'does not end with its SHA-256')


def test_a_graph_that_computes_something_else_is_found_out(export: Path) -> None:
    """C27: the self-test runs the graph of the file, not one that is built anew."""
    slope = b'\n\x05alpha' + write_field(2, 0.1)
    export.write_bytes(reseal(export.read_bytes(), lambda body: body.replace(slope, slope[:-4] + b'\0\0\0\0')))
    open_model(export)
    with pytest.raises(VerificationError, match=r"self-test of '.*model\.onnx' differs"):
        replay_export(export)


def test_an_export_that_does_not_replay_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C27: and what had that name stays."""
    target = tmp_path / 'model.onnx'
    bias = weight_bytes()
    target.write_bytes(b'before')
    monkeypatch.setattr(
        'ptychopinn_reconstructor.model_file.export.encode_export',
        lambda network, *parts: exported.encode_export(network.replace(bias, bytes(len(bias))), *parts),
    )
    with pytest.raises(ModelFileError, match='was altered'):
        export_model(GOLDEN, target)
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx'] and target.read_bytes() == b'before'


def test_an_export_can_be_exported(original: Path, tmp_path: Path) -> None:
    """C24: to the same bytes."""
    export_model(original, tmp_path / 'again.onnx')
    assert (tmp_path / 'again.onnx').read_bytes() == original.read_bytes()
    weights, metadata = read_model(original.read_bytes())
    assert weights['stem.kernel'].shape == open_model(GOLDEN).weights['stem.kernel'].transpose(3, 2, 0, 1).shape
    assert metadata.keys() == {'manifest', 'arrays', 'sha256'}


def test_it_takes_the_runtime_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B3, C27: what cannot be replayed is not written; the error says what to install."""
    monkeypatch.setattr('ptychopinn_reconstructor.backend.loading._can_import', lambda module: module != 'onnxruntime')
    with pytest.raises(BackendError, match=r"pip install 'ptychopinn-reconstructor\[onnx\]'"):
        export_model(GOLDEN, tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())
