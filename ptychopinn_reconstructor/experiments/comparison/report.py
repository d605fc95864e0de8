"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Values = Mapping[str, Any]
STAGES = {'network': 'network alone', 'refined': 'refined'}
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
IMAGE = {
    'phase_psnr': 'phase PSNR, dB', 'amplitude_psnr': 'amplitude PSNR, dB',
    'frc_area': 'FRC area', 'amplitude_ratio': 'amplitude ratio',
}  # fmt: skip


def markdown(report: Values) -> str:
    """The report as Markdown; pictures and models are linked relative to its folder."""
    truth = f'compared with {report["truth"]} (margin {report["margin"]} px)' if report['truth'] else 'no truth'
    parts = [
        [f'# {", ".join(report["backends"])} on {report["scan"]}'],
        [f'{report["patterns"]} patterns of {report["N"]} x {report["N"]} pixels; {truth}.'],
        [f'- {line}' for line in summary(report)],
        ['## Training'],
        _training(report['training']),
        [_picture(report, 'losses')],
        ['## Reconstruction'],
        ["A row for each backend's model (trained) in each backend. CPU seconds are those of the stages."],
        _cells(report),
        ['## One model in two backends'],
        [f'Differences from the reconstruction where the model was trained; goal {report["parity"]["goal"]:g}.'],
        _parity(report['parity']),
        [_picture(report, 'parity')],
        ['## Models trained independently'],
        ["Each backend's own model; the figures of the second less those of the first. Agreement: the second's object "
         "with the first's in the place of the truth."],
        _pairs(report['independent']),
        *([_picture(report, kind)] for kind in PICTURES if kind not in ('losses', 'parity')),
        ['## Settings that differ from the default'],
        [f'- `{key}`: {value}' for key, value in report['settings'].items()] or ['None.'],
        ['## Machine'],
        _machine(report),
        ['## Notes'],
        [f'- {note}' for note in report['notes']] or ['None.'],
    ]  # fmt: skip
    return '\n\n'.join('\n'.join(part) for part in parts if any(part)) + '\n'


def summary(report: Values) -> list[str]:
    """The outcome in a few sentences."""
    parity, alone = report['parity'], report['independent']
    found = [model[stage] for model in parity['models'] for stage in STAGES if model[stage]]
    lines = [
        f'One model in two backends: objects differ by {max(one["object_difference"] for one in found):.1e} of the '
        f'amplitude range at most (goal {parity["goal"]:g}): {_verdict(parity["met"])}.'
    ]
    for pair in alone['pairs']:
        for stage, title in STAGES.items():
            if pair[stage]:
                values, verdict = pair[stage]['figures'], _verdict(pair[stage]['met'])
                residual = f'residual {values["residual"]:+.3g}'
                shown = [_ahead(label, values[key]) for key, label in IMAGE.items() if key in values]
                second, first = pair['backends'][1], pair['backends'][0]
                lines.append(
                    f'Trained independently, {title}, {second} less {first}: '
                    f'{", ".join(shown) or residual} ({verdict}).'
                )
    return lines


def _ahead(label: str, value: float) -> str:
    name, _, unit = label.partition(', ')
    return f'{name} {value:+.3g} {unit}'.rstrip()


def _verdict(met: bool | None) -> str:
    return 'no truth' if met is None else 'met' if met else 'not met'


def _training(training: Values) -> list[str]:
    rows = [(label, *(values[key] for values in training.values())) for key, label in TRAINING.items()]
    rows += [(label, *(values['process'][key] for values in training.values())) for key, label in PROCESS.items()]
    rows.append(('model', *(f'[{values["model"]}]({values["model"]})' for values in training.values())))
    return table(['', *training], rows)


def _cells(report: Values) -> list[str]:
    stages = _stages(report)
    rows = [
        (cell['trained'], cell['reconstructed'], title, *_cell(values, stages))
        for cell in report['cells'].values()
        for stage, title in STAGES.items()
        if (values := cell[stage])
    ]
    seconds = [f'{name}, s' for name in stages]
    return table(['trained', 'in', '', 'residual', *IMAGE.values(), *seconds, 'process, s', 'peak, MiB'], rows)


def _cell(values: Values, stages: Sequence[str]) -> list[Any]:
    image, times = values['image'] or {}, values['stages']
    seconds = [times.get(name, {}).get('cpu_seconds') for name in stages]
    process = [values['process'][key] for key in ('cpu_seconds', 'peak_memory_mib')]
    return [values['residual'], *(image.get(key) for key in IMAGE), *seconds, *process]


def _stages(report: Values) -> list[str]:
    found = [cell[stage]['stages'] for cell in report['cells'].values() for stage in STAGES if cell[stage]]
    return list(dict.fromkeys(name for times in found for name in times))


def _parity(parity: Values) -> list[str]:
    rows = [
        (model['trained'], model['reconstructed'], title, f'{found["object_difference"]:.2e}',
         f'{found["residual_difference"]:.2e}', _verdict(found['met']))
        for model in parity['models'] for stage, title in STAGES.items() if (found := model[stage])
    ]  # fmt: skip
    head = ['trained', 'in', '', 'object, max difference / max amplitude', 'residual, relative difference', 'goal']
    return table(head, rows)


def _pairs(alone: Values) -> list[str]:
    rows = [
        (' less '.join(pair['backends'][::-1]), title, *_pair(found))
        for pair in alone['pairs']
        for stage, title in STAGES.items()
        if (found := pair[stage])
    ]
    agreement = ['agreement: phase, dB', 'amplitude, dB', 'FRC area']
    goal = f'PSNR within {alone["goal_db"]:g} dB'
    return table(['', '', 'residual', *IMAGE.values(), *agreement, goal], rows)


def _pair(found: Values) -> list[Any]:
    figures, between = found['figures'], found['agreement'] or {}
    shown = [f'{figures[key]:+.3f}' if key in figures else None for key in IMAGE]
    closeness = [between.get(key) for key in ('phase_psnr', 'amplitude_psnr', 'frc_area')]
    return [f'{figures["residual"]:+.3g}', *shown, *closeness, _verdict(found['met'])]


def _machine(report: Values) -> list[str]:
    machine = report['machine']
    packages = {key: text for values in report['training'].values() for key, text in values['versions'].items()}
    return [
        f'- {machine["processor"]}, {machine["cpus"]} processors, {machine["platform"]}',
        f'- {", ".join(f"{name} {text}" for name, text in packages.items())}',
    ]


def _picture(report: Values, kind: str) -> str:
    path = report['pictures'].get(kind)
    return f'![{PICTURES[kind]}]({path})\n\n{PICTURES[kind]}.' if path else ''


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table; None is a dash."""
    lines = [head, ['---'] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return [f'| {" | ".join(line)} |' for line in lines]


def _text(value: Any) -> str:
    if value is None:
        return '–'
    return f'{value:.4g}' if isinstance(value, float) else str(value).replace('|', '\\|')
