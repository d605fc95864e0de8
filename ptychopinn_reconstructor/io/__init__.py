"""Reading and writing scans, probes, objects, products and pictures.

Importing this loads numpy only; h5py and matplotlib are imported by the functions that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from ..scan import check_probe
from .domain import DomainChoice
from .files import detect_file_kind
from .records import ObjectFile, ScanFile

if TYPE_CHECKING:
    from .images import write_amplitude_phase, write_comparison
    from .npz import write_npz
    from .ptychodus import read_product, write_diffraction, write_product

__all__ = [
    'ObjectFile', 'ScanFile', 'read_object', 'read_probe', 'read_product', 'read_scan',
    'write_amplitude_phase', 'write_comparison', 'write_diffraction', 'write_npz', 'write_product',
]  # fmt: skip

DIFFRACTION_NAME, PRODUCT_NAME = 'diffraction.h5', 'product.h5'
_LAZY = {
    'write_amplitude_phase': 'images', 'write_comparison': 'images', 'write_npz': 'npz',
    'read_product': 'ptychodus', 'write_diffraction': 'ptychodus', 'write_product': 'ptychodus',
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'.{_LAZY[name]}', __name__), name)


def read_scan(
    path: str | Path,
    *,
    domain: DomainChoice = 'auto',
    probe: str | Path | None = None,
    product: str | Path | None = None,
) -> ScanFile:
    """A scan from an NPZ file, a Ptychodus diffraction file, or a folder that holds diffraction.h5 and product.h5.

    Parameters
    ----------
    path
        What the file holds decides how it is read, not its name.
    domain
        Measurement domain of the patterns: 'auto' decides and says so in the notices, or refuses.
    probe
        'FILE[:KEY]' of a probe that takes the place of the scan's (see `read_probe`).
    product
        Product of a diffraction file; by default the product.h5 beside it.

    Raises
    ------
    ScanError
        When a file is missing, damaged or breaks the contract of specs/data_contracts.md.
    """
    path = Path(path)
    other = None if probe is None else read_probe(probe)
    text = f"Probe: {probe}, in place of the scan file's."
    replaced = () if probe is None else (Notice('probe_replaced', text),)
    if path.is_dir():
        path = _find_diffraction(path)
    kind = detect_file_kind(path)
    if kind == 'npz':
        if product is not None:
            raise ScanError(f'{path} is an NPZ file, which takes no product; leave {product} out.')
        from .npz import read_npz

        read = read_npz(path, domain=domain, probe=other)
    elif kind == 'hdf5':
        from .ptychodus import read_diffraction_product

        read = read_diffraction_product(path, _find_product(path, product), domain=domain, probe=other)
    else:
        raise ScanError(f'{path} holds a single array; a scan is an NPZ file or a Ptychodus diffraction file.')
    return ScanFile(read.scan, (*read.notices, *replaced))


def read_probe(spec: str | Path) -> NDArray[np.complex64]:
    """A probe (modes, N, N) complex64 from 'FILE[:KEY]': NPZ (probe, probeGuess or KEY), NPY or product HDF5.

    Raises ScanError when there is no such file or key, or what it holds is no probe.
    """
    path, key = _split_key(spec)
    kind = detect_file_kind(path)
    if kind == 'hdf5':
        from .ptychodus import read_product_probe

        return read_product_probe(path, key)
    from .arrays import drop_relaxation_axis, read_npy
    from .npz import read_npz_probe

    if kind == 'npy' and key is not None:
        raise ScanError(f"{path} holds a single array; leave out the key '{key}'.")
    values = read_npy(path) if kind == 'npy' else read_npz_probe(path, key)
    return check_probe(drop_relaxation_axis(values, f'The probe of {path}'))


def read_object(path: str | Path, key: str | None = None) -> ObjectFile:
    """An object to compare or to learn from: NPZ (object, objectGuess or `key`), NPY, product or folder with one.

    Raises ScanError when there is no such file or key, or what it holds is no object.
    """
    path = Path(path)
    if path.is_dir():
        path = path / PRODUCT_NAME
    kind = detect_file_kind(path)
    if kind == 'hdf5':
        from .ptychodus import read_product

        if key not in (None, 'object'):
            raise ScanError(f"{path} is a product, whose object has no other name; leave out the key '{key}'.")
        result = read_product(path)
        return ObjectFile(
            result.object, result.origin, result.positions, result.known_pixel_size, result.probe.shape[-1]
        )
    from .arrays import extract_object_layer, read_npy
    from .npz import read_npz_object

    if kind == 'npz':
        return read_npz_object(path, key)
    return ObjectFile(extract_object_layer(read_npy(path), f'The array of {path}'))


def _split_key(spec: str | Path) -> tuple[Path, str | None]:
    path = Path(spec)
    if isinstance(spec, str) and not path.exists() and ':' in spec:
        name, _, key = spec.rpartition(':')
        if Path(name).exists():
            return Path(name), key
    return path, None


def _find_diffraction(folder: Path) -> Path:
    if not (folder / DIFFRACTION_NAME).exists():
        raise ScanError(f'The folder {folder} holds no {DIFFRACTION_NAME}; pass a scan file or a Ptychodus folder.')
    return folder / DIFFRACTION_NAME


def _find_product(path: Path, product: str | Path | None) -> Path:
    beside = path.with_name(PRODUCT_NAME)
    if product is None and beside == path:
        raise ScanError(f'{path} is a product, not a scan; pass the {DIFFRACTION_NAME} beside it or their folder.')
    if product is None and not beside.exists():
        raise ScanError(f'There is no {PRODUCT_NAME} beside {path}; a diffraction file needs the product of its scan.')
    return beside if product is None else Path(product)
