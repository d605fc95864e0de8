"""What all patterns of a live scan have in common, as its first ones tell it: mask, unit, shift, probe in counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend
from ..config import Config
from ..events import Notice
from ..model_file.opening import Model
from ..model_file.probes import choose_probe
from ..physics.geometry import Layout
from ..physics.inspection.findings import Findings
from ..physics.inspection.stored import check_values
from ..physics.prepare import PreparedScan
from ..physics.stitching.stitch import EPSILON_WEIGHT, probe_weight, shifted_weight
from ..reconstruction.network_object import stitched_size
from ..reconstruction.notices import scan_notices
from ..reconstruction.reconstruct import prepare_for_model
from ..reconstruction.usable_scan import make_usable_for_network
from ..scan import Scan

LOOKS = (2, 8, 32)  # patterns after which all is looked at anew, and what was placed before is placed again
ENOUGH = 32  # patterns for what only several show together: hot pixels, a beam off the center, a factor of the counts
NEVER_COUNTED = 2**31 - 2  # more counts than that are a code for no data


@dataclass(frozen=True, eq=False)
class Setting:
    """The first patterns of a scan as a model sees them, `sample`, and by how much each pattern is rolled, `shift`.

    `size` is the side n of what is stitched of a patch.
    """

    sample: PreparedScan
    shift: tuple[int, int]
    size: int
    notices: tuple[Notice, ...]

    @classmethod
    def look(cls, fields: Mapping[str, Any], model: Model, config: Config, backend: Backend) -> Setting:
        """Look at first patterns, the fields of a Scan; raises ScanError where they are none."""
        scan, shift, found = _mend(dict(fields), as_is=config.data.as_is)
        scan, photons = make_usable_for_network(scan, config)  # mended already, which `as_is` says
        probe, source, chosen = choose_probe(scan, model, None)
        sample = prepare_for_model(scan, probe, model.config, config, backend.stride, own=source == 'model')
        notices = (*found, *photons, *chosen, *scan_notices(sample))
        return cls(sample, shift, stitched_size(config, sample), notices)

    @property
    def probe(self) -> NDArray[np.complex64]:
        """(modes, N, N) in sqrt(counts)."""
        return self.sample.probe

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """w of an unshifted patch, (n, n)."""
        return probe_weight(self.probe, self.size)

    @property
    def epsilon(self) -> float:
        """Counts of probe power that are faint."""
        return EPSILON_WEIGHT * float(self.weight.max())

    def shifted_weight(self, fractions: NDArray[np.float64]) -> NDArray[np.float32]:
        """w of patches shifted by fractions (k, 2): (k, n, n)."""
        return shifted_weight(self.probe, fractions, self.size)

    def roll(self, patterns: NDArray[Any]) -> NDArray[Any]:
        """Patterns (k, N, N) as they arrive with their zero frequency in the middle."""
        return np.roll(patterns, self.shift, axis=(1, 2)) if any(self.shift) else patterns

    def usable(self, patterns: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of rolled patterns (k, N, N) hold counts in all good pixels."""
        good = patterns[:, self.sample.good]
        with np.errstate(invalid='ignore'):
            return np.asarray(((good >= 0) & (good < NEVER_COUNTED)).all(axis=1) & (good > 0).any(axis=1))

    def prepare(self, patterns: NDArray[Any], positions: NDArray[np.float64], layout: Layout) -> PreparedScan:
        """Some usable patterns, rolled, as a scan on a canvas; at least two, at least half a pixel apart."""
        scan = replace(
            self.sample.scan,
            diffraction=patterns,
            positions=positions,
            pattern_indexes=None,
            scan_index=None,
            as_is=True,
        )
        order = np.arange(len(positions), dtype=np.int64)
        return replace(self.sample, scan=scan, order=order, positions=positions, layout=layout)


def _mend(fields: dict[str, Any], *, as_is: bool) -> tuple[Scan, tuple[int, int], tuple[Notice, ...]]:
    if as_is:
        return Scan(**{**fields, 'as_is': True}), (0, 0), ()
    checked, kept, notices = check_values(fields)
    scan = Scan(**{**checked, 'as_is': True})
    if len(scan) < ENOUGH:
        return scan, (0, 0), tuple(notices)
    found = Findings(scan, kept)
    row, column = found.shift
    return found.mended(), (int(row), int(column)), (*notices, *found.notices)
