"""Results against a truth, or against each other: every figure of each, side by side, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, PtychoPINNError
from ..io import ObjectFile, read_object
from ..physics.scoring.metrics import AMPLITUDE_RANGE, PHASE_RANGE, Comparison
from ..reconstruction.evaluate import evaluate

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One result against the truth; `pixel_size` (height, width) in meters, or None."""

    path: Path
    comparison: Comparison
    pixel_size: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results by their short names, in the order in which they were given."""

    truth: Path
    results: Mapping[str, Evaluated]

    def to_json(self) -> dict[str, Any]:
        """Every figure in plain JSON types, numbers finite or None.

        - format_version (1), truth (path), amplitude_range, phase_range_rad
        - results: a list of name, path and the figures of `Comparison.to_json`
        """
        return {
            'format_version': FORMAT_VERSION,
            'truth': str(self.truth),
            'amplitude_range': AMPLITUDE_RANGE,
            'phase_range_rad': PHASE_RANGE,
            'results': [
                {'name': name, 'path': str(one.path), **one.comparison.to_json(one.pixel_size)}
                for name, one in self.results.items()
            ],
        }

    def write_picture(self, path: str | Path) -> Path:
        """Draw truth and results, what they differ, and their Fourier ring correlations; OutputError when it fails."""
        from ..io.images import ImagePair, write_evaluation

        shown = [
            ImagePair(name, one.comparison.result / one.comparison.amplitude_ratio, one.comparison.truth)
            for name, one in self.results.items()
        ]
        curves = {name: one.comparison.frc.to_json()['curve'] for name, one in self.results.items()}
        sizes = {one.pixel_size for one in self.results.values()}
        return write_evaluation(path, shown, curves, pixel_size=sizes.pop() if len(sizes) == 1 else None)


def evaluate_files(
    results: Sequence[str | Path], truth: str | Path, *, margin: int | None = None, pistons: bool = False
) -> Evaluation:
    """Compare the objects of several files with that of one; `margin` and `pistons` as in `reconstruction.evaluate`.

    Raises ScanError when a file holds no object or no positions are known, InputError when an object does not cover
    the area, or lies elsewhere; the sentence names the file where there are several.
    """
    true, found = read_object(truth), {}
    for name, path in zip(short_names([Path(path) for path in results]), results, strict=True):
        try:
            found[name] = _evaluated(Path(path), true, margin, pistons)
        except InputError as error:
            raise error if len(results) == 1 else _named(error, path) from error
    return Evaluation(Path(truth), found)


def _evaluated(path: Path, truth: ObjectFile, margin: int | None, pistons: bool) -> Evaluated:
    result = read_object(path)
    comparison = evaluate(result, truth, margin=margin, pistons=pistons)
    return Evaluated(path, comparison, result.pixel_size or truth.pixel_size)


def _named(error: PtychoPINNError, path: str | Path) -> PtychoPINNError:
    return type(error)(f'{path}: {error}')


def short_names(paths: Sequence[Path]) -> list[str]:
    """As much of the end of each path as tells it from the others; a product.h5 goes by its folder."""
    parts = [_telling_parts(path) for path in paths]
    names = []
    for number, own in enumerate(parts):
        others = parts[:number] + parts[number + 1 :]
        depth = next((d for d in range(1, len(own)) if all(own[-d:] != other[-d:] for other in others)), len(own))
        names.append('/'.join(own[-depth:]))
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[number] = f'{name} ({seen[name]})'
    return names


def _telling_parts(path: Path) -> list[str]:
    whole = path.absolute()
    return list((whole.parent if whole.name == 'product.h5' else whole.with_suffix('')).parts)
