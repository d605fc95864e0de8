"""Scans and products as the HDF5 files of Ptychodus (specs/data_contracts.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ScanError
from ..events import Notice
from ..patterns import split_into_blocks
from ..result import Reconstruction
from ..scan import check_probe
from .arrays import describe_layers, drop_relaxation_axis, project_layers
from .domain import DomainChoice, decide_domain
from .far_field import EV_TIMES_METERS
from .hdf5 import decode_text, find_dataset, open_hdf5, read_number, read_pixel_size, read_whole
from .hdf5_writing import write_hdf5
from .lazy import open_patterns
from .matching import match_by_index
from .records import MENDED, ScanFile, Use, build_scan

INDEXES_KEY = 'probe_position_indexes'
COMPONENTS_KEY, WEIGHTS_KEY = 'probe_components', 'opr_weights'
UNCERTAINTY_KEY = 'uncertainty'  # in the metadata of a result
OWN_UNCERTAINTY_KEY = 'ptychopinn_object_uncertainty'  # a dataset of ours, which Ptychodus passes over
LARGEST_PTP = 1e-6  # of the weights of a probe that are all alike
FRESNEL_KEY = 'fresnel_number'  # in the metadata of a result
OWN_FRESNEL_KEY = 'ptychopinn_fresnel_number'  # an attribute of ours, beside the lengths that it follows from
NOMINAL_KEY = 'ptychopinn_pixel_size_is_nominal'  # an attribute of ours, which a product written by others lacks
NUMBERS = (
    'detector_object_distance_m', 'photon_energy_eV', 'probe_photon_count', 'exposure_time_s',
    'mass_attenuation_m2_per_kg', 'tomography_angle_deg', 'focus_object_distance_m', 'tilt_angle_deg',
)  # fmt: skip
_TEXTS = ('polarization',)
_OLD_NAMES = {
    'photon_energy_eV': 'probe_energy_eV',
    'mass_attenuation_m2_per_kg': 'mass_attenuation_m2_kg',
    'loss_values': 'costs',
}


def read_diffraction_product(
    diffraction: str | Path,
    product: str | Path,
    *,
    domain: DomainChoice = 'auto',
    probe: NDArray[Any] | None = None,
    use: Use = MENDED,
) -> ScanFile:
    """A scan from a diffraction file and a product; patterns are paired to positions by index and stay on disk.

    `domain` 'auto' means counts, which is what the host stores; `probe` takes the place of the product's. `use`:
    whether it is mended.

    Raises ScanError when a file is no such file, or a dataset is missing.
    """
    result = read_product(product)
    path = Path(diffraction)
    what = 'Ptychodus diffraction file'
    with open_hdf5(path, what, 'patterns', 'indexes') as file:
        patterns, indexes = file['patterns'], np.asarray(read_whole(file['indexes']))
        if indexes.shape != patterns.shape[:1] or indexes.dtype.kind not in 'ui':
            raise ScanError(
                f'{path} holds patterns {patterns.shape} but indexes {indexes.shape} of type {indexes.dtype}; '
                'expected one integer per pattern.'
            )
        matched = match_by_index(indexes, result.metadata[INDEXES_KEY], result.positions)
        stored, storage = open_patterns(patterns, matched.rows, use.scratch)
        bad_pixels = read_whole(find_dataset(path, file, 'bad_pixels', what)) if 'bad_pixels' in [*file] else None
    varying = () if probe is not None else _varying_notice(Path(product))
    chosen, why = decide_domain(stored, 'counts' if domain == 'auto' else domain)
    if domain == 'auto':
        why = 'Measurement domain: counts, as Ptychodus stores them.'
    layers = (Notice('object_layers', result.layers),) if result.layers else ()
    scan, mended = build_scan(
        use,
        diffraction=stored,
        positions=matched.positions,
        probe=result.probe if probe is None else probe,
        domain=chosen,
        object=result.object,
        object_origin=result.origin,
        on_object_grid=True,
        bad_pixels=bad_pixels,
        pixel_size=result.known_pixel_size,
        fresnel_number=result.metadata.get(FRESNEL_KEY),
        pattern_indexes=indexes[matched.rows],
        metadata=_copy_metadata(result),
    )
    told = (Notice('measurement_domain', why), *varying, *layers, *matched.notices, *storage, *mended)
    return ScanFile(scan, told)


def read_product(path: str | Path) -> Reconstruction:
    """A product as a Reconstruction: positions in object pixels, the object's origin from its center in meters.

    Its metadata holds the numbers of the file's attributes and the positions' indexes (`probe_position_indexes`).

    Raises ScanError when the file is no product or beyond the method.
    """
    path = Path(path)
    keys = ('object', 'probe', INDEXES_KEY, 'probe_position_x_m', 'probe_position_y_m')
    with open_hdf5(path, 'Ptychodus product', *keys) as file:
        values = project_layers(read_whole(file['object']), f'The object of {path}')
        size = read_pixel_size(path, file['object'].attrs, 'object')
        center = np.array([read_number(path, file['object'].attrs, f'center_{axis}_m') for axis in 'yx'])
        indexes, meters = _read_positions(path, file)
        origin = (np.array(values.shape) - 1) / 2 - center / size
        metadata = _read_metadata(file.attrs)
        number = _read_fresnel_number(path, file.attrs, metadata, size)
        return Reconstruction(
            object=values,
            origin=(float(origin[0]), float(origin[1])),
            probe=_read_probe(path, file, size),
            positions=meters / size,
            pixel_size=(float(size[0]), float(size[1])),
            pixel_size_is_nominal=bool(file.attrs.get(NOMINAL_KEY, False)),
            name=decode_text(file.attrs.get('name', 'Unnamed')),
            comments=decode_text(file.attrs.get('comments', '')),
            losses=_read_losses(file),
            layers=_describe_layers(path, file, metadata, float(min(size))),
            metadata={**metadata, INDEXES_KEY: indexes} | ({} if number is None else {FRESNEL_KEY: number}),
        )


def write_product(path: str | Path, result: Reconstruction) -> None:
    """Write a product that Ptychodus opens; a result known in pixels only gets nominal ones (`with_pixel_size`).

    Numbers of the metadata that a product knows (NUMBERS), `probe_position_indexes` and the error bars are kept, others
    left out.

    Raises OutputError when the file cannot be written.
    """

    result = result.with_pixel_size()
    size = result.pixel_size
    assert size is not None
    middle = (np.array(result.object.shape) - 1) / 2
    center = (middle - result.origin) * size
    indexes = result.metadata.get(INDEXES_KEY)
    with write_hdf5(path) as file:
        number = result.metadata.get(FRESNEL_KEY)
        file.attrs.update({'name': result.name, 'comments': result.comments, 'far_field': number is None})
        if number is not None:
            file.attrs[OWN_FRESNEL_KEY] = np.asarray(number)
        for key in NUMBERS:  # 0 where unknown: the host reads each of them without a default
            for name in dict.fromkeys((key, _OLD_NAMES.get(key, key))):  # Ptychodus 1.6 reads the older one
                file.attrs[name] = float(result.metadata.get(key, 0.0))
        if result.pixel_size_is_nominal:
            file.attrs[NOMINAL_KEY] = True
        file.attrs.update({key: str(result.metadata[key]) for key in _TEXTS if key in result.metadata})
        file[INDEXES_KEY] = np.arange(len(result.positions)) if indexes is None else np.asarray(indexes)
        file['probe_position_y_m'], file['probe_position_x_m'] = (result.positions * size).T
        pixel = {'pixel_height_m': size[0], 'pixel_width_m': size[1]}
        file['probe'] = _stack_components(result.probe, result.metadata.get(COMPONENTS_KEY))
        file['probe'].attrs.update(pixel)
        if COMPONENTS_KEY in result.metadata:
            file[WEIGHTS_KEY] = np.asarray(result.metadata[WEIGHTS_KEY], dtype=np.float64)
        file['object'] = result.object[None]
        file['object'].attrs.update({**pixel, 'center_y_m': center[0], 'center_x_m': center[1]})
        if UNCERTAINTY_KEY in result.metadata:
            from ..physics.scoring.error_bars import COVERAGE

            file[OWN_UNCERTAINTY_KEY] = np.asarray(result.metadata[UNCERTAINTY_KEY], dtype=np.float32)
            file[OWN_UNCERTAINTY_KEY].attrs['coverage'] = COVERAGE
        file['object_layer_spacing_m'] = np.zeros(0)
        file['loss_epochs'] = np.array([epoch for epoch, _ in result.losses], dtype=np.int64)
        file['loss_values'] = np.array([value for _, value in result.losses], dtype=np.float64)


def _stack_components(probe: NDArray[np.complex64], components: NDArray[np.complex64] | None) -> NDArray[np.complex64]:
    """A probe (modes, N, N) and components (k, N, N) of its first mode as a product has them: (1 + k, modes, N, N)."""
    if components is None:
        return probe[None]
    stack = np.zeros((1 + len(components), *probe.shape), np.complex64)
    stack[0], stack[1:, 0] = probe, components
    return stack


def write_diffraction(
    path: str | Path,
    patterns: ArrayLike,
    indexes: ArrayLike | None = None,
    bad_pixels: ArrayLike | None = None,
    *,
    detector_pixel_size: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write (n, N, N) patterns as a Ptychodus diffraction file, uncompressed so that they can be memory-mapped.

    `indexes` default to 0 ... n - 1, `bad_pixels` to none, `detector_pixel_size` (height, width in meters) to unknown.

    Raises OutputError when the file cannot be written.
    """

    values: Any = patterns if hasattr(patterns, 'shape') else np.asarray(patterns)
    with write_hdf5(path) as file:
        dataset = file.create_dataset('patterns', shape=values.shape, dtype=values.dtype)
        for block in split_into_blocks(values.shape):
            dataset[block] = values[block]
        dataset.attrs['detector_pixel_height_m'], dataset.attrs['detector_pixel_width_m'] = detector_pixel_size
        file['indexes'] = np.arange(len(values)) if indexes is None else np.asarray(indexes, dtype=np.int64)
        file['bad_pixels'] = np.zeros(values.shape[1:], bool) if bad_pixels is None else np.asarray(bad_pixels, bool)


def read_product_probe(path: str | Path, key: str | None = None) -> NDArray[np.complex64]:
    """The probe (modes, N, N) complex64 of a product file, or of its dataset `key`."""
    path = Path(path)
    with open_hdf5(path, 'Ptychodus product', key or 'probe') as file:
        if key is None or key == 'probe':
            return _read_probe(path, file, None)
        return check_probe(drop_relaxation_axis(read_whole(file[key]), f"'{key}' of {path}"))


def _read_positions(path: Path, file: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    indexes, y, x = (read_whole(file[key]) for key in (INDEXES_KEY, 'probe_position_y_m', 'probe_position_x_m'))
    if indexes.ndim != 1 or not indexes.shape == y.shape == x.shape:
        raise ScanError(
            f'{path} holds {y.shape} rows, {x.shape} columns and {indexes.shape} indexes of probe positions; '
            'expected one of each for a position.'
        )
    if indexes.dtype.kind not in 'ui' or x.dtype.kind not in 'uif' or y.dtype.kind not in 'uif':
        raise ScanError(f'The probe positions of {path} are not numbers with integer indexes; write the product again.')
    return indexes.astype(np.int64), np.stack([y, x], axis=1).astype(np.float64)


def _read_fresnel_number(
    path: Path, attributes: Mapping[str, Any], metadata: Mapping[str, Any], size: NDArray[np.float64]
) -> tuple[float, float] | None:
    """That of a near-field product, written beside it or from its lengths; None: the far field."""
    if bool(attributes.get('far_field', True)):
        return None
    if OWN_FRESNEL_KEY in attributes:
        rows, cols = np.broadcast_to(np.ravel(attributes[OWN_FRESNEL_KEY]), 2)
        return float(rows), float(cols)
    names = 'photon_energy_eV', 'detector_object_distance_m', 'focus_object_distance_m'
    energy, distance, focus = (float(metadata.get(name, 0.0)) for name in names)
    number = fresnel_number_of_product((float(size[0]), float(size[1])), energy, distance, focus)
    if number is None:
        raise ScanError(
            f'{path} is a near-field product with a photon energy of {energy:g} eV and a detector distance of '
            f'{distance:g} m; both must be positive, and the detector off the focus.'
        )
    return number


def fresnel_number_of_product(
    size: tuple[float, float], energy: float, distance: float, focus: float
) -> tuple[float, float] | None:
    """F of object pixels (height, width) from a product's photon energy in eV and distances from the sample in meters.

    `focus` is negative upstream of the sample, 0: a parallel beam. None where the lengths say nothing.
    """
    from ..physics.propagation import compute_fresnel_number

    magnification = 1.0 if focus == 0 else abs((distance - focus) / focus)
    if not (energy > 0 and distance > 0 and magnification > 0):
        return None
    return compute_fresnel_number(size, EV_TIMES_METERS / energy, distance / magnification)


def _describe_layers(path: Path, file: Any, metadata: Mapping[str, Any], pixel: float) -> str:
    shape = file['object'].shape
    spacing = float(np.sum(read_whole(file['object_layer_spacing_m']))) if 'object_layer_spacing_m' in [*file] else 0.0
    energy = float(metadata.get('photon_energy_eV', 0.0))
    wavelength = EV_TIMES_METERS / energy if energy > 0 else 0.0
    return describe_layers(
        shape[0] if len(shape) == 3 else 1, f'The object of {path}', max(spacing, 0.0), wavelength, pixel
    )


def _read_probe(path: Path, file: Any, object_size: NDArray[np.float64] | None) -> NDArray[np.complex64]:
    probe = check_probe(_mean_probe(path, file))
    attributes = file['probe'].attrs
    if object_size is not None and 'pixel_height_m' in attributes and 'pixel_width_m' in attributes:
        size = read_pixel_size(path, attributes, 'probe')
        if not np.allclose(size, object_size, rtol=0.01, atol=0):
            raise ScanError(
                f'The probe of {path} has pixels of {size[0]:.4g} x {size[1]:.4g} m but the object of '
                f'{object_size[0]:.4g} x {object_size[1]:.4g} m; resample one to the other.'
            )
    return probe


def _mean_probe(path: Path, file: Any) -> NDArray[Any]:
    """The probe (modes, N, N) of a product in the mean of its patterns, where it varies from one to the next."""
    probe = read_whole(file['probe'])
    weights = read_whole(file[WEIGHTS_KEY]) if WEIGHTS_KEY in file else file['probe'].attrs.get(WEIGHTS_KEY)
    if probe.ndim != 4 or weights is None or not np.size(weights):
        return drop_relaxation_axis(probe, f'The probe of {path}')
    weights = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if weights.ndim != 2 or weights.shape[1] != len(probe) or not np.isfinite(weights).all():
        raise ScanError(
            f'The opr_weights of {path} have shape {weights.shape}; expected finite ones of (patterns, {len(probe)}), '
            'a weight for each relaxation mode of the probe.'
        )
    if len(probe) == 1:  # as Pty-Chi writes it: a factor on the power is none of the probe's
        return np.asarray(probe[0])
    return np.asarray(np.tensordot(weights.mean(axis=0), probe, axes=1))


def _varying_notice(path: Path) -> tuple[Notice, ...]:
    with open_hdf5(path, 'Ptychodus product', 'probe') as file:
        weights = read_whole(file[WEIGHTS_KEY]) if WEIGHTS_KEY in file else file['probe'].attrs.get(WEIGHTS_KEY)
    if weights is None or not np.size(weights):
        return ()
    if np.ptp(np.atleast_2d(weights), axis=0).max() <= LARGEST_PTP * np.abs(weights).max():
        return ()
    text = (
        f'{path} has a probe that varies from pattern to pattern: its mean is read, and the engine finds again by '
        'itself how it varies where the patterns tell.'
    )
    return (Notice('varying_probe', text),)


def _read_metadata(attributes: Mapping[str, Any]) -> dict[str, str | float]:
    metadata: dict[str, str | float] = {}
    for key in NUMBERS:
        value = attributes.get(key, attributes.get(_OLD_NAMES.get(key, key)))
        if value is not None:
            metadata[key] = float(np.asarray(value).item())
    return metadata | {key: decode_text(attributes[key]) for key in _TEXTS if key in attributes}


def _copy_metadata(result: Reconstruction) -> dict[str, str | float]:
    kept = {key: value for key, value in result.metadata.items() if key not in (INDEXES_KEY, FRESNEL_KEY)}
    return {'name': result.name, 'comments': result.comments, **kept}


def _read_losses(file: Any) -> tuple[tuple[int, float], ...]:
    key = next((k for k in ('loss_values', _OLD_NAMES['loss_values']) if k in file), None)
    if key is None:
        return ()
    values = np.ravel(read_whole(file[key]))
    epochs = np.ravel(read_whole(file['loss_epochs'])) if 'loss_epochs' in file else np.arange(len(values))
    return tuple((int(epoch), float(value)) for epoch, value in zip(epochs, values, strict=False))
