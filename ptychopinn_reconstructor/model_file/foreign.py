"""What a file is that is no model file, in one sentence with the remedy; nothing in it is unpickled or executed."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from ..errors import quote

MAGIC = {
    b'PK': 'a truncated or damaged zip file',
    b'\x80': 'a pickle',
    b'\x89HDF\r\n\x1a\n': 'an HDF5 file',
    b'\x93NUMPY': 'a NumPy array file',
    b'\x1f\x8b': 'a gzip file',
}
ONNX = b'\x08'  # its first field, the version of the format, as PyTorch and TensorFlow write it
UNPICKLING = ('.dill', '.pkl', '.pickle', '.joblib')
REMEDY = 'hand in the model.safetensors that training wrote.'


def describe_no_file(file: Path) -> str:
    """Why a path leads to no regular file."""
    if file.is_dir():
        return f"'{file}' is a folder, not a model file; hand in the model.safetensors in it."
    if file.exists():
        return f"'{file}' is a device or pipe, not a model file; hand in a model.safetensors."
    return f'There is no model file {str(file)!r}; check the path.'


def describe_foreign(file: Path, start: bytes) -> str:
    """What a file is that does not begin as a safetensors file does; `start` holds its first bytes."""
    if start.startswith(b'PK') and (names := _names_in_zip(file)) is not None:
        return _describe_zip(file, names)
    if start.startswith(ONNX):
        return f"'{file}' is an ONNX file that another program wrote; {REMEDY}"
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    return f"'{file}' is {kind or ('no model file' if start else 'empty')}; {REMEDY}"


def _names_in_zip(file: Path) -> list[str] | None:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, OverflowError, NotImplementedError):
        return None


def _describe_zip(file: Path, names: list[str]) -> str:
    if 'manifest.json' in names and 'weights.safetensors' in names:
        return f"'{file}' is a model of a version before 0.1.0, which is not read any more; train again."
    if any(PurePosixPath(name).name == 'data.pkl' for name in names):
        return (
            f"'{file}' is a Lightning or PyTorch checkpoint (training state, for resuming), not a model file; "
            'hand in the model.safetensors that the same training wrote.'
        )
    if pickled := next((name for name in names if name.lower().endswith(UNPICKLING)), None):
        return (
            f"'{file}' is an archive of the original PtychoPINN (it holds {quote(pickled)}), which could only be read "
            'by running code from the file; train again with this package and hand in its model.safetensors.'
        )
    if weights := next((name for name in names if name.lower().endswith(('.h5', '.hdf5', '.keras'))), None):
        return (
            f"'{file}' is a Keras model or checkpoint (it holds {quote(weights)}), not a model file; "
            'hand in the model.safetensors that the same training wrote.'
        )
    if any(name.endswith('.npy') for name in names):
        return f"'{file}' is a NumPy archive (NPZ), not a model file; {REMEDY}"
    return f"'{file}' is a zip file, not a model file; {REMEDY}"
