"""Files that break the data contract, each with words that its one-sentence error must hold.

Self-contained (numpy and h5py only) so that the tests of the readers and of the command line share it.
Every entry is (name, builder, words): builder(folder) writes the file and returns its path.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Builder = Callable[[Path], Path]
Entry = tuple[str, Builder, tuple[str, ...]]

SIDE, COUNT = 16, 10


def good_arrays() -> dict[str, Any]:
    """The arrays of a small NPZ file that fulfills the contract."""
    random = np.random.default_rng(7)
    return {
        'xcoords': random.uniform(10, 40, COUNT),
        'ycoords': random.uniform(10, 40, COUNT),
        'diff3d': random.poisson(20, (COUNT, SIDE, SIDE)).astype(np.uint16),
        'probeGuess': np.ones((SIDE, SIDE), np.complex64),
        'objectGuess': np.ones((60, 60), np.complex64),
    }


def write_bytes(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def write_good(folder: Path, name: str = 'good.npz') -> Path:
    np.savez(folder / name, **good_arrays())
    return folder / name


def write_good_folder(folder: Path) -> Path:
    """A Ptychodus folder (diffraction.h5 and product.h5) that fulfills the contract."""
    random, size = np.random.default_rng(7), 1e-8
    with h5py.File(folder / 'diffraction.h5', 'w') as file:
        file['patterns'] = random.poisson(20, (COUNT, SIDE, SIDE)).astype(np.uint16)
        file['indexes'] = np.arange(COUNT)
        file['bad_pixels'] = np.zeros((SIDE, SIDE), bool)
    with h5py.File(folder / 'product.h5', 'w') as file:
        file.attrs.update({'name': 'good', 'detector_object_distance_m': 2.0, 'photon_energy_eV': 8000.0})
        file['probe'] = np.ones((1, 1, SIDE, SIDE), np.complex64)
        file['object'] = np.ones((1, 60, 60), np.complex64)
        pixel = {'pixel_height_m': size, 'pixel_width_m': size}
        file['probe'].attrs.update(pixel)
        file['object'].attrs.update({**pixel, 'center_x_m': 0.0, 'center_y_m': 0.0})
        file['probe_position_indexes'] = np.arange(COUNT)
        for axis in 'xy':
            file[f'probe_position_{axis}_m'] = random.uniform(-20, 20, COUNT) * size
    return folder


def npz(**changes: Any) -> Builder:
    """A builder of an NPZ file with some arrays replaced, or left out where the value is None."""

    def build(folder: Path) -> Path:
        arrays = {**good_arrays(), **changes}
        np.savez(folder / 'scan.npz', **{key: value for key, value in arrays.items() if value is not None})
        return folder / 'scan.npz'

    return build


def patterns(change: Callable[[np.ndarray], np.ndarray]) -> Builder:
    """A builder of an NPZ file whose patterns, as float32, went through `change`."""
    return npz(diff3d=change(good_arrays()['diff3d'].astype(np.float32)))


def hdf5(change: Callable[[h5py.File, h5py.File], None]) -> Builder:
    """A builder of a Ptychodus folder whose (diffraction, product) files went through `change`."""

    def build(folder: Path) -> Path:
        write_good_folder(folder)
        with h5py.File(folder / 'diffraction.h5', 'a') as diffraction, h5py.File(folder / 'product.h5', 'a') as product:
            change(diffraction, product)
        return folder

    return build


def replace_dataset(file: h5py.File, key: str, value: Any) -> None:
    attributes = dict(file[key].attrs)
    del file[key]
    file[key] = value
    file[key].attrs.update(attributes)


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[3, 4, 5] = value
        return array

    return change


def truncated(folder: Path) -> Path:
    content = write_good(folder).read_bytes()
    return write_bytes(folder, 'truncated.npz', content[: len(content) // 2])


def damaged(folder: Path) -> Path:
    np.savez_compressed(folder / 'good.npz', **good_arrays())
    with zipfile.ZipFile(folder / 'good.npz') as archive:
        start = archive.getinfo('diff3d.npy').header_offset
    content = bytearray((folder / 'good.npz').read_bytes())
    content[start + 200 : start + 400] = b'\0' * 200
    return write_bytes(folder, 'damaged.npz', bytes(content))


def wrong_length(folder: Path) -> Path:
    """An array whose header announces a terabyte that is not there."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {'descr': '<u2', 'fortran_order': False, 'shape': (COUNT, 10**6, 10**5)}
    )
    write_good(folder)
    with zipfile.ZipFile(folder / 'good.npz') as source, zipfile.ZipFile(folder / 'huge.npz', 'w') as target:
        for name in source.namelist():
            target.writestr(name, member.getvalue() if name == 'diff3d.npy' else source.read(name))
    return folder / 'huge.npz'


def no_members(folder: Path) -> Path:
    zipfile.ZipFile(folder / 'none.npz', 'w').close()
    return folder / 'none.npz'


def diffraction_alone(folder: Path) -> Path:
    write_good_folder(folder)
    (folder / 'product.h5').unlink()
    return folder / 'diffraction.h5'


def other_hdf5(folder: Path) -> Path:
    write_good_folder(folder)
    with h5py.File(folder / 'other.h5', 'w') as file:
        file['entry/data'] = np.zeros(3)
    return folder / 'other.h5'


def truncated_hdf5(folder: Path) -> Path:
    content = (write_good_folder(folder) / 'diffraction.h5').read_bytes()
    write_bytes(folder, 'diffraction.h5', content[: len(content) // 2])
    return folder


def single_array(folder: Path) -> Path:
    np.save(folder / 'scan.npy', np.ones((4, 16, 16)))
    return folder / 'scan.npy'


def empty_folder(folder: Path) -> Path:
    (folder / 'nothing').mkdir()
    return folder / 'nothing'


def _near_field(_: h5py.File, product: h5py.File) -> None:
    product.attrs.update({'far_field': False, 'photon_energy_eV': 0.0})


def _no_center(_: h5py.File, product: h5py.File) -> None:
    del product['object'].attrs['center_x_m']


def _no_object(_: h5py.File, product: h5py.File) -> None:
    del product['object']


def _zero_pixel(_: h5py.File, product: h5py.File) -> None:
    product['object'].attrs['pixel_width_m'] = 0.0


def _other_probe_pixel(_: h5py.File, product: h5py.File) -> None:
    product['probe'].attrs['pixel_width_m'] = 2e-8


def _opr_modes(_: h5py.File, product: h5py.File) -> None:
    replace_dataset(product, 'probe', np.ones((2, 1, SIDE, SIDE), np.complex64))


def _opr_weights(_: h5py.File, product: h5py.File) -> None:
    product['opr_weights'] = np.ones((COUNT, 2))


def _other_indexes(_: h5py.File, product: h5py.File) -> None:
    replace_dataset(product, 'probe_position_indexes', np.arange(COUNT) + 500)


def _nan_meters(_: h5py.File, product: h5py.File) -> None:
    replace_dataset(product, 'probe_position_x_m', np.full(COUNT, np.nan))


def _few_meters(_: h5py.File, product: h5py.File) -> None:
    replace_dataset(product, 'probe_position_x_m', np.zeros(COUNT - 1))


def _few_indexes(diffraction: h5py.File, _: h5py.File) -> None:
    replace_dataset(diffraction, 'indexes', np.arange(COUNT - 2))


def _no_indexes(diffraction: h5py.File, _: h5py.File) -> None:
    del diffraction['indexes']


_PICKLED = np.array([{'a': 1}], dtype=object)
_NOISE = np.random.default_rng(1).uniform(0.0, 5.0, (COUNT, SIDE, SIDE)).astype(np.float32)

BAD_SCANS: list[Entry] = [
    ('no such file', lambda f: f / 'absent.npz', ('no file', 'absent.npz')),
    ('empty file', lambda f: write_bytes(f, 'empty.npz', b''), ('is empty',)),
    ('text named npz', lambda f: write_bytes(f, 'text.npz', b'x,y,counts\n1,2,3\n'), ('neither an NPZ,',)),
    ('truncated zip', truncated, ('truncated or damaged',)),
    ('damaged member', damaged, ('damaged',)),
    ('length and shape disagree', wrong_length, ('diff3d', 'damaged')),
    ('zip without members', no_members, ('keys present: none',)),
    ('a single NPY array', single_array, ('single array',)),
    ('no xcoords', npz(xcoords=None), ("no key 'xcoords'", 'ycoords', 'probeGuess')),
    ('no diff3d', npz(diff3d=None), ("no key 'diff3d' or 'diffraction'", 'xcoords')),
    ('pickled diff3d', npz(diff3d=_PICKLED), ('diff3d', 'pickled')),
    ('pickled probe', npz(probeGuess=_PICKLED), ('probeGuess', 'pickled')),
    ('xcoords and ycoords differ in length', npz(xcoords=np.arange(4.0)), ('(4,)', '(10,)')),
    ('positions are text', npz(xcoords=np.array(['a'] * COUNT)), ('expected real numbers',)),
    ('positions are NaN', npz(xcoords=np.full(COUNT, np.nan)), ('positions', 'NaN')),
    ('positions in meters', npz(xcoords=np.arange(10) * 1e-7, ycoords=np.arange(10) * 1e-7), ('in meters',)),
    ('positions in another unit', npz(xcoords=np.arange(10) * 1e5, objectGuess=None), ('divide them by', 'step')),
    ('fewer patterns than positions', npz(diff3d=np.ones((9, 16, 16), np.uint16)), ('(9, 16, 16)', '10 positions')),
    ('legacy axis is ambiguous', npz(
        diff3d=np.ones((16, 16, 16), np.uint16), xcoords=np.arange(16.0), ycoords=np.arange(16.0),
    ), ('(16, 16, 16)', 'diff3d_axes')),
    ('flat patterns', npz(diff3d=np.ones((10, 256), np.uint16)), ('(10, 256)', '(n, N, N)')),
    ('patterns are not square', npz(diff3d=np.ones((10, 16, 20), np.uint16)), ('(10, 16, 20)', 'square')),
    ('one pattern', npz(
        diff3d=np.ones((1, 16, 16), np.uint16), xcoords=np.ones(1), ycoords=np.ones(1),
    ), ('1 pattern', 'at least 2')),
    ('N not divisible by 4', npz(diff3d=np.ones((10, 18, 18), np.uint16)), ('N = 18', 'divisible by 4')),
    ('N too small', npz(diff3d=np.ones((10, 8, 8), np.uint16)), ('N = 8', 'at least 16')),
    ('complex patterns', npz(diff3d=np.ones((10, 16, 16), np.complex64)), ('complex64', 'real')),
    ('text patterns', npz(diff3d=np.full((10, 16, 16), 'a')), ('real numbers',)),
    ('NaN everywhere', npz(diff3d=np.full((10, 16, 16), np.nan)), ('NaN', 'pattern 0')),
    ('infinity everywhere', npz(diff3d=np.full((10, 16, 16), np.inf)), ('infinity', 'pattern 0')),
    ('negative counts', patterns(with_value(-4.0)), ('negative', '-4', 'pattern 3')),
    ('negative integers', npz(diff3d=np.full((10, 16, 16), -1, np.int32)), ('negative',)),
    ('all counts are zero', npz(diff3d=np.zeros((10, 16, 16), np.uint16)), ('zero',)),
    ('ambiguous domain', npz(diff3d=_NOISE), ('counts or amplitude', 'measurement_domain')),
    ('probe of another size', npz(probeGuess=np.ones((32, 32), np.complex64)), ('32 pixels wide', '16')),
    ('probe is not square', npz(probeGuess=np.ones((16, 12), np.complex64)), ('probe', '(16, 12)')),
    ('probe is zero', npz(probeGuess=np.zeros((16, 16), np.complex64)), ('probe is zero',)),
    ('probe is NaN', npz(probeGuess=np.full((16, 16), np.nan, np.complex64)), ('probe', 'NaN')),
    ('probe with relaxation modes', npz(probeGuess=np.ones((2, 1, 16, 16), np.complex64)), ('relaxation modes', '2')),
    ('object is NaN', npz(objectGuess=np.full((60, 60), np.nan, np.complex64)), ('objectGuess', 'NaN')),
    ('object is text', npz(objectGuess=np.full((60, 60), 'a')), ('objectGuess', 'complex')),
    ('bad_pixels of another shape', npz(bad_pixels=np.zeros((8, 8), bool)), ('bad_pixels', '(8, 8)')),
    ('bad_pixels are numbers', npz(bad_pixels=np.zeros((16, 16))), ('bad_pixels', 'float64')),
    ('every pixel is bad', npz(bad_pixels=np.ones((16, 16), bool)), ('every pixel',)),
    ('scan_index of another length', npz(scan_index=np.zeros(3, int)), ('scan_index', '(3,)')),
    ('folder without a scan', empty_folder, ('diffraction.h5',)),
    ('diffraction file alone', diffraction_alone, ('product.h5', 'beside')),
    ('HDF5 of another kind', other_hdf5, ('no scan file', 'entry')),
    ('product in place of diffraction', lambda f: write_good_folder(f) / 'product.h5', ('is a product',)),
    ('truncated HDF5', truncated_hdf5, ('damaged',)),
    ('product without object', hdf5(_no_object), ("no dataset 'object'",)),
    ('product without center', hdf5(_no_center), ('center_x_m',)),
    ('object pixel of zero', hdf5(_zero_pixel), ('must be positive',)),
    ('probe with other pixels', hdf5(_other_probe_pixel), ('resample',)),
    ('near field of no energy', hdf5(_near_field), ('near-field', '0 eV')),
    ('product with relaxation modes', hdf5(_opr_modes), ('relaxation modes',)),
    ('product with weights of other modes', hdf5(_opr_weights), ('opr_weights', '(10, 2)')),
    ('product of another scan', hdf5(_other_indexes), ('No pattern has a position', '500')),
    ('NaN in meters', hdf5(_nan_meters), ('positions', 'NaN')),
    ('fewer x than y', hdf5(_few_meters), ('(9,) columns', '(10,) indexes')),
    ('fewer indexes than patterns', hdf5(_few_indexes), ('indexes', '(8,)')),
    ('no indexes', hdf5(_no_indexes), ("no dataset 'indexes'",)),
]  # fmt: skip


def _npy(name: str, array: np.ndarray) -> Builder:
    def build(folder: Path) -> Path:
        np.save(folder / name, array)
        return folder / name

    return build


BAD_PROBES: list[Entry] = [
    ('no such file', lambda f: f / 'absent.npz', ('no file', 'absent.npz')),
    ('no such key', lambda f: Path(f'{write_good(f)}:other'), ("no key 'other'", 'probeGuess')),
    ('NPZ without probe', npz(probeGuess=None), ("no key 'probe' or 'probeGuess'",)),
    ('not square', _npy('p.npy', np.ones((16, 12), complex)), ('(16, 12)',)),
    ('flat', _npy('p.npy', np.ones(16, complex)), ('(16,)',)),
    ('pickled', _npy('p.npy', _PICKLED), ('pickled',)),
    ('text', _npy('p.npy', np.full((16, 16), 'a')), ('complex numbers',)),
    ('key of an NPY', lambda f: Path(f'{_npy("p.npy", np.ones((16, 16)))(f)}:k'), ('single array', "'k'")),
    ('HDF5 without probe', lambda f: write_good_folder(f) / 'diffraction.h5', ("no dataset 'probe'",)),
]  # fmt: skip

BAD_OBJECTS: list[Entry] = [
    ('no such file', lambda f: f / 'absent.npz', ('no file', 'absent.npz')),
    ('NPZ without object', npz(objectGuess=None), ("no key 'object' or 'objectGuess'",)),
    ('volume', _npy('o.npy', np.ones((3, 20, 20), complex)), ('(3, 20, 20)', 'one layer')),
    ('NaN', _npy('o.npy', np.full((20, 20), np.nan)), ('NaN',)),
    ('diffraction file', lambda f: write_good_folder(f) / 'diffraction.h5', ("no dataset 'object'",)),
    ('origin is text', npz(origin_row=np.array('a')), ('origin_row',)),
]  # fmt: skip
