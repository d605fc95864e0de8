"""Runs of a study: every combination of its factors once, with names that are valid folder names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from .description import AUTO, Study

FACTORS = ('model', 'backend', 'dose', 'overlap', 'gridsize', 'train_patterns', 'passes', 'seed')


@dataclass(frozen=True)
class Run:
    """One reconstruction and what it depends on; None where a factor means nothing to this kind of model.

    `dose` in photons a pattern, `overlap` in percent, `passes` of the engine (after the network, or alone), None: as
    the reconstruction chooses by itself.
    """

    model: str
    dose: float
    overlap: float
    seed: int
    backend: str | None = None
    gridsize: int | None = None
    train_patterns: int | None = None
    passes: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Run:
        """Run that a row of study.csv describes."""
        return cls(**{name: row.get(name) for name in FACTORS})  # type: ignore[arg-type]

    def factors(self) -> dict[str, Any]:
        """All factors by name, in the order of FACTORS."""
        values = asdict(self)
        return {name: values[name] for name in FACTORS}

    @property
    def name(self) -> str:
        """Unique name of the run, made of its factors."""
        passes = AUTO if self.passes is None else str(self.passes)
        return f'{self.training}_passes-{passes}' if self.backend else f'engine_{self.scan}_passes-{passes}'

    @property
    def scan(self) -> str:
        """The name of the scan that is reconstructed."""
        return f'{format_dose(self.dose)}-photons_{self.overlap:g}-overlap_seed-{self.seed}'

    @property
    def training_scan(self) -> str:
        """The name of the scan that is trained on."""
        return self.scan if self.train_patterns is None else f'{self.scan}_{self.train_patterns}-patterns'

    @property
    def training(self) -> str:
        """The name of the training, which runs with other passes share."""
        grid = '' if self.gridsize is None else f'_gridsize-{self.gridsize}'
        return f'{self.model}-{self.backend}_{self.training_scan}{grid}'

    @property
    def shared(self) -> str:
        """The name of what several runs share: the training of a network, or nothing but the run itself."""
        if not self.backend:
            return self.name
        return self.pretraining if self.model == 'pretrained' else self.training

    @property
    def pretraining(self) -> str:
        """The name of the pretraining, which runs at any overlap share."""
        return f'{self.model}-{self.backend}_{format_dose(self.dose)}-photons_seed-{self.seed}'


def list_runs(study: Study) -> list[Run]:
    """Runs of a study, seed by seed, so that an interrupted study shows whole curves early."""
    found: dict[Run, None] = {}
    for seed in range(study.seeds):
        for model, dose, overlap in product(study.model, study.dose, study.overlap):
            found.update(dict.fromkeys(_expand_run(study, Run(model, dose, overlap, seed))))
    return list(found)


def bundle_runs(runs: Sequence[Run], size: int) -> list[list[Run]]:
    """Runs that one process does one after another: at least `size`, those of one training together."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(run.shared, []).append(run)
    bundles: list[list[Run]] = []
    for group in together.values():
        if bundles and len(bundles[-1]) < size:
            bundles[-1] += group
        else:
            bundles.append([*group])
    return bundles


def _expand_run(study: Study, run: Run) -> Iterator[Run]:
    if run.model == 'engine':
        yield from (replace(run, passes=passes) for passes in study.engine_passes)
        return
    gridsizes = study.gridsize if run.model == 'pinn' else ()
    patterns = study.train_patterns if run.model != 'pretrained' else ()
    for backend, gridsize, count in product(study.backend, gridsizes or (None,), patterns or (None,)):
        for passes in study.passes:
            number = passes if isinstance(passes, int) else None
            yield replace(run, backend=backend, gridsize=gridsize, train_patterns=count, passes=number)


def format_dose(photons: float) -> str:
    """Number of photons in short scientific notation: 1e5, 2.5e3."""
    mantissa, exponent = f'{photons:.3e}'.split('e')
    return f'{float(mantissa):g}e{int(exponent)}'
