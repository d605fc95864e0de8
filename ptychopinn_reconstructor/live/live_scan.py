"""LiveScan: the object of a scan while it is being taken, without any transport."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backend import check_precision, check_requests, describe, load_backend
from ..config import Config
from ..errors import ConfigError, ScanError
from ..events import Emit, Notice, ShouldStop, ignore, never
from ..model_file.opening import open_model
from ..model_file.trained import check_before_use
from ..physics.geometry import Layout
from ..physics.illumination import illuminated_area, illumination
from ..physics.inspection.corrected import CorrectedPatterns, Values
from ..physics.inspection.inspect import mend_scan
from ..physics.residual import Residual
from ..physics.scaling import probe_power
from ..reconstruction.diagnostics import Reliability
from ..reconstruction.finish import Result
from ..reconstruction.network_object import batch_size
from ..reconstruction.reconstruct import reconstruct
from ..result import Reconstruction
from ..scan import Domain, Scan
from .arrivals import Arrivals, Counted
from .canvas import LiveCanvas
from .mosaic import PASSES, Area, Mosaic
from .setting import LOOKS, Setting
from .settling import settle

LOOKED_AT = 48  # patterns that tell how reliable the object is
GIVEN = 1e-3  # an object handed in is known where it differs from 1 by more


class Placed(Protocol):
    """An object (H, W) and its origin: array index = position + origin. A `Reconstruction` is one."""

    @property
    def object(self) -> NDArray[np.complex64]: ...
    @property
    def origin(self) -> tuple[float, float]: ...


@dataclass(frozen=True, eq=False)
class Overview:
    """Every pixel, or every second, third ... of an object of `shape`, where it is `covered`, and the `misfit` of some
    patterns with `centers` (k, 2) in it."""

    object: NDArray[np.complex64]
    covered: NDArray[np.bool_]
    shape: tuple[int, int]
    misfit: Residual
    centers: NDArray[np.float64]


class LiveScan:
    """The object of a scan while it is being taken.

    `add` lays each pattern on a canvas that grows, as soon as its position is known too; `settle` improves the object
    with the time that is left. Patterns are kept in a scratch file, not in memory.

    Parameters
    ----------
    model
        The file of a trained model.
    probe
        (modes, N, N) of the scan, in any unit; None: the model's.
    canvas
        An object that there is already, such as an earlier result; None: an empty one.
    config
        As `reconstruct` takes it; None: its defaults, with backend, power and photons of the model.
    domain, bad_pixels, pixel_size, metadata
        As in `Scan`.
    scratch
        Folder of the scratch files; None: the system's.

    Raises
    ------
    ModelFileError, BackendError, DeviceError
        When the model cannot be used here.
    """

    def __init__(
        self,
        model: str | Path,
        probe: NDArray[Any] | None = None,
        canvas: Placed | None = None,
        *,
        config: Config | None = None,
        domain: Domain = 'counts',
        bad_pixels: NDArray[np.bool_] | None = None,
        pixel_size: tuple[float, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.path, self.model = Path(model), open_model(model)
        self.config = Config().merged(self.model.manifest.defaults) if config is None else config
        self.backend = load_backend(self.config.execution.backend)
        device = self.backend.resolve_device(self.config.execution.device)
        check_requests(describe(self.backend.name), self.config, training=False)
        check_precision(self.config.execution, device)
        execution = {'execution': self.config.execution.model_dump(mode='json')}
        self.network = self.backend.network(self.model.config.merged(execution), self.model.weights, device)
        check_before_use(self.path, self.model, self.network, self.backend, device, self.config.execution.precision)
        self._fields: dict[str, Any] = {
            'probe': probe,
            'domain': domain,
            'bad_pixels': bad_pixels,
            'pixel_size': pixel_size,
            'metadata': dict(metadata or {}),
        }
        self._given, self._scratch = canvas, scratch
        self._arrivals = Arrivals(scratch)
        self._mosaic: Mosaic | None = None
        self._looks = [*LOOKS]
        self._ready: list[int] = []
        self._work: Iterator[None] | None = None
        self._generator = np.random.default_rng(self.model.config.training.seed)
        self._unusable = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the scratch files back; scans that `scan` has handed out cannot be read any more."""
        if self._arrivals.patterns is not None:
            self._arrivals.patterns.close()
        if self._mosaic is not None:
            self._mosaic.patches.close()

    def add(
        self, patterns: ArrayLike | None = None, positions: ArrayLike | None = None, index: ArrayLike | None = None
    ) -> tuple[slice, slice] | None:
        """Lay patterns (k, N, N) on the canvas at positions (k, 2) [row, column] of their centers in object pixels.

        Either may come alone, and wait for the other of the same `index` (k,), by default the next numbers of each.
        What comes again is left out. Returns the rows and columns of `canvas()` that have changed; None: nothing has.

        Raises ScanError when they cannot be of one scan, OutputError without room for them on the disk.
        """
        numbers = None if index is None else np.asarray(index)
        if patterns is not None:
            self._ready += self._arrivals.add_patterns(patterns, numbers)
        if positions is not None:
            self._ready += self._arrivals.add_positions(positions, numbers)
        self._look()
        changed = None if self._mosaic is None else self._place(self._mosaic)
        if changed is None or self._mosaic is None:
            return None
        first, last = (place - self._mosaic.canvas.begin for place in changed)
        return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))

    def settle(self, budget: float, *, emit: Emit = ignore, should_stop: ShouldStop = never) -> Result | None:
        """Improve the object for `budget` CPU seconds, or until nothing is left to do.

        With a budget of infinity it becomes the object of `reconstruct`, whose result is returned; what comes later is
        laid on that. `emit` and `should_stop` are for this. Raises what `reconstruct` raises, ConfigError on a budget
        that is no time.
        """
        if not budget >= 0:
            raise ConfigError(f'The budget is {budget}; pass CPU seconds, or infinity for all that there is to do.')
        if math.isinf(budget):
            return self._reconstruct(emit, should_stop)
        self.improve(budget)
        return None

    def improve(self, budget: float) -> bool:
        """`settle` with so many CPU seconds, fewer than infinity; whether anything is left to do."""
        if self._mosaic is None:
            return False
        end = time.process_time() + budget
        while time.process_time() < end:
            self._work = self._work or settle(self._mosaic, self.config.inference.sync_neighbors, self._generator)
            if next(self._work, self) is self:
                self._work = None
                return False
        return True

    def canvas(self) -> NDArray[np.complex64]:
        """The object so far, (H, W): 1 where nothing is known; empty before the first patterns."""
        return np.ones((0, 0), np.complex64) if self._mosaic is None else self._mosaic.canvas.object()

    @property
    def origin(self) -> tuple[float, float]:
        """Index in `canvas()` [row, column] of the position (0, 0)."""
        return (0.0, 0.0) if self._mosaic is None else self._mosaic.canvas.origin

    @property
    def probe(self) -> NDArray[np.complex64] | None:
        """(modes, N, N) in sqrt(counts); None before the first patterns."""
        return None if self._mosaic is None else self._mosaic.setting.probe

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the first patterns have shown of the scan."""
        return () if self._mosaic is None else self._mosaic.setting.notices

    @property
    def placed(self) -> int:
        """How many patterns are on the canvas."""
        return 0 if self._mosaic is None else len(self._mosaic)

    @property
    def unusable(self) -> int:
        """How many patterns hold values that no detector counts, or no light."""
        return self._unusable

    def count(self) -> Counted:
        """How much has arrived."""
        return self._arrivals.count()

    def reliability(self) -> Reliability | None:
        """What up to 48 patterns, evenly spaced in the order of their arrival, say of the object; None before two."""
        mosaic = self._mosaic
        numbers = None if mosaic is None else mosaic.sample(LOOKED_AT)
        misfit = None if mosaic is None or numbers is None else mosaic.misfit(numbers)
        if mosaic is None or numbers is None or misfit is None:
            return None
        return Reliability(
            misfit=misfit,
            positions=mosaic.centers(numbers) - np.array(self.origin),
            origin=self.origin,
            pixel_size=self._fields['pixel_size'],
            coverage=illuminated_area(mosaic.canvas.weight()),
        )

    def overview(self, largest: int) -> Overview | None:
        """The object and its reliability, of at most `largest` pixels along a side; None before two patterns."""
        mosaic = self._mosaic
        numbers = None if mosaic is None else mosaic.sample(LOOKED_AT)
        misfit = None if mosaic is None or numbers is None else mosaic.misfit(numbers)
        if mosaic is None or numbers is None or misfit is None:
            return None
        step = max(1, -(-max(mosaic.canvas.shape) // largest))
        shown, weight = mosaic.canvas.every(step)
        return Overview(shown, illuminated_area(weight), mosaic.canvas.shape, misfit, mosaic.centers(numbers))

    def reconstruction(self) -> Reconstruction:
        """The object so far as a result is written, with all positions that have a pattern.

        Raises ScanError before the first patterns.
        """
        index = self._arrivals.pairs()
        if self._mosaic is None:
            raise ScanError('No pattern with its position has arrived; there is no object yet.')
        return Reconstruction(
            object=self.canvas(),
            origin=self.origin,
            probe=self._mosaic.setting.probe,
            positions=self._arrivals.positions(index),
            pixel_size=self._fields['pixel_size'],
            name=str(self._fields['metadata'].get('name', 'live')),
            comments=f'ptychopinn-reconstructor: while the scan was taken, {self.placed} patterns.',
            metadata={**self._fields['metadata'], 'probe_position_indexes': index},
        )

    def scan(self) -> Scan:
        """The scan so far: all patterns that have a position, in the order of their indexes, mended as readers do it.

        Raises ScanError when they are no scan yet.
        """
        return self._mend()[0]

    def _mend(self) -> tuple[Scan, tuple[Notice, ...]]:
        index = self._arrivals.pairs()
        fields = {**self._fields_of(index), 'pattern_indexes': index}
        return (Scan(**fields), ()) if self.config.data.as_is else mend_scan(**fields)

    def _fields_of(self, index: NDArray[np.int64]) -> dict[str, Any]:
        stored = self._arrivals.patterns
        if stored is None:
            raise ScanError('No pattern has arrived; a live scan begins with the first.')
        patterns = CorrectedPatterns(stored, self._arrivals.rows(index), Values.none())
        return {**self._fields, 'diffraction': patterns, 'positions': self._arrivals.positions(index)}

    def _look(self) -> None:
        """Look at the first patterns, again when there are more, and begin anew with what they say."""
        if not self._looks or len(self._ready) + self.placed < self._looks[0]:
            return
        ready = self._arrivals.pairs()
        self._looks = [count for count in self._looks if count > len(ready)]
        arrived = ready[np.argsort(self._arrivals.rows(ready))]
        first = arrived[np.unique(np.linspace(0, len(ready) - 1, LOOKS[-1]).astype(np.int64))]
        try:
            setting = Setting.look(self._fields_of(np.sort(first)), self.model, self.config, self.backend)
        except ScanError:
            if self._looks:  # a few patterns may all be dark, or at one place
                return
            self._looks = [2 * len(ready)]
            raise
        self._begin(setting, self._arrivals.positions(first))
        self._ready, self._unusable = ready.tolist(), 0

    def _begin(self, setting: Setting, positions: NDArray[np.float64]) -> None:
        stored, side, eps = self._arrivals.patterns, setting.sample.n_pixels, setting.epsilon
        assert stored is not None
        if self._mosaic is not None:
            self._mosaic.patches.close()
        base = None
        if self._given is not None:
            values = np.asarray(self._given.object)
            known = np.where(abs(values - 1) > GIVEN, setting.weight.max(), 0.0)
            base = LiveCanvas.of_object(values, self._given.origin, known, side, eps)
        canvas = LiveCanvas.about(positions[0], side, eps) if base is None else base.copy()
        self._mosaic, self._work = Mosaic(setting, canvas, stored, self._scratch, base), None

    def _place(self, mosaic: Mosaic) -> Area | None:
        """Lay what is ready on the canvas; what lies absurdly far stays ready."""
        ready, self._ready = np.array(self._ready, dtype=np.int64), []
        first = last = None
        size = batch_size(self.config, mosaic.setting.sample.n_pixels)
        for start in range(0, len(ready), size):
            index = ready[start : start + size]
            near = mosaic.canvas.reaches(mosaic.canvas.place(self._arrivals.positions(index))[0])
            self._ready += index[~near].tolist()
            area = self._lay_on(mosaic, index[near])
            if area is not None:
                first = area[0] if first is None else np.minimum(first, area[0])
                last = area[1] if last is None else np.maximum(last, area[1])
        return None if first is None or last is None else (first, last)

    def _lay_on(self, mosaic: Mosaic, index: NDArray[np.int64]) -> Area | None:
        rows = self._arrivals.rows(index)
        patterns = mosaic.setting.roll(mosaic.stored.read(rows))
        usable = mosaic.setting.usable(patterns)
        self._unusable += int((~usable).sum())
        if not usable.any():
            return None
        return mosaic.add(patterns[usable], rows[usable], self._arrivals.positions(index)[usable], self.network)

    def _reconstruct(self, emit: Emit, should_stop: ShouldStop) -> Result:
        scan, mended = self._mend()
        result = reconstruct(scan, self.path, self.config, scratch=self._scratch, emit=emit, should_stop=should_stop)
        if self._mosaic is not None and scan.pattern_indexes is not None:
            self._continue_from(self._mosaic, result, scan.pattern_indexes)
        return replace(result, report=replace(result.report, notices=(*mended, *result.report.notices)))

    def _continue_from(self, mosaic: Mosaic, result: Result, index: NDArray[np.int64]) -> None:
        """Go on with the object of a result, in which the patterns at `index` are."""
        made, setting, rows = result.reconstruction, mosaic.setting, self._arrivals.rows(index)
        side, origin = setting.sample.n_pixels, np.array(made.origin)
        exact = self._arrivals.positions(index) + origin - (side - 1) / 2
        corners = np.clip(np.rint(exact), 0, np.array(made.object.shape) - side).astype(np.int64)
        layout = Layout(corners, exact - corners, made.origin, made.object.shape)
        light = illumination(layout, made.probe)
        base = LiveCanvas.of_object(made.object, made.origin, light, side, setting.epsilon)
        mosaic.patches.close()
        self._mosaic, self._work = Mosaic(setting, base.copy(), mosaic.stored, self._scratch, base), None
        self._mosaic.note(rows, corners, exact - corners, PASSES)
        self._mosaic.settled = self._mosaic.synchronized = len(index)
        self._mosaic.scale = float(np.sqrt(probe_power(setting.probe) / probe_power(made.probe)))
        self._ready, self._looks = [], []
