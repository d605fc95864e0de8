"""The report of a comparison: its pictures, and report.md that shows them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import write_comparison
from ..io.curves import write_losses
from ..io.drawing import ColorScale, Row, compute_extent, draw_rows, make_figure, save_figure
from ..io.images import make_difference_rows
from ..physics.scoring.metrics import LEADING
from .agreement import STAGES, Cells, agreement
from .document import Heading, Items, Part, Picture, Table, Text, as_markdown
from .steps import Measured

Values = Mapping[str, Any]
PANEL = 3.2  # inches of the longer side of a panel
LOWEST = 1e-9  # of the logarithmic scale of relative differences
PICTURES = {
    'losses': 'Training loss by epoch (dashed: validation)',
    'network': "The objects of the networks alone, each backend's own model, registered to the first",
    'network_difference': 'What these objects differ',
    'refined': 'The same after refinement',
    'refined_difference': 'What the refined objects differ',
    'parity': 'One model in two backends: relative difference of the stitched object',
}
TRAINING = {
    'device': 'device', 'parameters': 'parameters', 'epochs': 'epochs', 'patterns_seen': 'patterns seen',
    'fit_cpu_seconds': 'CPU time of the fit, s', 'cpu_ms_per_pattern': 'of these per pattern seen, ms',
    'first_loss': 'training loss, first', 'last_loss': 'training loss, last', 'best_loss': 'training loss, best',
    'last_val_loss': 'validation loss, last', 'best_val_loss': 'validation loss, best',
    'best_epoch': 'epoch of the model',
}  # fmt: skip
PROCESS = {
    'cpu_seconds': 'whole process: CPU time, s',
    'wall_seconds': 'whole process: wall time, s',
    'peak_memory_mib': 'whole process: peak memory, MiB',
}

# pictures


def write_pictures(folder: Path, report: Values, cells: Cells, margin: int) -> dict[str, str]:
    """Write all pictures that can be made; returns their file names by kind."""
    names = report['backends']
    histories = {name: values['history'] for name, values in report['training'].items()}
    written = {'losses': write_losses(folder / 'losses.png', histories)}
    for stage, title in {'network': 'network alone', 'refined': 'after refinement'}.items():
        own = {name: cells[f'{name}_in_{name}'].stages() for name in names}
        there = {name: found[stage] for name, found in own.items() if stage in found}
        objects = _aligned(there, margin, known=report['truth'] is not None)
        if len(objects) > 1:
            rows = [(name, values.astype('complex64')) for name, values in objects.items()]
            written[stage] = write_comparison(folder / f'{stage}.png', rows, title=title)
            written[f'{stage}_difference'] = _differences(folder / f'{stage}_difference.png', objects)
    written['parity'] = _draw(folder / 'parity.png', list(_parity_rows(names, cells)))
    return {kind: path.name for kind, path in written.items()}


def _aligned(found: Mapping[str, Measured], margin: int, *, known: bool) -> dict[str, NDArray[Any]]:
    """Objects on the area of the scan, shift, ramp and global phase as in the first: the truth, if `known`, or else
    the first backend's. Those that could not be registered are left out.
    """
    first, images = 'truth', {name: one.image for name, one in found.items()}
    if found and not known:
        first, *others = found
        images = {name: agreement(found[first].object, found[name].object, margin) for name in others}
    there = {name: image for name, image in images.items() if image is not None}
    truth = next((image.truth for image in there.values()), None)
    return {} if truth is None else {first: truth, **{name: image.result for name, image in there.items()}}


def _differences(path: Path, objects: Mapping[str, NDArray[Any]]) -> Path:
    """Every object less every one before it."""
    pairs = list(itertools.combinations(objects, 2))
    labels = ('difference of the amplitude', 'difference of the phase (rad)')
    images = [(objects[a], objects[b]) for a, b in pairs]
    return _draw(path, make_difference_rows(images, labels, [f'{b} − {a}' for a, b in pairs]))


def _parity_rows(names: Sequence[str], cells: Cells) -> Iterator[Row]:
    """Relative difference of one model's object in two backends, on a logarithmic scale; a row a stage."""
    for stage in STAGES:
        found = {
            f"{trained}'s model: {other} − {trained}": _logarithm(own[stage], foreign[stage])
            for trained, other in itertools.permutations(names, 2)
            if stage in (own := cells[f'{trained}_in_{trained}'].stages())
            and stage in (foreign := cells[f'{trained}_in_{other}'].stages())
        }
        if found:
            high = max(float(values.max()) for values in found.values())
            scale = ColorScale(
                f'log₁₀ (|a − b| / max |a|), {stage}', 'magma', (float(np.log10(LOWEST)), max(high, -5.0))
            )
            yield Row(scale, [*found.values()], [*found])


def _logarithm(a: Measured, b: Measured) -> NDArray[Any]:
    one, two = a.object.object, b.object.object
    return np.asarray(np.log10(np.maximum(np.abs(one - two) / np.abs(one).max(), LOWEST)))


def _draw(path: Path, rows: Sequence[Row]) -> Path:
    height, width = compute_extent(rows[0].panels[0].shape, None, PANEL)
    figure = make_figure(len(rows[0].panels) * width + 1.0, len(rows) * height + 0.4)
    draw_rows(figure, rows)
    return save_figure(figure, path)


# report.md


def markdown(report: Values) -> str:
    """The report as Markdown; pictures and models are linked relative to its folder."""
    return as_markdown(f'{", ".join(report["backends"])} on {report["scan"]}', [*_parts(report)])


def _parts(report: Values) -> Iterator[Part]:
    truth = f'compared with {report["truth"]} (margin {report["margin"]} px)' if report['truth'] else 'no truth'
    yield Text(f'{report["patterns"]} patterns of {report["N"]} x {report["N"]} pixels; {truth}.')
    yield Items(summary(report))
    yield Heading('Training')
    yield _training(report['training'])
    yield from _pictures(report, 'losses')
    yield Heading('Reconstruction')
    yield Text("A row for each backend's model (trained) in each backend. CPU seconds are those of the stages.")
    yield _cells(report)
    yield Heading('One model in two backends')
    goal = report['parity']['goal']
    yield Text(f'Differences from the reconstruction where the model was trained; goal {goal:g}.')
    yield _parity(report['parity'])
    yield from _pictures(report, 'parity')
    yield Heading('Models trained independently')
    yield Text("Each backend's own model; the figures of the second less those of the first. Agreement: the second's "
               "object with the first's in the place of the truth.")  # fmt: skip
    yield _pairs(report['independent'])
    yield from _pictures(report, *(kind for kind in PICTURES if kind not in ('losses', 'parity')))
    yield Heading('Settings that differ from the default')
    yield Items([f'`{key}`: {value}' for key, value in report['settings'].items()])
    yield Heading('Machine')
    yield _machine(report)
    yield Heading('Notes')
    yield Items(report['notes'])


def summary(report: Values) -> list[str]:
    """The outcome in a few sentences."""
    parity, alone = report['parity'], report['independent']
    largest = max(found['object_difference'] for _, _, found in _told(parity['models']))
    lines = [
        f'One model in two backends: objects differ by {largest:.1e} of the '
        f'amplitude range at most (goal {parity["goal"]:g}): {_verdict(parity["met"])}.'
    ]
    for pair, title, found in _told(alone['pairs']):
        figures = found['figures']
        shown = [_ahead(label, figures[key]) for key, label in LEADING.items() if key in figures]
        shown = shown or [f'residual {figures["residual"]:+.3g}']
        less, verdict = ' less '.join(pair['backends'][::-1]), _verdict(found['met'])
        lines.append(f'Trained independently, {title}, {less}: {", ".join(shown)} ({verdict}).')
    return lines


def _told(rows: Sequence[Values]) -> Iterator[tuple[Values, str, Values]]:
    """Each row with each stage that it has: its title and what is told of it."""
    for row in rows:
        for stage, title in STAGES.items():
            if row[stage]:
                yield row, title, row[stage]


def _ahead(label: str, value: float) -> str:
    name, _, unit = label.partition(', ')
    return f'{name} {value:+.3g} {unit}'.rstrip()


def _verdict(met: bool | None) -> str:
    return 'no truth' if met is None else 'met' if met else 'not met'


def _training(training: Values) -> Table:
    rows = [[label, *(values[key] for values in training.values())] for key, label in TRAINING.items()]
    rows += [[label, *(values['process'][key] for values in training.values())] for key, label in PROCESS.items()]
    rows.append(['model', *(f'[{values["model"]}]({values["model"]})' for values in training.values())])
    return Table(['', *training], rows)


def _cells(report: Values) -> Table:
    told = list(_told([*report['cells'].values()]))
    stages = list(dict.fromkeys(name for _, _, found in told for name in found['stages']))
    rows = [
        [cell['trained'], cell['reconstructed'], title, found['residual'],
         *((found['image'] or {}).get(key) for key in LEADING),
         *(found['stages'].get(name, {}).get('cpu_seconds') for name in stages),
         *(found['process'][key] for key in ('cpu_seconds', 'peak_memory_mib'))]
        for cell, title, found in told
    ]  # fmt: skip
    seconds = [f'{name}, s' for name in stages]
    return Table(['trained', 'in', '', 'residual', *LEADING.values(), *seconds, 'process, s', 'peak, MiB'], rows)


def _parity(parity: Values) -> Table:
    head = ['trained', 'in', '', 'object, max difference / max amplitude', 'residual, relative difference', 'goal']
    rows = [
        [model['trained'], model['reconstructed'], title, f'{found["object_difference"]:.2e}',
         f'{found["residual_difference"]:.2e}', _verdict(found['met'])]
        for model, title, found in _told(parity['models'])
    ]  # fmt: skip
    return Table(head, rows)


def _pairs(alone: Values) -> Table:
    agreed = {'phase_psnr': 'agreement: phase, dB', 'amplitude_psnr': 'amplitude, dB', 'frc_area': 'FRC area'}
    rows = [
        [' less '.join(pair['backends'][::-1]), title, f'{found["figures"]["residual"]:+.3g}',
         *(f'{found["figures"][key]:+.3f}' if key in found['figures'] else None for key in LEADING),
         *((found['agreement'] or {}).get(key) for key in agreed), _verdict(found['met'])]
        for pair, title, found in _told(alone['pairs'])
    ]  # fmt: skip
    goal = f'PSNR within {alone["goal_db"]:g} dB'
    return Table(['', '', 'residual', *LEADING.values(), *agreed.values(), goal], rows)


def _machine(report: Values) -> Items:
    machine = report['machine']
    packages = {key: text for values in report['training'].values() for key, text in values['versions'].items()}
    return Items(
        [
            f'{machine["processor"]}, {machine["cpus"]} processors, {machine["platform"]}',
            ', '.join(f'{name} {text}' for name, text in packages.items()),
        ]
    )


def _pictures(report: Values, *kinds: str) -> Iterator[Picture]:
    for kind in kinds:
        if path := report['pictures'].get(kind):
            yield Picture(path, PICTURES[kind])
