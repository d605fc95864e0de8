"""The cases "real" of `make quality`: what people bring, one fault a scan, by engine and network as they come.

324 patterns of 64 x 64 pixels, 1e5 photons, 60 % overlap, an annular probe, unless the case says otherwise. The fault
is in the file that the command line reads; the figures are against the object without it. Beside them stand the
verdict that the user is given and its ratio to counting noise. The network was pretrained for the probe that is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import faults
import numpy as np
from faults import Fault
from quality_cases import BUDGET, Case, Figures, figures, run
from quality_reach import PRETRAINING, pretrained, shared
from quality_scans import PHOTONS, make_scan, write_probe_file

from ptychopinn_reconstructor.io import write_npz

PASSES = 12  # of the engine alone


@dataclass(frozen=True)
class Situation:
    """A scan, what is wrong with it, and the passes of the engine; None: as many as it takes by itself.

    `options` are given to both commands; `mended`: the scan that `diagnose --fix` writes is reconstructed.
    """

    fault: Fault = faults.clean
    objects: tuple[str, ...] = ('page',)
    probe: str = 'ring'
    overlap: float | None = 60.0
    patterns: int | None = None
    passes: int | None = PASSES
    options: tuple[str, ...] = ()
    mended: bool = False

    def write(self, folder: Path, object: str) -> tuple[Path, Path]:
        """The file of the user, and that with the truth."""
        folder.mkdir(parents=True, exist_ok=True)
        file, truth = folder / f'{object}.npz', folder / f'{object}_truth.npz'
        scan = make_scan(object, self.probe, overlap=self.overlap, photons=PHOTONS, patterns=self.patterns)
        write_npz(truth, scan)
        write_npz(file, replace(self.fault(scan, np.random.default_rng(3)), object=None))
        if self.mended:
            mended = folder / f'{object}_mended.npz'
            run('diagnose', file, '--fix', mended)
            file = mended
        return file, truth


SEVERAL = ('page', 'coins', 'star')  # where an engine that runs away does so on some objects only
SITUATIONS: Mapping[str, Situation] = {
    'clean': Situation(objects=SEVERAL),
    '3 modes, one given': Situation(faults.one_mode_given, SEVERAL, 'three modes'),
    'a probe that fills its window': Situation(objects=SEVERAL, probe='window'),
    '20 hot pixels': Situation(faults.hot_pixels),
    '3 cosmic hits a pattern': Situation(faults.cosmic_hits),
    'beam stop of 7 x 7': Situation(faults.beam_stop),
    'cross of 3 px': Situation(faults.cross),
    '5 % of the frames blank': Situation(faults.blank_frames),
    'detector off by 3 px': Situation(faults.detector_off),
    'absorbing to .02': Situation(objects=('absorbing',)),
    'smooth phase of 18 rad': Situation(objects=('phase of 18 rad',)),
    '30 % overlap, 900 patterns': Situation(objects=SEVERAL, overlap=30.0, patterns=900, passes=None),
    '95 % overlap, measured probe, 1,087 patterns': Situation(
        objects=SEVERAL, probe='measured', overlap=95.0, passes=10
    ),
    'measured probe and positions, 516 patterns': Situation(objects=SEVERAL, probe='measured', overlap=None, passes=10),
    # Of these nothing is asked but that they are never called good.
    'background of 0.5 counts': Situation(faults.background),
    'positions off by 2 px': Situation(faults.positions_off),
    'defocus of the probe wrong': Situation(faults.defocus_wrong),
    'beam that flickers by 2': Situation(faults.flickering),
    'two samples in one scan': Situation(faults.two_samples),
}


def judged(result: Figures) -> Figures:
    """The figures of a result, and what the user is told of it."""
    verdict = result['verdict']
    reasons = ' '.join(reason['code'] for reason in verdict['reasons'])
    return figures(result) | {'verdict': verdict['word'], 'noise_ratio': verdict['ratio'], 'reasons': reasons or None}


def by_engine(situation: Situation, work: Path) -> Figures:
    """`ptychopinn refine` as it comes."""
    rows = {}
    passes: tuple[Any, ...] = () if situation.passes is None else ('--passes', BUDGET.passes(situation.passes))
    for object in situation.objects:
        scan, truth = situation.write(work, object)
        out = ('--truth', truth, '--output-dir', work / f'engine_{object}')
        rows[f'{object}, engine'] = judged(run('refine', scan, *passes, *situation.options, *out))
    return rows


def by_network(situation: Situation, work: Path) -> Figures:
    """`ptychopinn reconstruct` as it comes, with a network pretrained for the probe of the instrument."""
    rows = {}
    model = pretrained(work, write_probe_file(shared(work), situation.probe), PRETRAINING, 0) / 'model.safetensors'
    for object in situation.objects:
        scan, truth = situation.write(work, object)
        out = ('--model', model, '--truth', truth, '--output-dir', work / f'network_{object}')
        rows[f'{object}, network'] = judged(run('reconstruct', scan, *situation.options, *out))
    return rows


def cases_of(title: str, situations: Mapping[str, Situation]) -> dict[str, Case]:
    """All of them by name, those of the engine first: `--only 'real engine*'` takes minutes."""
    return {
        f'{title} {kind}, {name}': partial(of, situation)
        for kind, of in (('engine', by_engine), ('network', by_network))
        for name, situation in situations.items()
    }


def cases() -> dict[str, Case]:
    """The cases "real"."""
    return cases_of('real', SITUATIONS)
