"""The report of a comparison: its pictures, and report.md that shows them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..display.document import Heading, Items, Part, Picture, Table, Text, format_markdown
from ..io import write_comparison
from ..io.curves import write_losses
from ..io.drawing import ColorScale, Row, compute_extent, draw_rows, make_figure, save_figure
from ..io.images import make_difference_rows
from ..physics.scoring.metrics import LEADING
from .agreement import STAGES, Cells, register_objects
from .steps import ScoredResult

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
    """File names, by kind, of the pictures written: losses, objects, their differences, parity of the backends."""
    names = report['backends']
    histories = {name: values['history'] for name, values in report['training'].items()}
    written = {'losses': write_losses(folder / 'losses.png', histories)}
    for stage, title in {'network': 'network alone', 'refined': 'after refinement'}.items():
        own = {name: cells[f'{name}_in_{name}'].stages() for name in names}
        there = {name: values[stage] for name, values in own.items() if stage in values}
        objects = _align_objects(there, margin, known=report['truth'] is not None)
        if len(objects) > 1:
            rows = [(name, values.astype('complex64')) for name, values in objects.items()]
            written[stage] = write_comparison(folder / f'{stage}.png', rows, title=title)
            written[f'{stage}_difference'] = _draw_differences(folder / f'{stage}_difference.png', objects)
    written['parity'] = _save_rows(folder / 'parity.png', list(_make_parity_rows(names, cells)))
    return {kind: path.name for kind, path in written.items()}


def _align_objects(values: Mapping[str, ScoredResult], margin: int, *, known: bool) -> dict[str, NDArray[Any]]:
    """Objects on the area of the scan, shift, ramp and global phase as in the first: the truth, if `known`, or else
    the first backend's. Those that could not be registered are left out.
    """
    first, images = 'truth', {name: one.image for name, one in values.items()}
    if values and not known:
        first, *others = values
        images = {name: register_objects(values[first].object, values[name].object, margin) for name in others}
    there = {name: image for name, image in images.items() if image is not None}
    truth = next((image.truth for image in there.values()), None)
    return {} if truth is None else {first: truth, **{name: image.result for name, image in there.items()}}


def _draw_differences(path: Path, objects: Mapping[str, NDArray[Any]]) -> Path:
    """Path of the picture of all pairwise differences of objects (H, W)."""
    pairs = list(itertools.combinations(objects, 2))
    labels = ('difference of the amplitude', 'difference of the phase (rad)')
    images = [(objects[a], objects[b]) for a, b in pairs]
    return _save_rows(path, make_difference_rows(images, labels, [f'{b} − {a}' for a, b in pairs]))


def _make_parity_rows(names: Sequence[str], cells: Cells) -> Iterator[Row]:
    """Rows of maps, one a stage: log10 of the relative difference of one model's object in two backends."""
    for stage in STAGES:
        differences = {
            f"{trained}'s model: {other} − {trained}": _log_difference(own[stage], foreign[stage])
            for trained, other in itertools.permutations(names, 2)
            if stage in (own := cells[f'{trained}_in_{trained}'].stages())
            and stage in (foreign := cells[f'{trained}_in_{other}'].stages())
        }
        if differences:
            high = max(float(difference.max()) for difference in differences.values())
            scale = ColorScale(
                f'log₁₀ (|a − b| / max |a|), {stage}', 'magma', (float(np.log10(LOWEST)), max(high, -5.0))
            )
            yield Row(scale, [*differences.values()], [*differences])


def _log_difference(a: ScoredResult, b: ScoredResult) -> NDArray[Any]:
    one, two = a.object.object, b.object.object
    return np.asarray(np.log10(np.maximum(np.abs(one - two) / np.abs(one).max(), LOWEST)))


def _save_rows(path: Path, rows: Sequence[Row]) -> Path:
    height, width = compute_extent(rows[0].panels[0].shape, None, PANEL)
    figure = make_figure(len(rows[0].panels) * width + 1.0, len(rows) * height + 0.4)
    draw_rows(figure, rows)
    return save_figure(figure, path)


# report.md


def format_report(report: Values) -> str:
    """Markdown text of a report; links to pictures and models are relative to its folder."""
    return format_markdown(f'{", ".join(report["backends"])} on {report["scan"]}', [*_make_parts(report)])


def _make_parts(report: Values) -> Iterator[Part]:
    truth = f'compared with {report["truth"]} (margin {report["margin"]} px)' if report['truth'] else 'no truth'
    yield Text(f'{report["patterns"]} patterns of {report["N"]} x {report["N"]} pixels; {truth}.')
    yield Items(summarize_report(report))
    yield Heading('Training')
    yield _tabulate_training(report['training'])
    yield from _select_pictures(report, 'losses')
    yield Heading('Reconstruction')
    yield Text("A row for each backend's model (trained) in each backend. CPU seconds are those of the stages.")
    yield _tabulate_cells(report)
    yield Heading('One model in two backends')
    goal = report['parity']['goal']
    yield Text(f'Differences from the reconstruction where the model was trained; goal {goal:g}.')
    yield _tabulate_parity(report['parity'])
    yield from _select_pictures(report, 'parity')
    yield Heading('Models trained independently')
    yield Text("Each backend's own model; the figures of the second less those of the first. Agreement: the second's "
               "object with the first's in the place of the truth.")  # fmt: skip
    yield _tabulate_pairs(report['independent'])
    yield from _select_pictures(report, *(kind for kind in PICTURES if kind not in ('losses', 'parity')))
    yield Heading('Settings that differ from the default')
    yield Items([f'`{key}`: {value}' for key, value in report['settings'].items()])
    yield Heading('Machine')
    yield _list_machine(report)
    yield Heading('Notes')
    yield Items(report['notes'])


def summarize_report(report: Values) -> list[str]:
    """Sentences that state the largest differences and whether the goals are met."""
    parity, alone = report['parity'], report['independent']
    largest = max(values['object_difference'] for _, _, values in _iterate_stages(parity['models']))
    lines = [
        f'One model in two backends: objects differ by {largest:.1e} of the '
        f'amplitude range at most (goal {parity["goal"]:g}): {_format_goal(parity["met"])}.'
    ]
    for pair, title, values in _iterate_stages(alone['pairs']):
        figures = values['figures']
        shown = [_format_difference(label, figures[key]) for key, label in LEADING.items() if key in figures]
        shown = shown or [f'residual {figures["residual"]:+.3g}']
        less, verdict = ' less '.join(pair['backends'][::-1]), _format_goal(values['met'])
        lines.append(f'Trained independently, {title}, {less}: {", ".join(shown)} ({verdict}).')
    return lines


def _iterate_stages(rows: Sequence[Values]) -> Iterator[tuple[Values, str, Values]]:
    """Triples of row, title of a stage and the values of that stage, for every stage that a row has."""
    for row in rows:
        for stage, title in STAGES.items():
            if row[stage]:
                yield row, title, row[stage]


def _format_difference(label: str, value: float) -> str:
    name, _, unit = label.partition(', ')
    return f'{name} {value:+.3g} {unit}'.rstrip()


def _format_goal(met: bool | None) -> str:
    return 'no truth' if met is None else 'met' if met else 'not met'


def _tabulate_training(training: Values) -> Table:
    rows = [[label, *(values[key] for values in training.values())] for key, label in TRAINING.items()]
    rows += [[label, *(values['process'][key] for values in training.values())] for key, label in PROCESS.items()]
    rows.append(['model', *(f'[{values["model"]}]({values["model"]})' for values in training.values())])
    return Table(['', *training], rows)


def _tabulate_cells(report: Values) -> Table:
    stage_rows = list(_iterate_stages([*report['cells'].values()]))
    stages = list(dict.fromkeys(name for _, _, values in stage_rows for name in values['stages']))
    rows = [
        [cell['trained'], cell['reconstructed'], title, values['residual'],
         *((values['image'] or {}).get(key) for key in LEADING),
         *(values['stages'].get(name, {}).get('cpu_seconds') for name in stages),
         *(values['process'][key] for key in ('cpu_seconds', 'peak_memory_mib'))]
        for cell, title, values in stage_rows
    ]  # fmt: skip
    seconds = [f'{name}, s' for name in stages]
    return Table(['trained', 'in', '', 'residual', *LEADING.values(), *seconds, 'process, s', 'peak, MiB'], rows)


def _tabulate_parity(parity: Values) -> Table:
    head = ['trained', 'in', '', 'object, max difference / max amplitude', 'residual, relative difference', 'goal']
    rows = [
        [model['trained'], model['reconstructed'], title, f'{values["object_difference"]:.2e}',
         f'{values["residual_difference"]:.2e}', _format_goal(values['met'])]
        for model, title, values in _iterate_stages(parity['models'])
    ]  # fmt: skip
    return Table(head, rows)


def _tabulate_pairs(alone: Values) -> Table:
    agreed = {'phase_psnr': 'agreement: phase, dB', 'amplitude_psnr': 'amplitude, dB', 'frc_area': 'FRC area'}
    rows = [
        [' less '.join(pair['backends'][::-1]), title, f'{values["figures"]["residual"]:+.3g}',
         *(f'{values["figures"][key]:+.3f}' if key in values['figures'] else None for key in LEADING),
         *((values['agreement'] or {}).get(key) for key in agreed), _format_goal(values['met'])]
        for pair, title, values in _iterate_stages(alone['pairs'])
    ]  # fmt: skip
    goal = f'PSNR within {alone["goal_db"]:g} dB'
    return Table(['', '', 'residual', *LEADING.values(), *agreed.values(), goal], rows)


def _list_machine(report: Values) -> Items:
    machine = report['machine']
    packages = {key: text for values in report['training'].values() for key, text in values['versions'].items()}
    return Items(
        [
            f'{machine["processor"]}, {machine["cpus"]} processors, {machine["platform"]}',
            ', '.join(f'{name} {text}' for name, text in packages.items()),
        ]
    )


def _select_pictures(report: Values, *kinds: str) -> Iterator[Picture]:
    for kind in kinds:
        if path := report['pictures'].get(kind):
            yield Picture(path, PICTURES[kind])
