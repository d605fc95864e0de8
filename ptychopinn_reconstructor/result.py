"""Reconstruction: an object on its canvas with all that is needed to place, show and store it; how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .display.document import Picture

NOMINAL_PIXEL_SIZE = 1e-8  # meters; a product needs lengths, also of a scan that is known in pixels only
ProbeSource = Literal['given', 'scan', 'model', 'earlier_result']
Word = Literal['good', 'doubtful', 'bad']
ReasonCode = Literal[
    'misfit', 'below_noise', 'mean_pattern', 'bad_pixels', 'clipped', 'outlier_patterns', 'background', 'too_bright',
    'residual_rose', 'halves_disagree', 'shifted_patterns', 'stretched_positions', 'untrained', 'overfitted',
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The result of a reconstruction, a refinement or a product file.

    Parameters
    ----------
    object
        (H, W) complex64.
    origin
        Array coordinates [row, column] in `object` of the scan position (0, 0): index = position + origin.
    probe
        (modes, N, N) complex64 in sqrt(counts).
    positions
        (n, 2) float64, [row, column] of the patch centers in object pixels, as in the scan.
    pixel_size
        (height, width) of an object pixel in meters; None where only pixels are known.
    pixel_size_is_nominal
        Whether `pixel_size` stands in for one that is not known.
    losses
        (epoch, value) pairs that the host plots.
    layers
        A sentence on what is lost, where it was read from a file with an object of several layers.
    """

    object: NDArray[np.complex64]
    origin: tuple[float, float]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    pixel_size: tuple[float, float] | None = None
    pixel_size_is_nominal: bool = False
    name: str = 'ptychopinn'
    comments: str = ''
    losses: tuple[tuple[int, float], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    layers: str = ''

    def __repr__(self) -> str:
        height, width = self.object.shape
        size = self.known_pixel_size
        pixel = '' if size is None else f' of {size[0] * 1e9:.3g} x {size[1] * 1e9:.3g} nm'
        modes = f'{len(self.probe)} mode{"s" * (len(self.probe) > 1)}'
        found = f'{len(self.positions)} patterns, probe of {modes}'
        return f'Reconstruction({height} x {width} pixels{pixel}, {found})'

    def _repr_html_(self) -> str:
        from .display.document import Gallery, Text, format_fragment

        return format_fragment(repr(self), [Text(self.comments), Gallery(self.picture())])

    def picture(self) -> list[Picture]:
        """Pictures for a notebook: the object between the outermost positions, its phase without a ramp, the probe."""
        from .display.pictures import picture_amplitude_phase, picture_probe
        from .physics.geometry import scan_area
        from .physics.phase_ramp import PhaseRamp

        shown = self.object[scan_area(self.positions, self.origin)]
        shown = shown if shown.size else self.object
        flat = PhaseRamp.of(shown).remove_from(shown)
        return [*picture_amplitude_phase(flat, 'of the object', ', less its ramp'), picture_probe(self.probe)]

    @property
    def known_pixel_size(self) -> tuple[float, float] | None:
        """The pixel size in meters; None where it is not known, or nominal."""
        return None if self.pixel_size_is_nominal else self.pixel_size

    def with_pixel_size(self, meters: float | None = None) -> Reconstruction:
        """This result where it has a pixel size, else a copy with square pixels of `meters`, or NOMINAL_PIXEL_SIZE.

        The comments get a sentence about it, since those who read a product's lengths may not know of this package.
        """
        if self.pixel_size is not None:
            return self
        nominal, size = meters is None, meters or NOMINAL_PIXEL_SIZE
        what = 'are nominal' if nominal else 'are as given'
        sentence = f'Object pixels of {size:g} m {what}: the scan is known in pixels only.'
        comments = '\n'.join(filter(None, [self.comments, sentence]))
        return replace(self, pixel_size=(size, size), pixel_size_is_nominal=nominal, comments=comments)


@dataclass(frozen=True)
class Reason:
    """Why a result is not good: what was found, with the figure, its likely causes and what to do about them."""

    code: ReasonCode
    word: Literal['doubtful', 'bad']
    finding: str
    causes: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """Plain JSON types by the names of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def tell_verdict(fits: str, reasons: tuple[Reason, ...]) -> str:
    """How well something fits, and why not better: the first reason, or that which names the cause of a misfit."""
    if not reasons:
        return f'{fits}.'
    worst = next((reason for reason in reasons if reason.code != 'misfit'), reasons[0])
    return f'{fits}, since {worst.finding}; {worst.remedy}.'


@dataclass(frozen=True)
class Verdict:
    """Whether a result can be used, from the data alone.

    Parameters
    ----------
    word
        'good', 'doubtful' or 'bad': that of the worst reason.
    ratio, median_ratio
        Misfit of predicted and measured patterns in units of what counting noise causes: of all patterns together, and
        of the median pattern. Near 1 for an object that explains the data.
    background
        Mean counts per detector pixel that no object explains; 0 where none were found.
    reasons
        The worst first; none where the result is good.
    """

    word: Word
    ratio: float
    median_ratio: float
    background: float = 0.0
    reasons: tuple[Reason, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict with its first reason and what to do, for people."""
        return tell_verdict(f'Fits to {self.ratio:.3g} times counting noise: {self.word}', self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types by the names of the fields, as metrics.json holds them."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return values | {'reasons': [reason.to_json() for reason in self.reasons]}


@dataclass(frozen=True)
class RunInfo:
    """How a result was made.

    Parameters
    ----------
    backend, device
        Of the network by their names; 'numpy' and 'cpu' without one.
    model_type
        'pinn', 'supervised', or 'engine' without a network.
    probe_source, probe_power, power_ratio
        Where the probe is from, how its power was understood, and mean counts / sum abs(P)^2.
    patterns, n_pixels
        How many, and their side N.
    model, ensemble
        Path of the model, and those of further ones.
    initial
        Path of the result that the engine went on from; None: a network's object, or an empty one.
    outside_training
        In what the scan lies outside of what the model was trained for.
    count_gauge
        The factor on the network's amplitude that the counts ask for; None without a network.
    refine_passes, refine_prior, refine_device, wavefront
        Of the refinement: passes over the data, strength of the prior, where it ran (None: no passes), and whether the
        long-range phase was solved for.
    residual_by_pass
        Normalized residual during each pass.
    displacement_rms
        How far positions have moved, in pixels; None where they were not refined.
    background, intensity_deviation
        Mean counts of the estimated background in a pixel of a pattern, and the standard deviation of the estimated
        factors on the power of the beam; None where none was estimated.
    learned_change
        By how much a learned step has changed the object after the passes, rms in transmission; None without one.
    verdict
        Whether the result can be used; None before it is known.
    """

    backend: str
    device: str
    model_type: str
    probe_source: ProbeSource
    probe_power: str
    power_ratio: float
    patterns: int
    n_pixels: int
    model: str | None = None
    ensemble: tuple[str, ...] = ()
    initial: str | None = None
    outside_training: tuple[str, ...] = ()
    count_gauge: float | None = None
    refine_passes: int = 0
    refine_prior: float = 0.0
    refine_device: str | None = None
    wavefront: bool = False
    residual_by_pass: tuple[float, ...] = ()
    displacement_rms: float | None = None
    background: float | None = None
    intensity_deviation: float | None = None
    learned_change: float | None = None
    verdict: Verdict | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types by the names of the fields, n_pixels as `N`, as metrics.json holds them."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values['N'] = values.pop('n_pixels')
        values['verdict'] = None if self.verdict is None else self.verdict.to_json()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
