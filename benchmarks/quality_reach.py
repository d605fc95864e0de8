"""More cases of `make quality`: trained on A, pretrained, sparse, dim, with a wrong probe, and the engine's best.

Cases share what they have in common: a pretraining lies in the folder `shared` beside those of the cases, and is made
by the first case that needs it. The best runs of the engine are cases of their own, which networks are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engine_best import best, front
from quality_cases import (
    BUDGET,
    JUDGED,
    REFERENCE,
    STAR,
    TENSORFLOW,
    A,
    B,
    Case,
    CommandError,
    Figures,
    engine,
    figures,
    folder_of,
    run,
    script,
    train,
)

SEEDS = (0, 1, 2)
TRAINING, PRETRAINING, LONG = 236, 714, 3590  # CPU seconds: 4, 12 and 60 minutes less the end of the last epoch
EPOCHS = 100_000  # more than any budget allows: the clock ends the training, and its schedule follows the clock
MOST_PASSES, TIMED_PASSES = 300, 100
STAR_PROBE = f'{REFERENCE}:probe'
OVERLAPS, DOSES = (50, 30, 0), (1e3, 1e4)
ENGINE = 'best engine'
# Without the prior; without that and our long-range phase steps; with the prior, as it follows a network.
KINDS = {'': (), 'textbook': ('--textbook',), 'prior': ('--prior',)}
# Scans on which the time is compared, which a hundred passes show, and the kinds that this does not need.
NOT_ASKED = {'A': ('prior',), 'B': ('prior',), 'star': ('textbook', 'prior')}
DEFOCUS, DEFOCUS_ERROR, POSITION_ERROR = 52.0, 0.2, 1.0  # that of A's probe, a share of it, pixels rms
RECOVERING = 40  # passes that also refine probe and positions
FIGURES = ('phase_psnr', 'amplitude_psnr', 'frc_area', 'amplitude_ratio')


# the engine


def best_engine(scan: str, work: Path) -> Figures:
    """Five schedules, 1 to 300 passes, of each kind of engine; what the best of them reach.

    Where the time is compared, every run is kept that is the first to reach its figures.
    """
    path, truth, options = scanned(work, scan)
    most = BUDGET.passes(TIMED_PASSES if scan in NOT_ASKED else MOST_PASSES)
    rows: Figures = {}
    for kind, more in KINDS.items():
        if kind in NOT_ASKED.get(scan, ()):
            continue
        title = f'{kind}: ' if kind else ''
        points = script('engine_best.py', path, truth, *options, *more, '--passes', most)
        rows |= {f'{title}best {key}': best(points, key) for key in JUDGED}
        if scan in NOT_ASKED:
            rows |= {f'{title}{point["schedule"]}, {point["passes"]} passes': point for point in front(points)}
    return rows


# scans like A, seen otherwise


def scanned(work: Path, name: str) -> tuple[Path, Path, tuple[Any, ...]]:
    """Scan file, truth and options of engine_best.py for one of the scans by its name in the table."""
    if name == 'star':
        return STAR, REFERENCE, ('--probe', STAR_PROBE, '--margin', 8)
    if name in ('A', 'B'):
        return (path := {'A': A, 'B': B}[name]), path, ()
    value, unit = name.split(' ', 1)
    if unit == 'photons':
        path = like_a(work, dose=float(value))
        return path, path, ()
    path = like_a(work, overlap=float(value.removesuffix('%')))
    return path, path, ('--pistons',) if float(value.removesuffix('%')) <= 0 else ()


def like_a(work: Path, *, overlap: float = 65.0, dose: float = 1e5) -> Path:
    """The object and probe of simulated_A on the same area, with another overlap (percent) or dose (photons)."""
    from ptychopinn_reconstructor.experiments.study import Run, Study
    from ptychopinn_reconstructor.experiments.study.scans import Sample

    path = shared(work) / f'A_{overlap:g}_percent_{dose:g}_photons.npz'
    if not path.exists():
        Sample.of(Study(scan=A)).write(path, Run('engine', dose, overlap, 0))
    return path


def shared(work: Path) -> Path:
    """The folder of what cases have in common."""
    folder = work.parent / 'shared'
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# networks


def pretrained(work: Path, probe: str, seconds: float, seed: int, backend: str = 'torch', *options: Any) -> Path:
    """The folder of a pretraining for the probe in a file, made unless another case has."""
    key = ''.join(c if c.isalnum() else '_' for c in f'{Path(probe).stem} {" ".join(map(str, options))}')
    folder = shared(work) / f'pretrained_{key}_{seconds:g}_{seed}_{backend}'
    limit = ('--max-cpu-seconds', BUDGET.seconds(seconds), '--epochs', EPOCHS)
    train(folder, '--probe', probe, *options, *limit, '--seed', seed, '--backend', backend, command='pretrain')
    return folder


def known(folder: Path) -> Figures:
    """What the model in a folder tells of its training."""
    training = run('inspect', folder / 'model.safetensors')['manifest']['training']
    return {key: training.get(key) for key in ('cpu_seconds', 'patterns_seen', 'epochs', 'parameters')}


def scored(model: Path, work: Path, name: str, passes: int | None, backend: str = 'torch') -> Figures:
    """A scan by its name, reconstructed with the model in a folder and compared; no passes: as it chooses itself."""
    scan, truth, options = scanned(work, name)
    out = work / f'{name.replace("%", "")}_{"auto" if passes is None else passes}'
    refine = () if passes is None else ('--passes', passes)
    probe = ('--probe', STAR_PROBE) if name == 'star' else ()
    line = ('reconstruct', scan, '--model', model / 'model.safetensors', '--output-dir', out, '--backend', backend)
    row = figures(run(*line, *refine, *probe))
    compared = run('evaluate', out / 'product.h5', truth, *(option for option in options if option == '--pistons'))
    (found,) = compared['results']
    return row | {key: found[key] for key in FIGURES}


def rows_of(model: Path, work: Path, names: tuple[str, ...], backend: str, *passes: int | None) -> Iterator[Any]:
    """Rows 'NAME network + PASSES'."""
    for name in names:
        for number in passes:
            yield f'{name} network + {"auto" if number is None else number}', scored(model, work, name, number, backend)


def trained_on(name: str, seed: int, work: Path, backend: str = 'torch', others: tuple[str, ...] = ()) -> Figures:
    """Four CPU-minutes of training on one scan, then that and others."""
    scan, _, _ = scanned(work, name)
    probe = ('--probe', STAR_PROBE) if name == 'star' else ()
    limit = ('--max-cpu-seconds', BUDGET.seconds(TRAINING), '--epochs', EPOCHS)
    rows = {'train': train(work / 'model', scan, *probe, *limit, '--seed', seed, '--backend', backend)}
    return rows | dict(rows_of(work / 'model', work, (name, *others), backend, 0, 2, None))


def pretrained_for(
    names: tuple[str, ...], seconds: float, seed: int, work: Path, backend: str = 'torch', photons: float | None = None
) -> Figures:
    """A network that has seen none of the scans, and was pretrained for their probe."""
    probe = STAR_PROBE if names == ('star',) else f'{A}:probeGuess'
    dose = () if photons is None else ('--photons', photons)
    model = pretrained(work, probe, seconds, seed, backend, *dose)
    return {'train': known(model)} | dict(rows_of(model, work, names, backend, 0, 2, None))


# a wrong probe, wrong positions


def wrong_scan(work: Path, *, probe: bool, positions: bool) -> Path:
    """simulated_A with the defocus of its probe 20 % too large, or positions off by 1 px rms along each axis."""
    from dataclasses import replace

    import numpy as np
    from scipy import fft

    from ptychopinn_reconstructor.io import read_scan, write_npz

    scan = read_scan(A).scan
    assert scan.probe is not None
    if probe:
        n = scan.n_pixels
        k2 = np.add.outer(*[((np.arange(n) - n // 2) / n) ** 2] * 2)
        pupil = fft.fftshift(fft.fft2(fft.ifftshift(scan.probe, (-2, -1))), (-2, -1))
        pupil = pupil * np.exp(1j * np.pi * DEFOCUS_ERROR * DEFOCUS * k2)
        wrong = fft.fftshift(fft.ifft2(fft.ifftshift(pupil, (-2, -1))), (-2, -1))
        scan = replace(scan, probe=wrong.astype(np.complex64))
    if positions:
        offsets = np.random.default_rng(0).standard_normal(scan.positions.shape) * POSITION_ERROR
        scan = replace(scan, positions=scan.positions + offsets)
    path = work / 'scan.npz'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, scan)
    return path


def wrong(what: str, work: Path) -> Figures:
    """A scan with a wrong probe or wrong positions: refined as it is, with the error refined, and the true one."""
    scan = wrong_scan(work, probe='probe' in what, positions='positions' in what)
    options = [f'--refine-{name}' for name in ('probe', 'positions') if name in what]
    rows = {
        'engine, true': engine(work / 'true', A, A, RECOVERING),
        'engine, wrong': engine(work / 'wrong', scan, A, RECOVERING),
        'engine, refined': engine(work / 'refined', scan, A, RECOVERING, *options),
    }
    model = pretrained(work, f'{A}:probeGuess', PRETRAINING, 0)
    rows['network, true'] = reconstruct_into(work / 'network_true', model, A, 10)
    rows['network, wrong'] = reconstruct_into(work / 'network_wrong', model, scan, 10)
    rows['network, refined'] = reconstruct_into(work / 'network_refined', model, scan, RECOVERING, *options)
    return rows


def reconstruct_into(out: Path, model: Path, scan: Path, passes: int, *options: Any) -> Figures:
    """Reconstruct with the model in a folder, against the object of A."""
    line = ('reconstruct', scan, '--model', model / 'model.safetensors', '--truth', A, '--passes', passes)
    return figures(run(*line, '--output-dir', out, *options))


# reliability


def reliability_worth(work: Path) -> Figures:
    """Uncertainty and claimed resolution against the true errors, of the networks trained on A and on the star."""
    rows: Figures = {}
    for name, case in (
        ('A', 'trained on A, seed 0'),
        ('B', 'trained on A, seed 0'),
        ('star', 'trained on the star, seed 0'),
    ):
        model = work.parent / folder_of(case) / 'model' / 'model.safetensors'
        if not model.exists():
            raise CommandError(f'{model} is not there; run the case {case!r} first')
        scan, truth, options = scanned(work, name)
        found = script('reliability_worth.py', scan, truth, model, *options)
        rows |= {f'{name} network + {passes}': row for passes, row in found.items()}
    return rows


def cases() -> dict[str, Case]:
    """All of them by name; a seed a case, of which the report shows the median."""
    sparse, dim = [f'{value}% overlap' for value in OVERLAPS], [f'{value:.0e} photons' for value in DOSES]
    found: dict[str, Case] = {
        f'{ENGINE}, {name}': partial(best_engine, name) for name in ('A', 'B', 'star', *sparse, *dim)
    }
    for seed in SEEDS:
        found[f'trained on A, seed {seed}'] = partial(trained_on, 'A', seed, others=('B',))
        found[f'trained on the star, seed {seed}'] = partial(trained_on, 'star', seed)
        found[f'pretrained 12 min, seed {seed}'] = partial(pretrained_for, ('A', 'B'), PRETRAINING, seed)
        found[f'star, pretrained, seed {seed}'] = partial(pretrained_for, ('star',), PRETRAINING, seed)
        for name in sparse:
            found[f'{name}, pretrained, seed {seed}'] = partial(pretrained_for, (name,), PRETRAINING, seed)
        for name, photons in zip(dim, DOSES, strict=True):
            found[f'{name}, pretrained, seed {seed}'] = partial(
                pretrained_for, (name,), PRETRAINING, seed, photons=photons
            )
    for name in (*sparse, *dim):
        found[f'{name}, trained on it'] = partial(trained_on, name, 0)
    found['pretrained 60 min'] = partial(pretrained_for, ('A', 'B'), LONG, 0)
    for what in ('probe', 'positions', 'probe and positions'):
        found[f'wrong {what}'] = partial(wrong, what)
    found['what the reliability figures are worth'] = reliability_worth
    other = 'tensorflow'
    found[f'{TENSORFLOW}trained on A'] = partial(trained_on, 'A', 0, others=('B',), backend=other)
    found[f'{TENSORFLOW}trained on the star'] = partial(trained_on, 'star', 0, backend=other)
    found[f'{TENSORFLOW}pretrained 12 min'] = partial(pretrained_for, ('A', 'B'), PRETRAINING, 0, backend=other)
    found[f'{TENSORFLOW}star, pretrained'] = partial(pretrained_for, ('star',), PRETRAINING, 0, backend=other)
    return found
