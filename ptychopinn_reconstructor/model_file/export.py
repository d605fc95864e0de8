"""Exporting a model as an ONNX file, which is reopened from disk and replayed before it gets its name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..backend import Backend, GraphBackend, load_backend
from ..io.atomic import write_atomically
from .exported import encode_export
from .opening import open_model, read_parts
from .replaying import Replay, replay
from .trained import apply_network

ONNX = 'onnx'  # the backend whose networks are ONNX graphs


def export_model(model: str | Path, target: str | Path) -> Replay:
    """Write a model as an ONNX file with everything that the model file holds; what the replay of its graph gave.

    Raises ModelFileError as `open_model` does, BackendError where ONNX Runtime is not installed, VerificationError when
    the graph does not reproduce the recorded output, and OutputError when the folder cannot be written.
    """
    opened, backend = open_model(model), _load_graph_backend()
    network = backend.encode_network(opened.config, opened.weights)
    data = encode_export(network, *read_parts(Path(model)))
    with write_atomically(target) as temporary:
        temporary.write_bytes(data)
        return replay_export(Path(target), temporary)


def replay_export(path: Path, file: Path | None = None) -> Replay:
    """Replay the self-test of an export by running its own graph; `file` is where it still lies, `path` its name.

    Raises as `export_model` does.
    """
    file = file or path
    model, data = open_model(file), file.read_bytes()
    network = _load_graph_backend().run_network(data)
    return replay(path, model, partial(apply_network, network))


def _load_graph_backend() -> GraphBackend:
    backend: Backend = load_backend(ONNX)
    assert isinstance(backend, GraphBackend)
    return backend
