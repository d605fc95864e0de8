"""The cases "real" of `make quality`: what people bring, one fault a scan, by engine and network as they come.

324 patterns of 64 x 64 pixels, 1e5 photons, 60 % overlap, an annular probe, unless the case says otherwise. The fault
is in the file that the command line reads; the figures are against the object without it. Beside them stand the
verdict that the user is given and its ratio to counting noise. The network was pretrained for the probe that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_cases import BUDGET, Case, Figures, figures, run
from quality_reach import PRETRAINING, pretrained, shared
from quality_scans import PHOTONS, N, make_scan, write_probe_file
from scipy import fft

from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.scan import Scan

Fault = Callable[[Scan, np.random.Generator], Scan]
Counts = NDArray[np.int64]
PASSES = 12  # of the engine alone


def with_counts(scan: Scan, counts: Counts) -> Scan:
    """The scan with other patterns."""
    return replace(scan, diffraction=counts.astype(np.uint32))


def counts_of(scan: Scan) -> Counts:
    """Its patterns, to be changed."""
    return np.asarray(scan.diffraction).astype(np.int64)


def clean(scan: Scan, rng: np.random.Generator) -> Scan:
    """As it is."""
    return scan


def one_mode_given(scan: Scan, rng: np.random.Generator) -> Scan:
    """The probe's first mode alone."""
    assert scan.probe is not None
    return replace(scan, probe=scan.probe[:1])


def hot_pixels(scan: Scan, rng: np.random.Generator, count: int = 20) -> Scan:
    """So many pixels that count a few thousand in every pattern."""
    counts = counts_of(scan)
    rows, cols = np.unravel_index(rng.choice(N * N, count, replace=False), (N, N))
    counts[:, rows, cols] += rng.poisson(rng.uniform(500, 5000, count), (len(counts), count))
    return with_counts(scan, counts)


def cosmic_hits(scan: Scan, rng: np.random.Generator, count: int = 3) -> Scan:
    """So many pixels of each pattern, others in each, that count hundreds or thousands."""
    counts = counts_of(scan)
    for pattern in counts:
        pattern.reshape(-1)[rng.choice(N * N, count, replace=False)] += rng.integers(200, 5000, count)
    return with_counts(scan, counts)


def beam_stop(scan: Scan, rng: np.random.Generator) -> Scan:
    """7 x 7 pixels about the zero frequency see nothing."""
    counts = counts_of(scan)
    counts[:, N // 2 - 3 : N // 2 + 4, N // 2 - 3 : N // 2 + 4] = 0
    return with_counts(scan, counts)


def cross(scan: Scan, rng: np.random.Generator) -> Scan:
    """The gaps between four modules, 3 pixels wide."""
    counts = counts_of(scan)
    counts[:, N // 2 - 1 : N // 2 + 2, :] = counts[:, :, N // 2 - 1 : N // 2 + 2] = 0
    return with_counts(scan, counts)


def blank_frames(scan: Scan, rng: np.random.Generator, share: float = 0.05) -> Scan:
    """So many patterns without light: a closed shutter."""
    counts = counts_of(scan)
    counts[rng.choice(len(counts), round(share * len(counts)), replace=False)] = 0
    return with_counts(scan, counts)


def detector_off(scan: Scan, rng: np.random.Generator, pixels: int = 3) -> Scan:
    """The zero frequency lies so many rows below its place, as many columns left of it."""
    return with_counts(scan, np.roll(counts_of(scan), (pixels, -pixels), axis=(1, 2)))


def background(scan: Scan, rng: np.random.Generator, counts: float = 0.5) -> Scan:
    """Stray light: so many counts in every pixel."""
    return with_counts(scan, counts_of(scan) + rng.poisson(counts, scan.diffraction.shape))


def positions_off(scan: Scan, rng: np.random.Generator, pixels: float = 2.0) -> Scan:
    """Positions wrong by so much along each axis, rms."""
    return replace(scan, positions=scan.positions + rng.normal(0, pixels, scan.positions.shape))


def defocus_wrong(scan: Scan, rng: np.random.Generator) -> Scan:
    """The probe propagated by more than half of its own defocus."""
    assert scan.probe is not None
    k2 = np.add.outer(*[((np.arange(N) - N // 2) / N) ** 2] * 2)
    pupil = fft.fftshift(fft.fft2(fft.ifftshift(scan.probe, (-2, -1))), (-2, -1)) * np.exp(25j * np.pi * k2)
    wrong = fft.fftshift(fft.ifft2(fft.ifftshift(pupil, (-2, -1))), (-2, -1))
    return replace(scan, probe=wrong.astype(np.complex64))


def flickering(scan: Scan, rng: np.random.Generator) -> Scan:
    """The beam's power goes up and down by a factor of two."""
    power = np.exp(rng.uniform(-np.log(2), np.log(2), len(scan.positions)) / 2)
    return with_counts(scan, rng.poisson(counts_of(scan) * power[:, None, None]))


def two_samples(scan: Scan, rng: np.random.Generator) -> Scan:
    """Every other pattern is of another sample at the same place."""
    other = counts_of(make_scan('star', 'ring', overlap=60.0, photons=PHOTONS))
    counts = counts_of(scan)
    counts[::2] = other[::2]
    return with_counts(scan, counts)


@dataclass(frozen=True)
class Situation:
    """A scan, what is wrong with it, and the passes of the engine; None: as many as it takes by itself."""

    fault: Fault = clean
    objects: tuple[str, ...] = ('page',)
    probe: str = 'ring'
    overlap: float | None = 60.0
    patterns: int | None = None
    passes: int | None = PASSES

    def write(self, folder: Path, object: str) -> tuple[Path, Path]:
        """The file of the user, and that with the truth."""
        folder.mkdir(parents=True, exist_ok=True)
        file, truth = folder / f'{object}.npz', folder / f'{object}_truth.npz'
        scan = make_scan(object, self.probe, overlap=self.overlap, photons=PHOTONS, patterns=self.patterns)
        write_npz(truth, scan)
        write_npz(file, replace(self.fault(scan, np.random.default_rng(3)), object=None))
        return file, truth


SEVERAL = ('page', 'coins', 'star')  # where an engine that runs away does so on some objects only
SITUATIONS: Mapping[str, Situation] = {
    'clean': Situation(objects=SEVERAL),
    '3 modes, one given': Situation(one_mode_given, SEVERAL, 'three modes'),
    'a probe that fills its window': Situation(objects=SEVERAL, probe='window'),
    '20 hot pixels': Situation(hot_pixels),
    '3 cosmic hits a pattern': Situation(cosmic_hits),
    'beam stop of 7 x 7': Situation(beam_stop),
    'cross of 3 px': Situation(cross),
    '5 % of the frames blank': Situation(blank_frames),
    'detector off by 3 px': Situation(detector_off),
    'absorbing to .02': Situation(objects=('absorbing',)),
    'smooth phase of 18 rad': Situation(objects=('phase of 18 rad',)),
    '30 % overlap, 900 patterns': Situation(objects=SEVERAL, overlap=30.0, patterns=900, passes=None),
    '95 % overlap, measured probe, 1,087 patterns': Situation(
        objects=SEVERAL, probe='measured', overlap=95.0, passes=10
    ),
    'measured probe and positions, 516 patterns': Situation(objects=SEVERAL, probe='measured', overlap=None, passes=10),
    # Of these nothing is asked but that they are never called good.
    'background of 0.5 counts': Situation(background),
    'positions off by 2 px': Situation(positions_off),
    'defocus of the probe wrong': Situation(defocus_wrong),
    'beam that flickers by 2': Situation(flickering),
    'two samples in one scan': Situation(two_samples),
}


def judged(result: Figures) -> Figures:
    """The figures of a result, and what the user is told of it."""
    verdict = result['verdict']
    reasons = ' '.join(reason['code'] for reason in verdict['reasons'])
    return figures(result) | {'verdict': verdict['word'], 'noise_ratio': verdict['ratio'], 'reasons': reasons or None}


def by_engine(name: str, work: Path) -> Figures:
    """`ptychopinn refine` as it comes."""
    situation, rows = SITUATIONS[name], {}
    passes: tuple[Any, ...] = () if situation.passes is None else ('--passes', BUDGET.passes(situation.passes))
    for object in situation.objects:
        scan, truth = situation.write(work, object)
        line = ('refine', scan, *passes, '--truth', truth, '--output-dir', work / f'engine_{object}')
        rows[f'{object}, engine'] = judged(run(*line))
    return rows


def by_network(name: str, work: Path) -> Figures:
    """`ptychopinn reconstruct` as it comes, with a network pretrained for the probe that is given."""
    situation, rows = SITUATIONS[name], {}
    model = pretrained(work, write_probe_file(shared(work), situation.probe), PRETRAINING, 0) / 'model.safetensors'
    for object in situation.objects:
        scan, truth = situation.write(work, object)
        line = ('reconstruct', scan, '--model', model, '--truth', truth, '--output-dir', work / f'network_{object}')
        rows[f'{object}, network'] = judged(run(*line))
    return rows


def cases() -> dict[str, Case]:
    """All of them by name, those of the engine first: `--only 'real engine*'` takes minutes."""
    return {
        f'real {kind}, {name}': partial(of, name)
        for kind, of in (('engine', by_engine), ('network', by_network))
        for name in SITUATIONS
    }
