"""report.html: all of a result on one page that needs no other file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..display.document import Code, Gallery, Heading, Items, Part, Picture, Table, Text, format_html
from ..environment import installed_version
from ..io.atomic import write_atomically
from ..io.curves import draw_residuals
from ..io.drawing import encode_figure
from ..io.far_field import EV_TIMES_METERS
from ..io.images import without_ramp
from ..io.probe_pictures import MOST_SHOWN, draw_caustic, draw_modes
from ..physics.caustic import trace_probe
from ..physics.geometry import scan_area
from ..reconstruction.finish import Result
from ..result import Reason, Reconstruction, Verdict
from .result_report import format_image_metrics, summarize_reliability
from .wording import say

PAGE = 'report.html'
CAPTIONS = {
    'amplitude': 'Amplitude of the object',
    'phase': 'Phase of the object',
    'residual_map': 'Misfit of each pattern at its position',
    'uncertainty': 'Uncertainty: error bars of 90 % where the object was refined, otherwise how far what the network '
    'says of a place differs between patterns',
    'learned_change': 'What a learned step has added to what the passes found',
    'coverage': 'Where light has fallen, and the scan positions',
    'split_frc': 'Fourier ring correlation of two halves of the patterns',
}
OBJECT, RELIABILITY = ('amplitude', 'phase'), ('residual_map', 'uncertainty', 'learned_change', 'coverage', 'split_frc')
PACKAGES = ('ptychopinn-reconstructor', 'numpy', 'scipy', 'torch', 'tensorflow', 'tensorflow-cpu', 'onnxruntime')


@dataclass(frozen=True)
class Origin:
    """Where a result comes from: the scan's file, the settings, and the command that makes it again."""

    scan: Path
    config: Config
    command: str


def write_page(
    path: Path, result: Result, metrics: Mapping[str, Any], files: Mapping[str, Path], origin: Origin
) -> Path:
    """Write the page of a result; `files` are its pictures by kind. Raises OutputError when it cannot be written."""
    parts = [*_make_parts(result, metrics, files, origin)]
    title = f'{origin.scan.name}: {result.report.run.model_type}, {result.report.run.patterns} patterns'
    with write_atomically(path) as temporary:
        temporary.write_text(format_html(title, parts), encoding='utf-8')
    return path


def _make_parts(
    result: Result, metrics: Mapping[str, Any], files: Mapping[str, Path], origin: Origin
) -> Iterator[Part]:
    run = result.report.run
    if run.verdict is not None:
        yield from _tell_verdict(run.verdict)
    yield Heading('Object')
    yield _show(files, OBJECT)
    yield Text(_describe_view(result.reconstruction))
    yield Heading('How far it can be trusted')
    yield _show(files, RELIABILITY)
    known = summarize_reliability(metrics['reliability'])
    yield Table(('', ''), [pair for pair in known.items() if pair[1] is not None])
    for key, title in (('image_network', 'The network alone against the truth'), ('image', 'Against the truth')):
        if key in metrics:
            yield Heading(title)
            yield Table(('', ''), [line.split('  ', 1) for line in format_image_metrics(metrics[key])])
    yield Heading('Probe')
    yield from _show_probe(result.reconstruction)
    if run.residual_by_pass:
        yield Heading('Refinement')
        curve = encode_figure(draw_residuals(run.residual_by_pass), 'svg')
        yield Gallery([Picture.embed(curve, 'svg', 'Residual during each pass over the data')])
    yield Heading('Notes')
    yield Items([say(text) for text in metrics['notes']])
    yield from _describe_origin(result, metrics, origin)


def _tell_verdict(verdict: Verdict) -> Iterator[Part]:
    yield Text(f'Fits to {verdict.ratio:.3g} times counting noise: {verdict.word}.', verdict.word)
    if verdict.reasons:
        yield Items([_tell_reason(one) for one in verdict.reasons])


def _tell_reason(reason: Reason) -> str:
    finding = reason.finding[:1].upper() + reason.finding[1:]
    return f'{finding}. Likely: {reason.causes}. To do: {say(reason.remedy)}.'


def _show(files: Mapping[str, Path], kinds: tuple[str, ...]) -> Gallery:
    """The pictures among `files` that are there."""
    there = [kind for kind in kinds if kind in files]
    return Gallery([Picture.embed(_reduce_colors(files[kind]), 'png', CAPTIONS[kind]) for kind in there])


def _reduce_colors(path: Path) -> bytes:
    """A picture in 256 colors of its own, a third of the bytes: its color scale has no more."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(path).convert('RGB').quantize(256).save(buffer, format='png')
    return buffer.getvalue()


def _describe_view(result: Reconstruction) -> str:
    """What the pictures of the object show of it."""
    shown = result.object[scan_area(result.positions, result.origin)]
    words = [f'All maps show the same {shown.shape[0]} x {shown.shape[1]} pixels, between the outermost positions.']
    _, ramp = without_ramp(shown)
    if ramp is not None:
        rows, columns = ramp.across(shown.shape)
        words.append(
            f'A phase ramp, {rows:.2f} rad from top to bottom and {columns:.2f} rad from left to right, was taken '
            'out of the picture; the product has it. No pattern tells such a ramp from a tilt of the detector.'
        )
    return ' '.join(words)


def _show_probe(result: Reconstruction) -> Iterator[Part]:
    modes = encode_figure(draw_modes(result.probe, pixel_size=result.known_pixel_size), 'png')
    which = f', the first {MOST_SHOWN} of {len(result.probe)} modes' if len(result.probe) > MOST_SHOWN else ''
    caption = f'Probe{which}: brightness is the amplitude, color the phase'
    yield Gallery([Picture.embed(modes, 'png', caption), _show_caustic(result)])


def _show_caustic(result: Reconstruction) -> Picture:
    found, n_pixels = trace_probe(result.probe), result.probe.shape[-1]
    along: NDArray[np.float64] = found.defocus
    focus, units, width = found.focus, ('wavelength x distance, square pixels', 'pixels'), float(n_pixels)
    energy, size = result.metadata.get('photon_energy_eV'), result.known_pixel_size
    if energy and size is not None:
        micrometers = size[0] * size[1] / (EV_TIMES_METERS / float(energy)) * 1e6
        along, focus, units = along * micrometers, focus * micrometers, ('µm', 'µm')
        width = n_pixels * size[1] * 1e6
    figure = draw_caustic(along, found.across, focus, units=units, width=width)
    return Picture.embed(encode_figure(figure, 'png'), 'png', 'Probe along the beam: intensity, summed over the rows')


def _describe_origin(result: Result, metrics: Mapping[str, Any], origin: Origin) -> Iterator[Part]:
    run = result.report.run
    yield Heading('Settings that differ from the defaults')
    yield Table(('setting', 'value', 'default'), list_changes(origin.config))
    yield Heading('How it was made')
    versions = ', '.join(f'{name} {found}' for name in PACKAGES if (found := installed_version(name)) is not None)
    facts = {
        'scan': str(origin.scan),
        'model': ', '.join(filter(None, [run.model, *run.ensemble])) or None,
        'backend, device': f'{run.backend}, {run.device}',
        'refinement': f'{run.refine_passes} passes' + (f' on {run.refine_device}' if run.refine_device else ''),
        'probe': f'from the {run.probe_source}, power {run.probe_power}',
        'CPU time': f'{metrics["cpu_seconds"]:.1f} s',
        'peak memory': f'{metrics["peak_memory_mib"]:.0f} MiB',
        'versions': versions,
    }
    yield Table(('', ''), [pair for pair in facts.items() if pair[1] is not None])
    yield Code(origin.command)


def list_changes(config: Config) -> list[tuple[str, str, str]]:
    """Name, value and default of the settings that are not at their default."""
    default, given = Config().to_json(), config.to_json()
    return [
        (f'{section}.{name}', str(value), str(default[section][name]))
        for section, fields in given.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if value != default[section][name]
    ]
