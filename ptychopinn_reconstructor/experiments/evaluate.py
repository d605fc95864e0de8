"""Image quality of several results against one truth: tables of metrics and a picture."""

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
class EvaluatedFile:
    """One result against the truth; `pixel_size` (height, width) in meters, or None."""

    path: Path
    comparison: Comparison
    pixel_size: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results by their short names, in the order in which they were given."""

    truth: Path
    results: Mapping[str, EvaluatedFile]

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
    true, evaluated = read_object(truth), {}
    for name, path in zip(shorten_paths([Path(path) for path in results]), results, strict=True):
        try:
            evaluated[name] = _evaluate_file(Path(path), true, margin, pistons)
        except InputError as error:
            raise error if len(results) == 1 else _prefix_error(error, path) from error
    return Evaluation(Path(truth), evaluated)


def _evaluate_file(path: Path, truth: ObjectFile, margin: int | None, pistons: bool) -> EvaluatedFile:
    result = read_object(path)
    comparison = evaluate(result, truth, margin=margin, pistons=pistons)
    return EvaluatedFile(path, comparison, result.pixel_size or truth.pixel_size)


def _prefix_error(error: PtychoPINNError, path: str | Path) -> PtychoPINNError:
    return type(error)(f'{path}: {error}')


def shorten_paths(paths: Sequence[Path]) -> list[str]:
    """Shortest distinct ends of the paths; a product.h5 is named by its folder."""
    parts = [_split_path(path) for path in paths]
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


def _split_path(path: Path) -> list[str]:
    whole = path.absolute()
    return list((whole.parent if whole.name == 'product.h5' else whole.with_suffix('')).parts)
