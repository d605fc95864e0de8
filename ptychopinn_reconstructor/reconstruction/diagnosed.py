"""A reconstruction that follows the diagnosis of its scan: what that mends is mended, what it advises is refined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..diagnosis.diagnose import diagnose
from ..diagnosis.finding import Diagnosis, FindingCode
from ..events import Emit, Notice, ShouldStop
from ..scan import Scan

# What the engine finds out by itself where a finding is at least likely: the settings of `refinement`.
REFINED: Final[Mapping[FindingCode, tuple[str, bool | str]]] = {
    'probe': ('probe', True),
    'probe_modes': ('probe', True),
    'probe_drift': ('probe', True),
    'positions_inaccurate': ('positions', True),
    'position_scale': ('positions', True),
    'background': ('background', 'on'),
    'flicker': ('intensity', 'on'),
}


def follow_diagnosis(
    scan: Scan, probe: NDArray[np.complex64] | None, config: Config, emit: Emit, should_stop: ShouldStop
) -> tuple[Scan, NDArray[np.complex64] | None, Config, tuple[Notice, ...]]:
    """The scan as its diagnosis mends it, its probe likewise, the settings that it advises, and what was found.

    `probe` (modes, N, N) in sqrt(counts) replaces the scan's. Unless `refinement.auto` is set all stays as it is.
    """
    if not config.refinement.auto:
        return scan, probe, config, ()
    found = diagnose(scan if probe is None else scan.with_probe(probe), emit=emit, should_stop=should_stop)
    asked = dict(REFINED[one.code] for one in found.findings if one.code in REFINED and one.certainty != 'possible')
    changed = config.merged({'refinement': asked}) if asked else config
    mended = replace(found.scan, as_is=True)
    return mended, probe if mended.probe is None else mended.probe, changed, _tell(found, asked)


def _tell(found: Diagnosis, asked: Mapping[str, bool | str]) -> tuple[Notice, ...]:
    done = [f'Refined for it: {" and ".join(asked)}.'] if asked else []
    mended = {one.code: f' {"Mended" if one.mended else "Not mended"}.' for one in found.findings}
    sentences = [f'{one.finding}{mended[one.code]}' for one in found.findings]
    text = ' '.join(['Diagnosis:', *(sentences or ['nothing is wrong with the scan.']), *done])
    return (Notice('diagnosed', text),)
