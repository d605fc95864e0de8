"""Reading and writing scans, probes, objects, products and pictures.

Importing this loads numpy only; h5py and matplotlib are imported by the functions that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError, SeveralScansError, shorten
from ..events import Notice
from ..scan import check_probe
from .boundary import bound_errors
from .domain import DomainChoice
from .files import detect_file_kind
from .records import ObjectFile, ScanFile, Use

if TYPE_CHECKING:
    from .cxi_writing import write_cxi
    from .images import write_amplitude_phase, write_comparison
    from .npz import write_npz
    from .ptychodus import read_product, write_diffraction, write_product

__all__ = [
    'DomainChoice', 'ObjectFile', 'ScanFile', 'read_object', 'read_probe', 'read_product', 'read_scan', 'read_scans',
    'write_amplitude_phase', 'write_comparison', 'write_cxi', 'write_diffraction', 'write_npz', 'write_product',
]  # fmt: skip

DIFFRACTION_NAME, PRODUCT_NAME = 'diffraction.h5', 'product.h5'
_LAZY = {
    'write_cxi': 'cxi_writing', 'write_amplitude_phase': 'images', 'write_comparison': 'images', 'write_npz': 'npz',
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
    positions: str | Path | None = None,
    pixel_size: float | None = None,
    as_is: bool = False,
    scan_index: int | None = None,
    fresnel_number: float | None = None,
    scratch: Path | None = None,
) -> ScanFile:
    """A scan from a file or folder: NPZ, Ptychodus, CXI or NXcxi_ptycho, PtyPy's .ptyd, or TIFF images with a table.

    Parameters
    ----------
    path
        What the file holds decides how it is read, not its name. A folder holds diffraction.h5 and product.h5, or TIFF
        images.
    domain
        Measurement domain of the patterns: 'auto' decides and says so in the notices, or refuses.
    probe
        'FILE[:KEY]' of a probe that takes the place of the scan's (see `read_probe`).
    product
        Product of a diffraction file; by default the product.h5 beside it.
    positions
        Table of the positions of TIFF images; by default the CSV file beside them.
    pixel_size
        Of an object pixel in meters, for TIFF images.
    as_is
        Nothing is mended: bad pixels and frames, a beam off center and a constant factor of the counts stay,
        and a file with several scans is taken for one.
    scan_index
        The number of the scan that is read where the file holds several (see `read_scans`).
    fresnel_number
        pixel^2 / (wavelength * effective distance) of a scan of the near field, whatever the file says; None: as it
        says. Where positions are lengths, magnification and object pixels follow from it.
    scratch
        Folder for patterns that are unpacked; None: the system's for temporary files.

    Raises
    ------
    ScanError
        When a file is missing, damaged or breaks the contract of specs/data_contracts.md; SeveralScansError when it
        holds several scans and none is chosen.
    """
    with bound_errors(path):
        return _read_scan(
            Path(path), domain, probe, product, positions, pixel_size, Use(as_is, scan_index, fresnel_number, scratch)
        )


def _read_scan(
    path: Path,
    domain: DomainChoice,
    probe: str | Path | None,
    product: str | Path | None,
    positions: str | Path | None,
    pixel_size: float | None,
    use: Use,
) -> ScanFile:
    other = None if probe is None else read_probe(probe)
    text = f"Probe: {probe}, in place of the scan file's."
    replaced = () if probe is None else (Notice('probe_replaced', text),)
    if path.is_dir():
        path = _find_scan(path)
    layout = _detect_layout(path)
    if product is not None and layout != 'ptychodus':
        raise ScanError(f'{path} is no diffraction file of Ptychodus and takes no product; leave {product} out.')
    if layout == 'tiff':
        from .tiff import read_tiff

        read = read_tiff(path, domain=domain, probe=other, positions=positions, pixel_size=pixel_size, use=use)
    elif positions is not None or pixel_size is not None:
        raise ScanError(f'{path} holds positions itself; a table and an object pixel are taken for TIFF images only.')
    else:
        read = _read_single_file(path, layout, domain, other, product, use)
    return ScanFile(read.scan, (*read.notices, *replaced, *_note_outside(path, layout)))


def _note_outside(path: Path, layout: str) -> tuple[Notice, ...]:
    """What of a scan lies in files outside of its folder."""
    if layout not in ('ptychodus', 'cxi', 'ptypy'):
        return ()
    from .hdf5 import list_outside

    others = list_outside(path)
    names = shorten(', '.join(map(str, others)), 300)
    return (Notice('outside_files', f'{path.name} leads to files outside of its folder: {names}.'),) if others else ()


def read_scans(path: str | Path, **options: Any) -> dict[int | None, ScanFile]:
    """All scans of a file by their numbers (`scan_index`); by None the one of a file that does not tell several apart.

    Takes what `read_scan` takes, and raises what it raises.
    """
    try:
        return {None: read_scan(path, **options)}
    except SeveralScansError as error:
        return {index: read_scan(path, **options, scan_index=index) for index in error.indexes}


def _detect_layout(path: Path) -> str:
    kind = 'tiff' if path.is_dir() else detect_file_kind(path)
    if kind == 'npy':
        raise ScanError(f'{path} holds a single array; a scan is an NPZ file or a Ptychodus diffraction file.')
    if kind != 'hdf5':
        return kind
    from .hdf5 import detect_layout

    return detect_layout(path)


def _read_single_file(
    path: Path, layout: str, domain: DomainChoice, probe: NDArray[Any] | None, product: str | Path | None, use: Use
) -> ScanFile:
    if layout == 'npz':
        from .npz import read_npz

        return read_npz(path, domain=domain, probe=probe, use=use)
    if layout == 'cxi':
        from .cxi import read_cxi

        return read_cxi(path, domain=domain, probe=probe, use=use)
    if layout == 'ptypy':
        from .ptyd import read_ptyd

        return read_ptyd(path, domain=domain, probe=probe, use=use)
    from .ptychodus import read_diffraction_product

    return read_diffraction_product(path, _find_product(path, product), domain=domain, probe=probe, use=use)


def read_probe(spec: str | Path) -> NDArray[np.complex64]:
    """A probe (modes, N, N) complex64 from 'FILE[:KEY]': NPZ (probe, probeGuess or KEY), NPY, product or CXI.

    Raises ScanError when there is no such file or key, or what it holds is no probe.
    """
    path, key = _split_key(spec)
    with bound_errors(path):
        return _read_probe(path, key)


def _read_probe(path: Path, key: str | None) -> NDArray[np.complex64]:
    kind = detect_file_kind(path)
    if kind == 'hdf5' and _is_cxi(path):
        from .cxi import read_cxi_probe

        return read_cxi_probe(path, key)
    if kind == 'hdf5':
        from .ptychodus import read_product_probe

        return read_product_probe(path, key)
    from .arrays import drop_relaxation_axis, read_npy
    from .npz import read_npz_probe

    if kind == 'tiff':
        raise ScanError(f'{path} is a TIFF file, which holds no complex probe; save it as NPY.')
    if kind == 'npy' and key is not None:
        raise ScanError(f"{path} holds a single array; leave out the key '{key}'.")
    values = read_npy(path) if kind == 'npy' else read_npz_probe(path, key)
    return check_probe(drop_relaxation_axis(values, f'The probe of {path}'))


def read_object(path: str | Path, key: str | None = None) -> ObjectFile:
    """An object to compare or to learn from: NPZ (object, objectGuess or `key`), NPY, CXI, product or its folder.

    Raises ScanError when there is no such file or key, or what it holds is no object.
    """
    path = Path(path)
    if path.is_dir():
        path = path / PRODUCT_NAME
    with bound_errors(path):
        return _read_object(path, key)


def _read_object(path: Path, key: str | None) -> ObjectFile:
    kind = detect_file_kind(path)
    if kind == 'hdf5' and _is_cxi(path):
        from .cxi import read_cxi_object

        return read_cxi_object(path, key)
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

    if kind == 'tiff':
        raise ScanError(f'{path} is a TIFF file, which holds no complex object; save it as NPY.')
    if kind == 'npz':
        return read_npz_object(path, key)
    return ObjectFile(extract_object_layer(read_npy(path), f'The array of {path}'))


def _is_cxi(path: Path) -> bool:
    from .hdf5 import is_cxi

    return is_cxi(path)


def _split_key(spec: str | Path) -> tuple[Path, str | None]:
    path = Path(spec)
    if isinstance(spec, str) and not path.exists() and ':' in spec:
        name, _, key = spec.rpartition(':')
        if Path(name).exists():
            return Path(name), key
    return path, None


def _find_scan(folder: Path) -> Path:
    """The diffraction file of a folder, or the folder itself where it holds TIFF images."""
    from .tiff import list_images

    if (folder / DIFFRACTION_NAME).exists():
        return folder / DIFFRACTION_NAME
    if not list_images(folder):
        raise ScanError(f'The folder {folder} holds no {DIFFRACTION_NAME}; pass a scan file or a Ptychodus folder.')
    return folder


def _find_product(path: Path, product: str | Path | None) -> Path:
    beside = path.with_name(PRODUCT_NAME)
    if product is None and beside == path:
        raise ScanError(f'{path} is a product, not a scan; pass the {DIFFRACTION_NAME} beside it or their folder.')
    if product is None and not beside.exists():
        raise ScanError(f'There is no {PRODUCT_NAME} beside {path}; a diffraction file needs the product of its scan.')
    return beside if product is None else Path(product)
