"""Patterns as TIFF images with their positions in a table of text, and objects as TIFF."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from .atomic import write_atomically
from .domain import DomainChoice, decide_domain
from .records import MENDED, ScanFile, Use, build_scan
from .scratch import LARGE, Scratch, read_large

SUFFIXES = ('.tif', '.tiff')
UNITS = {'m': 1.0, 'mm': 1e-3, 'um': 1e-6, 'µm': 1e-6, 'μm': 1e-6, 'micron': 1e-6, 'microns': 1e-6, 'nm': 1e-9}
PIXELS = {'px', 'pix', 'pixel', 'pixels'}
AXES = {'y': {'y', 'row', 'rows', 'ycoords'}, 'x': {'x', 'col', 'cols', 'column', 'columns', 'xcoords'}}


def read_tiff(
    path: str | Path,
    *,
    domain: DomainChoice = 'auto',
    probe: NDArray[Any] | None = None,
    positions: str | Path | None = None,
    pixel_size: float | None = None,
    use: Use = MENDED,
) -> ScanFile:
    """A scan from a TIFF stack, or a folder of TIFF images in the order of their numbers, and a table of positions.

    The table is `positions`, or the CSV file of the same name or alone beside the images. Its header names the columns
    and the unit ('x_um,y_um'); lengths need `pixel_size`, of an object pixel in meters.

    Raises ScanError when an image or the table cannot be read, or their numbers differ.
    """
    path = Path(path)
    table = Path(positions) if positions is not None else _find_table(path)
    places, unit = read_table(table)
    if unit is not None and pixel_size is None:
        raise ScanError(
            f'The positions of {table} are lengths, so the size of an object pixel is needed; convert the scan first '
            '(ptychopinn convert, with --pixel-size in meters).'
        )
    scale = 1.0 if unit is None or pixel_size is None else unit / pixel_size
    patterns = _read_images(path, use.scratch)
    if len(places) != len(patterns):
        raise ScanError(
            f'{path} holds {len(patterns)} patterns, but {table} {len(places)} positions; give one for each.'
        )
    chosen, why = decide_domain(patterns, domain)
    scan, mended = build_scan(
        use,
        diffraction=patterns,
        positions=places * scale,
        probe=probe,
        domain=chosen,
        pixel_size=None if pixel_size is None else (pixel_size, pixel_size),
        metadata={'name': path.stem},
    )
    return ScanFile(scan, (Notice('measurement_domain', why), *mended))


def list_images(folder: Path) -> list[Path]:
    """The TIFF images of a folder in the order of the numbers in their names."""
    images = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]  # no pipes
    return sorted(images, key=lambda file: [int(s) if s.isdigit() else s for s in re.split(r'(\d+)', file.name)])


def _find_table(path: Path) -> Path:
    beside = path.with_suffix('.csv')
    if path.is_file() and beside.exists():
        return beside
    folder = path if path.is_dir() else path.parent
    tables = sorted(file for file in folder.iterdir() if file.suffix.lower() == '.csv' and file.is_file())
    if len(tables) != 1:
        raise ScanError(
            f'{path} needs the positions of its patterns: found {len(tables)} CSV files in {folder}; '
            f'name the one of the positions {beside.name}.'
        )
    return tables[0]


def _read_images(path: Path, scratch: Path | None) -> NDArray[Any]:
    import tifffile

    files = list_images(path) if path.is_dir() else [path]
    try:
        if len(files) == 1:
            try:
                return read_large(tifffile.memmap(files[0], mode='r'))  # type: ignore[no-any-return]
            except ValueError:  # compressed, or in pieces
                return _read_pages(files[0], scratch)
        if files[0].stat().st_size * len(files) > LARGE:
            return _collect((np.asarray(tifffile.imread(file)) for file in files), len(files), path, scratch)
        images = [np.asarray(tifffile.imread(file)) for file in files]
    except (ValueError, OSError, RuntimeError, tifffile.TiffFileError) as error:
        raise ScanError(f'Cannot read the TIFF images of {path} ({error}); write them again uncompressed.') from error
    if len({image.shape for image in images}) > 1:
        shapes = sorted({image.shape for image in images})
        raise ScanError(
            f'The TIFF images of {path} differ in shape ({shapes[0]}, {shapes[1]} ...); keep only the patterns.'
        )
    return np.stack(images)


def _read_pages(file: Path, scratch: Path | None) -> NDArray[Any]:
    """The images of a compressed stack, in memory when they are few."""
    import tifffile

    with tifffile.TiffFile(file) as stack:
        series = stack.series[0]
        if series.nbytes > LARGE and len(series.pages) * math.prod(series.shape[-2:]) == series.size:
            return _collect(
                (page.asarray() for page in series.pages if page is not None), len(series.pages), file, scratch
            )
        return np.asarray(series.asarray())


def _collect(images: Iterable[NDArray[Any]], count: int, path: Path, scratch: Path | None) -> NDArray[Any]:
    """Images one by one in a scratch file."""
    kept: Any = None
    for image in images:
        if kept is None:
            kept = Scratch(image.dtype, image.shape, scratch, f'The images of {path}', expected=count)
        if (image.shape, image.dtype) != (kept.shape[1:], kept.dtype):
            raise ScanError(
                f'The TIFF images of {path} differ ({kept.dtype} {kept.shape[1:]}, {image.dtype} {image.shape} ...); '
                'keep only the patterns.'
            )
        kept.append(image[None])
    return kept  # type: ignore[no-any-return]


def read_table(path: Path) -> tuple[NDArray[np.float64], float | None]:
    """Positions (n, 2) [row, column] of a table of text and their unit in meters; None for object pixels.

    Columns are separated by commas, semicolons, tabs or spaces; lines that begin with # may hold the header.

    Raises ScanError when the header does not name the columns and their unit, or a value is no number.
    """
    try:
        lines = [line.strip().lstrip('#').strip() for line in path.read_text('utf-8-sig').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f'Cannot read the positions in {path} ({error}); write them as a CSV file.') from error
    lines = [line for line in lines if line]
    head = next((i for i, line in enumerate(lines) if _find_columns(_split_line(line)) is not None), None)
    if head is None:
        raise ScanError(
            f"{path} has no header that names the columns of positions and their unit; begin it with 'x_um,y_um', "
            "'x_m,y_m' or, for object pixels, 'x_px,y_px'."
        )
    names = _split_line(lines[head])
    columns = _find_columns(names)
    assert columns is not None
    unit = _find_unit(path, [names[columns['y']], names[columns['x']]])
    rows = [_split_line(line) for line in lines[head + 1 :]]
    try:
        values = np.array([[float(row[columns['y']]), float(row[columns['x']])] for row in rows])
    except (ValueError, IndexError) as error:
        raise ScanError(f'The positions in {path} are not all numbers ({error}); mend the table.') from error
    return values.reshape(-1, 2), unit


def _split_line(line: str) -> list[str]:
    separator = next((s for s in ',;\t' if s in line), None)
    return (
        line.split() if separator is None else [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    )


def _words(name: str) -> set[str]:
    return set(re.split(r'[^a-zµμ]+', name.lower()))


def _find_columns(names: list[str]) -> dict[str, int] | None:
    """The first columns of y and x by their names; None when one is missing."""
    columns = {
        axis: next((i for i, name in enumerate(names) if _words(name) & known), None) for axis, known in AXES.items()
    }
    return {axis: i for axis, i in columns.items() if i is not None} if None not in columns.values() else None


def _find_unit(path: Path, names: list[str]) -> float | None:
    """The unit in meters that two headers name, None for pixels."""
    words = [_words(name) for name in names]
    units = [UNITS[word] for name in words for word in name if word in UNITS]
    if len(units) == 2 and units[0] == units[1]:
        return units[0]
    if not units and all(name & (PIXELS | {'row', 'rows', 'col', 'cols', 'column', 'columns'}) for name in words):
        return None
    raise ScanError(
        f"The columns '{names[0]}' and '{names[1]}' of {path} do not name one unit; call them x_um and y_um, "
        'x_m and y_m or, for object pixels, x_px and y_px.'
    )


def write_tiff_object(path: str | Path, object: NDArray[np.complex64], pixel_size: tuple[float, float] | None) -> None:
    """Write an object (H, W) as two float32 images, amplitude and phase in radians, with its resolution where known.

    Raises OutputError when the file cannot be written.
    """
    import tifffile

    settings: dict[str, Any] = {'photometric': 'minisblack', 'metadata': None, 'software': False, 'datetime': False}
    if pixel_size is not None:
        settings |= {'resolution': (1e-2 / pixel_size[1], 1e-2 / pixel_size[0]), 'resolutionunit': 'CENTIMETER'}
    buffer = io.BytesIO()  # tifffile does not see that a disk is full
    with tifffile.TiffWriter(buffer) as file:
        for name, values in (('amplitude', np.abs(object)), ('phase (rad)', np.angle(object))):
            file.write(values.astype(np.float32), description=name, **settings)
    with write_atomically(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
