"""The classical engine: fixed point, convergence, probe, dose, invariance, and the measured scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_cases import Case, N, empty

from ptychopinn_reconstructor.config import RefinementConfig
from ptychopinn_reconstructor.errors import ConfigError, ScanError
from ptychopinn_reconstructor.events import Epoch, Event, Progress
from ptychopinn_reconstructor.physics.arrays import NumpyArrays
from ptychopinn_reconstructor.physics.engine import history
from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.options import (
    RefineOptions,
    automatic_momentum,
    automatic_passes,
    automatic_prior,
)
from ptychopinn_reconstructor.physics.engine.refine import refine, scan_dose
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.update import BLEND, OBJECT_BLEND, PRIOR_COUNTS, Engine, ObjectStep
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.sampling import scan_overlap
from ptychopinn_reconstructor.physics.scaling import probe_power
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.refinement import refinement_options
from ptychopinn_reconstructor.scan import Scan


def test_truth_and_exact_data_stay_put() -> None:
    case = Case()
    prepared = case.prepared()
    result = refine(prepared, case.truth, RefineOptions.for_scan(3, prior=0.0))
    lit = case.lit(prepared)
    assert np.abs(result.canvas - case.truth)[lit].max() < 1e-5
    assert max(result.residuals) < 1e-8 and not result.taken_back


@pytest.mark.parametrize('modes', [1, 2])
def test_object_is_recovered_from_an_empty_canvas(modes: int) -> None:
    case = Case(modes=modes)
    prepared = case.prepared()
    result = refine(prepared, empty(prepared), RefineOptions.for_scan(30))
    assert result.residuals[-1] < result.residuals[0] / 100
    area = (slice(N // 2 + 2, -N // 2 - 2),) * 2
    truth, found = case.truth[area], result.canvas[area]
    found = found * np.exp(-1j * np.angle(np.vdot(truth, found)))
    assert np.sqrt(np.mean(np.abs(found - truth) ** 2)) < 0.03
    assert np.sqrt(np.mean(np.abs(1 - truth) ** 2)) > 0.3  # the flat object is far away


def test_one_pass_after_a_prediction_improves_it_and_more_passes_go_on() -> None:
    case = Case(1e5, noise=True)
    prepared = case.prepared()
    rough = np.exp(0.2j * np.sin(np.arange(case.truth.shape[0]) / 5))[:, None]
    start = ((0.9 * case.truth + 0.1) * rough).astype(np.complex64)
    scores = [compare(start, case.origin, case.truth, case.origin, case.positions)]
    for passes in (1, 2, 3):
        canvas = refine(prepared, start, RefineOptions.for_scan(passes)).canvas
        scores.append(compare(canvas, case.origin, case.truth, case.origin, case.positions))
    phase = [score.phase_psnr for score in scores]
    assert phase[1] > phase[0] + 2 and phase[2] > phase[0] + 3 and phase[3] > phase[0] + 3
    assert scores[3].amplitude_psnr > scores[0].amplitude_psnr


@pytest.mark.parametrize('modes', [1, 2])
def test_one_batch_equals_the_formulas(modes: int) -> None:
    case = Case(1e4, modes=modes)
    prepared = case.prepared()
    index = np.array([3, 17, 18, 40])
    start = (0.8 * case.truth + 0.2).astype(np.complex64)
    engine = Engine(prepared, start, case.probe, FarFieldStep(0.0))
    error, counts = engine.update(index, ObjectStep(), with_probe=True)
    numerator, weight = np.zeros(engine.canvas.shape, complex), np.zeros(engine.canvas.shape)
    probe_sum, probe_weight, misfit = np.zeros(case.probe.shape, complex), np.zeros((N, N)), 0.0
    k = np.fft.fftfreq(N)
    for i in index:
        row, col = prepared.layout.corners[i]
        window = (slice(row, row + N), slice(col, col + N))
        f = prepared.layout.fractions[i]
        ramp = np.exp(-2j * np.pi * (k[:, None] * f[0] + k[None] * f[1]))
        probe = np.fft.ifft2(np.fft.fft2(case.probe) * ramp)
        far = np.fft.fft2(probe * start[window], norm='ortho')
        measured = np.fft.ifftshift(np.sqrt(case.counts[prepared.order[i]]))
        predicted = np.sqrt((np.abs(far) ** 2).sum(axis=0))
        misfit += ((predicted - measured) ** 2).sum()
        change = np.fft.ifft2(far * (measured / predicted - 1), norm='ortho')
        numerator[window] += (np.conj(probe) * change).sum(axis=0)
        weight[window] += (np.abs(probe) ** 2).sum(axis=0)
        probe_sum += np.fft.ifft2(np.fft.fft2(np.conj(start[window]) * change) * np.conj(ramp))
        probe_weight += np.abs(start[window]) ** 2
    canvas = start + numerator / ((1 - OBJECT_BLEND) * weight + OBJECT_BLEND * weight.max() + PRIOR_COUNTS)
    new_probe = case.probe + probe_sum / ((1 - BLEND) * probe_weight + BLEND * probe_weight.max())
    new_probe *= np.sqrt(probe_power(case.probe) / probe_power(new_probe))
    assert np.abs(engine.canvas - canvas).max() < 1e-5 * np.abs(canvas - start).max() + 2e-6
    assert np.abs(engine.probe - new_probe).max() < 1e-5 * np.abs(new_probe).max()
    assert error == pytest.approx(misfit, rel=1e-4)
    assert counts == pytest.approx(case.counts[prepared.order[index]].sum(), rel=1e-6)


def test_momentum_repeats_the_last_step_where_the_batch_brings_light() -> None:
    case = Case(1e4)
    prepared = case.prepared()
    engine, plain = (Engine(prepared, empty(prepared), case.probe, FarFieldStep(0.0)) for _ in range(2))
    index = np.arange(40)
    engine.update(index, ObjectStep(momentum=0.5), with_probe=False)
    plain.update(index, ObjectStep(), with_probe=False)
    step, taken = plain.canvas - 1, engine.canvas - 1
    assert np.abs(engine.velocity - step).max() < 1e-6
    there = np.abs(step) > 1e-4
    repeated = (taken / np.where(there, step, 1)).real[there]
    assert repeated.max() == pytest.approx(1.5, abs=1e-3) and 1 <= repeated.min() < 1.1
    dark = np.linalg.norm(np.indices(step.shape).T - prepared.layout.corners[-1] - N / 2, axis=-1).T.argmin()
    before, speed = engine.canvas.copy(), engine.velocity.copy()
    engine.update(np.array([0]), ObjectStep(momentum=0.5), with_probe=False)
    at = np.unravel_index(dark, step.shape)  # far from the first pattern
    assert engine.canvas[at] == pytest.approx(before[at], abs=1e-6)
    assert engine.velocity[at] == pytest.approx(speed[at], abs=1e-6)


def test_momentum_is_less_where_its_noise_would_stay() -> None:
    by_dose = [automatic_momentum(dose, 30) for dose in (0.1, 15.0, 1e4)]
    assert by_dose == sorted(by_dose) and by_dose[0] < 0.61 and by_dose[-1] > 0.86
    assert [automatic_momentum(1e4, passes) for passes in (0, 1, 3)] == pytest.approx([0.6] * 3, abs=1e-9)
    assert 0.6 < automatic_momentum(1e4, 6) < automatic_momentum(1e4, 12) < by_dose[-1]


def test_the_gain_shortens_the_step() -> None:
    case = Case(1e4)
    prepared = case.prepared()
    whole, half = (Engine(prepared, empty(prepared), case.probe, FarFieldStep(0.0)) for _ in range(2))
    index = np.arange(40)
    whole.update(index, ObjectStep(), with_probe=False)
    half.update(index, ObjectStep(gain=0.5), with_probe=False)
    assert np.abs(half.canvas - 1 - 0.5 * (whole.canvas - 1)).max() < 1e-6 < np.abs(half.canvas - 1).max()


def test_values_of_bad_pixels_change_nothing_and_the_object_is_still_found() -> None:
    bad = np.zeros((N, N), dtype=bool)
    bad[14:17, 10:12] = True
    bad[3, :] = True
    case = Case(bad=bad)
    spoiled = case.counts.copy()
    spoiled[:, bad] = 1e7
    results = []
    for counts in (case.counts, spoiled):
        prepared = case.prepared(diffraction=counts)
        results.append(refine(prepared, empty(prepared), RefineOptions.for_scan(20)))
    assert np.array_equal(results[0].canvas, results[1].canvas)
    assert results[0].residuals == results[1].residuals
    score = compare(results[0].canvas, case.origin, case.truth, case.origin, case.positions)
    assert score.phase_psnr > 30 and abs(score.amplitude_ratio - 1) < 0.01


def test_probe_is_recovered_and_its_power_held() -> None:
    case = Case(side=12)
    k = np.fft.fftfreq(N)
    defocus = np.exp(50j * (k[:, None] ** 2 + k[None] ** 2))
    guess = np.fft.ifft2(np.fft.fft2(case.probe) * defocus).astype(np.complex64)
    prepared = case.prepared(probe=guess)
    held = refine(prepared, empty(prepared), RefineOptions.for_scan(30))
    freed = refine(prepared, empty(prepared), RefineOptions.for_scan(30, refine_probe=True))

    def likeness(probe: np.ndarray) -> float:
        return float(np.abs(np.vdot(probe, case.probe)) / probe_power(case.probe))

    assert likeness(guess) < 0.97 and likeness(freed.probe) > 0.99
    assert probe_power(freed.probe) == pytest.approx(probe_power(guess), rel=1e-5)
    assert np.array_equal(held.probe, guess)
    assert freed.residuals[-1] < held.residuals[-1] / 10


def test_probe_is_left_alone_before_its_pass() -> None:
    case = Case(side=4)
    prepared = case.prepared()
    options = RefineOptions(2, refine_probe=True, probe_from_pass=3)
    assert np.array_equal(refine(prepared, empty(prepared), options).probe, case.probe)
    later = refine(prepared, empty(prepared), RefineOptions(3, refine_probe=True, probe_from_pass=3))
    assert not np.array_equal(later.probe, case.probe)


@pytest.mark.parametrize('offset', [(0.3, -0.4), (17.25, 1e4)])
def test_order_and_offset_of_positions_change_nothing(offset: tuple[float, float]) -> None:
    case = Case(1e4, noise=True)
    options = RefineOptions.for_scan(4, refine_probe=True)
    reference = case.prepared()
    first = refine(reference, empty(reference), options)
    shuffle = np.random.default_rng(5).permutation(len(case.positions))
    other = case.prepared(
        diffraction=case.counts[shuffle], positions=case.positions[shuffle] + offset, probe=case.probe
    )
    second = refine(other, empty(other), options)
    assert np.abs(first.canvas - second.canvas).max() < 1e-5
    assert np.abs(first.probe - second.probe).max() < 1e-5 * np.abs(first.probe).max()


def test_another_seed_draws_other_batches() -> None:
    case = Case(side=5)
    prepared = case.prepared()
    canvases = [refine(prepared, empty(prepared), RefineOptions.for_scan(1, seed=s)).canvas for s in (0, 0, 1)]
    assert np.array_equal(canvases[0], canvases[1]) and not np.array_equal(canvases[0], canvases[2])


def test_residuals_are_in_canonical_order_and_normalized() -> None:
    case = Case(1e4, noise=True)
    prepared = case.prepared()
    measured = residuals(prepared, case.truth, batch=7)
    exact = Case(1e4).counts
    error = (np.sqrt(exact) - np.sqrt(case.counts)) ** 2
    expected = error.sum(axis=(1, 2)) / case.counts.sum(axis=(1, 2))
    assert measured.per_pattern == pytest.approx(expected[prepared.order], rel=1e-4)
    assert measured.overall == pytest.approx(error.sum() / case.counts.sum(), rel=1e-4)


def test_stops_between_batches_and_says_so() -> None:
    case = Case(side=5)
    prepared = case.prepared()
    events: list[Event] = []
    asked = iter([False] * 8 + [True])
    result = refine(
        prepared, empty(prepared), RefineOptions.for_scan(20), emit=events.append, should_stop=lambda: next(asked)
    )
    assert result.stopped and len(result.residuals) == 1
    assert [e.done for e in events if isinstance(e, Progress)][-1] == 25 + 2 * 5
    assert not np.array_equal(result.canvas, empty(prepared))


def test_a_large_batch_tells_and_asks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last pass is one batch, which takes seconds for a large scan; stopped in it, the object is as before it."""
    monkeypatch.setattr(history, 'LISTEN', -1.0)
    prepared = Case().prepared()
    arrays = NumpyArrays()
    arrays.block_pixels = 48 * prepared.n_pixels**2  # 81 patterns in two blocks
    events: list[Event] = []
    options = RefineOptions(2, first_batches=1)
    whole = refine(prepared, empty(prepared), options, arrays=arrays, emit=events.append)
    assert [e.done for e in events if isinstance(e, Progress)] == [41, 81, 81, 122, 162, 162]
    asked = iter([False] * 4 + [True])  # before and twice within the first batch, before and once within the second
    stopped = refine(prepared, empty(prepared), options, arrays=arrays, should_stop=lambda: next(asked))
    assert stopped.stopped and stopped.residuals == whole.residuals[:1]
    first = refine(prepared, empty(prepared), RefineOptions(1, first_batches=1))
    assert np.array_equal(stopped.canvas, first.canvas) and not np.array_equal(stopped.canvas, whole.canvas)


def test_after_a_pass_the_canvas_is_handed_out() -> None:
    prepared = Case(side=5).prepared()
    seen: list[tuple[int, np.ndarray]] = []
    options = RefineOptions.for_scan(3)
    result = refine(prepared, empty(prepared), options, after_pass=lambda n, canvas: seen.append((n, canvas.copy())))
    assert [number for number, _ in seen] == [1, 2, 3]
    assert np.array_equal(seen[-1][1], result.canvas) and not np.array_equal(seen[0][1], seen[1][1])
    assert np.array_equal(refine(prepared, empty(prepared), options).canvas, result.canvas)


def test_events_tell_progress_and_residuals() -> None:
    case = Case(side=5)
    prepared = case.prepared()
    events: list[Event] = []
    result = refine(prepared, empty(prepared), RefineOptions.for_scan(2), emit=events.append)
    epochs = [(e.epoch, e.total, e.residual) for e in events if isinstance(e, Epoch)]
    assert epochs == [(1, 2, result.residuals[0]), (2, 2, result.residuals[1])]
    progress = [e for e in events if isinstance(e, Progress)]
    assert progress[-1] == Progress('refine', 50, 50)
    assert not result.stopped


def test_no_passes_leave_everything_as_it_is() -> None:
    case = Case(side=4)
    prepared = case.prepared()
    result = refine(prepared, case.truth, RefineOptions(0))
    assert np.array_equal(result.canvas, case.truth) and np.array_equal(result.probe, case.probe)
    assert result.residuals == ()


def test_more_passes_where_spots_overlap_little_or_more_is_unknown() -> None:
    passes = [automatic_passes(overlap, from_network=True, more=False) for overlap in (0.95, 0.6, 0.4, 0.2, -0.5)]
    assert passes == sorted(passes) and passes[0] < 10 < passes[-1] <= 60
    for overlap in (0.9, 0.3):
        alone = automatic_passes(overlap, from_network=False, more=False)
        assert automatic_passes(overlap, from_network=True, more=False) <= alone
        assert alone <= automatic_passes(overlap, from_network=False, more=True) >= 20
    prepared = prepare_scan(simulate(n=32, positions=36, step=7.0, photons=1e6, jitter=0.5))
    overlap = scan_overlap(prepared.positions, prepared.probe)
    expected = automatic_passes(overlap, from_network=True, more=False)
    assert refinement_options(RefinementConfig(), prepared, start='network').passes == expected
    assert refinement_options(RefinementConfig(passes=2), prepared, start='network').passes == 2


def test_the_prior_is_weaker_where_light_is_scarce() -> None:
    strengths = [automatic_prior(dose) for dose in (0.1, 15.0, 150.0, 1e5)]
    assert strengths == pytest.approx([0.00662, 0.5, 0.909, 1.0], rel=1e-3)
    assert automatic_prior(np.inf) == 1.0
    prepared = prepare_scan(simulate(n=32, positions=36, step=5.0, photons=500))
    for start in ('empty', 'network'):
        found = refinement_options(RefinementConfig(), prepared, start=start)
        assert found.prior == pytest.approx(automatic_prior(scan_dose(prepared))) and found.wavefront
    assert refinement_options(RefinementConfig(prior=0.0), prepared, start='empty').prior == 0


def test_schedules() -> None:
    assert RefineOptions.for_scan(1).schedule(1024) == [4] and RefineOptions.for_scan(2).schedule(1024) == [8, 2]
    assert [RefineOptions.for_scan(4).schedule(n)[0] for n in (20, 40, 516, 8192)] == [5, 10, 16, 16]
    assert RefineOptions.for_scan(5).schedule(1000) == [16, 8, 4, 2, 1]
    assert RefineOptions.for_scan(5).schedule(20)[0] == 5
    assert RefineOptions.for_scan(3).schedule(2) == [1, 1, 1]
    probe = RefineOptions.for_scan(20, refine_probe=True).schedule(1000)
    assert probe[:14] == [32] * 14 and probe[-1] == 1 and len(probe) == 20
    for passes in range(40):
        schedule = RefineOptions.for_scan(passes, refine_probe=bool(passes % 2)).schedule(516)
        assert len(schedule) == passes and schedule == sorted(schedule, reverse=True)


def test_momentum_waits_for_a_shape_and_fades_at_the_end() -> None:
    nine = [RefineOptions(9, momentum=0.8).step(number).momentum for number in range(1, 10)]
    assert nine == pytest.approx([0.6, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8 * 2 / 2.8, 0.8 / 2.8, 0])
    assert RefineOptions(1, momentum=0.6).step(1).momentum == 0


def test_the_wavefront_is_solved_for_after_passes_that_double_and_the_last() -> None:
    def solved(options: RefineOptions) -> list[int]:
        return [number for number in range(1, options.passes + 1) if options.solves_wavefront(number)]

    assert solved(RefineOptions.for_scan(12)) == [1, 2, 4, 8, 12]
    assert solved(RefineOptions.for_scan(1)) == [1]
    assert solved(RefineOptions.for_scan(20, refine_probe=True)) == [8, 16, 20]  # the probe moves from pass 3 on
    assert solved(RefineOptions.for_scan(12, wavefront=False)) == []


@pytest.mark.parametrize(
    'values',
    [
        {'passes': -1},
        {'passes': 1, 'momentum': 1.0},
        {'passes': 1, 'first_batches': 0},
        {'passes': 1, 'probe_from_pass': 0},
    ],
)
def test_options_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r'\d'):
        RefineOptions(**values)  # type: ignore[arg-type]


def test_starts_that_do_not_fit() -> None:
    case = Case(side=4)
    prepared = case.prepared()
    options = RefineOptions.for_scan(1)
    with pytest.raises(ScanError, match='shape'):
        refine(prepared, case.truth[1:], options)
    with pytest.raises(ScanError, match='probe'):
        refine(prepared, case.truth, options, probe=case.probe[0])
    with pytest.raises(ScanError, match='NaN'):
        refine(prepared, np.full_like(case.truth, np.nan), options)


def load(path: Path) -> Scan:
    data = np.load(path)
    positions = np.stack([data['ycoords'], data['xcoords']], axis=1)
    truth = data.get('objectGuess')
    return Scan(data['diff3d'], positions, data['probeGuess'], object=truth)


@pytest.mark.parametrize(
    ('name', 'phase', 'area'),
    [('simulated_A.npz', 30.0, 0.95), pytest.param('simulated_B.npz', 29.0, 0.91, marks=pytest.mark.slow)],
)
def test_engine_alone_on_the_simulated_scans(shared_data: Path, name: str, phase: float, area: float) -> None:
    scan = load(shared_data / name)
    prepared = prepare_scan(scan)
    canvas = refine(prepared, empty(prepared), RefineOptions.for_scan(10)).canvas
    assert scan.object is not None
    score = compare(canvas, prepared.layout.origin, scan.object, (0.0, 0.0), scan.positions)
    assert score.phase_psnr > phase and score.amplitude_psnr > 27 and score.to_dict()['frc_area'] > area
    assert 0.98 < score.amplitude_ratio < 1.02


@pytest.mark.slow
def test_engine_alone_on_the_real_star(shared_data: Path) -> None:
    scan = load(shared_data / 'siemens_star_velociprobe.npz')
    reference = np.load(shared_data / 'siemens_star_reference.npz')
    origin = (float(reference['origin_row']), float(reference['origin_col']))
    prepared = prepare_scan(scan, probe=reference['probe'][None], mode='absolute')
    canvas = refine(prepared, empty(prepared), RefineOptions.for_scan(10)).canvas
    score = compare(canvas, prepared.layout.origin, reference['object'], origin, scan.positions, margin=8)
    assert score.phase_psnr > 41.5 and score.amplitude_psnr > 31 and score.to_dict()['frc_area'] > 0.95
    assert residuals(prepared, canvas).overall < 0.0114


@pytest.mark.slow
def test_the_real_star_from_its_own_probe_guess(shared_data: Path) -> None:
    scan = load(shared_data / 'siemens_star_velociprobe.npz')
    reference = np.load(shared_data / 'siemens_star_reference.npz')
    origin = (float(reference['origin_row']), float(reference['origin_col']))
    prepared = prepare_scan(scan)
    result = refine(prepared, empty(prepared), RefineOptions.for_scan(10, refine_probe=True))
    assert residuals(prepared, result.canvas, result.probe).overall < 0.0135
    assert probe_power(result.probe) == pytest.approx(probe_power(prepared.probe), rel=1e-5)
    score = compare(result.canvas, prepared.layout.origin, reference['object'], origin, scan.positions, margin=8)
    assert score.phase_psnr > 31 and score.amplitude_psnr > 16 and score.to_dict()['frc_area'] > 0.6
