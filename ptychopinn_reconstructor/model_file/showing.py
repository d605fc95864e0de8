"""A model as a notebook shows it, and what is said of it to people."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..display.document import Gallery, Part, Picture, Table, Text, format_fragment
from ..display.pictures import picture_amplitude_phase, picture_probe, picture_values
from .manifest import Manifest
from .self_test import SelfTest


def hide_folders(values: Any) -> Any:
    """The values with the names of files in place of absolute paths: a model is passed on, its maker's folders not."""
    if isinstance(values, dict):
        return {key: value if key == 'path' else hide_folders(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [hide_folders(value) for value in values]
    is_path = isinstance(values, str) and (PurePosixPath(values).is_absolute() or PureWindowsPath(values).is_absolute())
    return PureWindowsPath(values).name if is_path else values


def describe_model(manifest: Manifest) -> str:
    """One line: the network, what it was trained on, and for what patterns."""
    architecture, training = manifest.architecture, manifest.training
    size = f'{architecture.N} x {architecture.N} pixels'
    trained = f'{training.epochs} epochs on {", ".join(hide_folders(training.scans)) or "nothing"}'
    return f'Model({architecture.name}, {architecture.parameters:,} parameters, patterns of {size}, {trained})'


def format_model(manifest: Manifest, probe: NDArray[np.complex64], test: SelfTest) -> str:
    """HTML of what the model is for, its probe, its losses, and what it has made of a recorded pattern."""
    card: list[Part] = [Text(manifest.card)] if manifest.card else []
    recorded = np.log10(1 + test.counts[0])
    pictures = [
        picture_probe(probe),
        picture_values(recorded, 'Recorded pattern, logarithm of the counts'),
        *picture_amplitude_phase(test.patches[0], "of the network's patch for it"),
    ]
    if len(manifest.training.losses) > 1:
        pictures.append(_draw_losses(manifest))
    facts = Table(('', ''), [*list_facts(manifest).items()])
    return format_fragment(describe_model(manifest), [*card, Gallery(pictures), facts])


def list_facts(manifest: Manifest) -> dict[str, str]:
    """Where the weights are from, and for what scans they are."""
    training, known = manifest.training, manifest.trained_for
    ranges = {
        'counts of a pattern': known.counts,
        'power of the probe, counts': known.probe_power,
        'overlap of neighbors': known.overlap,
    }
    return {
        'made': f'{manifest.created} with {manifest.backend} on {training.device}',
        'trained': f'{manifest.config.model.model_type}, {training.patterns_seen} patterns seen',
        **{name: ' to '.join(dict.fromkeys(f'{end:.3g}' for end in span)) for name, span in ranges.items() if span},
        'self-test': f'replays to {manifest.self_test.tolerance:g}',
    }


def _draw_losses(manifest: Manifest) -> Picture:
    from ..io.curves import draw_losses
    from ..io.drawing import encode_figure

    losses = [(epoch, loss, None) for epoch, loss in manifest.training.losses]
    figure = draw_losses({'loss': losses})
    return Picture.embed(encode_figure(figure, 'svg'), 'svg', 'Loss by epoch')
