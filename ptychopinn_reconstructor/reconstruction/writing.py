"""The files a job leaves beside its model: config.yaml, metrics.json, probe.npz, product, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..io.atomic import make_folder, write_atomically
from ..io.plain_json import write_json
from ..physics.geometry import scan_area
from ..result import Reconstruction

if TYPE_CHECKING:
    from .diagnostics import Reliability

Pictures = Literal['full', 'plain', 'none']
PICTURES: tuple[Pictures, ...] = get_args(Pictures)
OBJECT_PICTURES = ('amplitude', 'phase')
RELIABILITY_PICTURES = ('residual_map', 'uncertainty', 'learned_change', 'coverage', 'split_frc')


def write_config(path: Path, config: Config) -> None:
    """The configuration as YAML, every field with its value."""
    import yaml

    with write_atomically(path) as temporary:
        temporary.write_text(yaml.safe_dump(config.to_json(), sort_keys=False))


def write_probe(path: Path, probe: NDArray[np.complex64], **others: NDArray[Any]) -> None:
    """A probe (modes, N, N) in sqrt(counts) as NPZ, key `probe`, and other arrays that belong to it."""
    with write_atomically(path) as temporary:
        np.savez(temporary, allow_pickle=False, probe=probe, **others)


def write_result(
    folder: str | Path,
    result: Reconstruction,
    metrics: Mapping[str, Any],
    *,
    pixel_size: float | None = None,
    reliability: Reliability | None = None,
    pictures: Pictures = 'full',
) -> dict[str, Path]:
    """Write product.h5, the pictures and metrics.json into `folder`; returns their paths by kind.

    `pixel_size` in meters is that of an object known in pixels only. The pictures are those of the object's amplitude
    and phase, and with `reliability` those of `write_reliability`; plain: amplitude and phase in gray, without bars.
    Those of an earlier result that this one does not have are removed.
    """
    from ..io.images import write_amplitude_phase, write_gray
    from ..io.ptychodus import write_product

    folder = make_folder(folder)
    product = folder / 'product.h5'
    write_product(product, result.with_pixel_size(pixel_size))
    area = scan_area(result.positions, result.origin)
    shown: dict[str, Path] = {}
    if pictures == 'full':
        paths = write_amplitude_phase(folder, result.object, pixel_size=result.pixel_size, area=area)
        shown = dict(zip(OBJECT_PICTURES, paths, strict=True))
    elif pictures == 'plain':
        shown = dict(zip(OBJECT_PICTURES, write_gray(folder, result.object, area=area), strict=True))
    if reliability is not None and pictures == 'full':
        shown |= write_reliability(folder, reliability)
    for name in {*OBJECT_PICTURES, *RELIABILITY_PICTURES} - set(shown):
        prefix = 'reconstructed_' if name in OBJECT_PICTURES else ''
        (folder / f'{prefix}{name}.png').unlink(missing_ok=True)
    write_json(folder / 'metrics.json', metrics)
    return {'product': product, **shown, 'metrics': folder / 'metrics.json'}


def write_reliability(folder: Path, reliability: Reliability) -> dict[str, Path]:
    """Write the pictures of `reliability` as PNG by their names; their paths by kind."""
    from ..io.drawing import save_figure
    from .diagnostic_pictures import pictures

    figures = pictures(reliability)
    return {name: save_figure(figure, folder / f'{name}.png') for name, figure in figures.items()}
