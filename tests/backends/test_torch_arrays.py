"""The refinement engine on PyTorch's tensors against the same engine on numpy, and that it stays on its device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import Case, N
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray
from scans import short_config, small_scan
from scipy import fft

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.backend import Backend, load_backend, select_arrays
from ptychopinn_reconstructor.errors import DeviceError
from ptychopinn_reconstructor.events import Event, Progress
from ptychopinn_reconstructor.physics.arrays import NUMPY, Arrays, NumpyArrays
from ptychopinn_reconstructor.physics.engine import history
from ptychopinn_reconstructor.physics.engine.guard import SAMPLED
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.wavefront import correct_long_range_phase
from ptychopinn_reconstructor.physics.stitching.count_scale import count_gauge
from ptychopinn_reconstructor.reconstruction import refinement as where_engine_runs

pytestmark = needs('torch')
torch = lazy('torch')
arrays, adapter, prediction = (lazy(f'{BACKENDS}.torch_lightning.{m}') for m in ('arrays', 'adapter', 'prediction'))

BAD = np.zeros((N, N), dtype=bool)
BAD[14:17, 10:12] = True
PLAIN = RefineOptions.for_scan(3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with prediction.limit_threads(1):
        yield


@pytest.fixture
def tensors(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """PyTorch on the CPU, blocks of a few patterns; numpy taking a tensor by itself, unseen, is an error."""

    def refuse(*_: object) -> None:
        raise AssertionError('A tensor went to numpy unasked.')

    monkeypatch.setattr(torch.Tensor, '__array__', refuse)
    made: Arrays = arrays.TorchArrays('cpu', block_pixels=7 * N * N)
    return made


def start_of(case: Case) -> NDArray[np.complex64]:
    """Like a network's object: with an empty one, the phase of dark detector pixels would be rounding noise."""
    wave = np.exp(0.2j * np.sin(np.arange(case.truth.shape[0]) / 5))[:, None]
    return ((0.9 * case.truth + 0.1) * wave).astype(np.complex64)


@pytest.mark.parametrize(
    ('settings', 'options'),
    [
        pytest.param({}, PLAIN, id='plain'),
        pytest.param({}, replace(PLAIN, refine_probe=True, probe_from_pass=1), id='probe'),
        pytest.param({}, replace(PLAIN, refine_positions=True, positions_from_pass=1), id='positions'),
        pytest.param({}, RefineOptions.for_scan(3), id='prior'),
        pytest.param(
            {'modes': 3},
            RefineOptions(3, refine_probe=True, probe_from_pass=1, refine_positions=True, positions_from_pass=2),
            id='modes, probe and positions',
        ),
        pytest.param(
            {'bad': BAD},
            replace(PLAIN, refine_positions=True, positions_from_pass=1, prior=1.0),
            id='bad pixels',
        ),
        pytest.param({'photons': 500}, RefineOptions.for_scan(3, dose=10), id='low dose'),
        pytest.param({'bad': BAD}, RefineOptions.for_scan(4, background='on', intensity='on'), id='detector'),
        pytest.param(
            {'near': (0.05, 0.06)},
            replace(PLAIN, refine_probe=True, probe_from_pass=1, refine_positions=True, positions_from_pass=1),
            id='near field',
        ),
    ],
)
def test_object_probe_and_positions_equal_those_of_numpy(
    settings: dict[str, Any], options: RefineOptions, tensors: Arrays
) -> None:
    case = Case(settings.get('photons', 1e5), noise=True, **{k: v for k, v in settings.items() if k != 'photons'})
    prepared, start = case.prepared(), start_of(case)
    expected = refine(prepared, start, options)
    found = refine(prepared, start, options, arrays=tensors)
    assert np.abs(expected.canvas - start).max() > 0.01
    assert np.abs(found.canvas - expected.canvas).max() < 1e-5
    assert np.abs(found.probe - expected.probe).max() < 1e-5 * np.abs(expected.probe).max()
    assert found.residuals == pytest.approx(expected.residuals, rel=1e-4)
    if expected.displacements is None:
        assert found.displacements is None
    else:
        assert found.displacements is not None and np.abs(expected.displacements).max() > 0.01
        assert np.abs(found.displacements - expected.displacements).max() < 1e-5
    assert found.canvas.dtype == np.complex64 and found.probe.dtype == np.complex64


def test_a_scan_of_one_pattern() -> None:
    case = Case(1e5, noise=True)
    prepared, start = case.prepared().part(np.array([40])), start_of(case)
    expected, found = (refine(prepared, start, PLAIN, arrays=where) for where in (NUMPY, arrays.TorchArrays('cpu')))
    assert np.abs(expected.canvas - start).max() > 0.01
    assert np.abs(found.canvas - expected.canvas).max() < 1e-5


def test_blocks_of_one_pattern_and_whole_batches_add_up_to_the_same() -> None:
    case = Case(1e5, noise=True, side=5)
    prepared, start = case.prepared(), start_of(case)
    options = replace(PLAIN, refine_probe=True, probe_from_pass=1)
    one, whole = (
        refine(prepared, start, options, arrays=arrays.TorchArrays('cpu', block_pixels=pixels))
        for pixels in (1, arrays.BLOCK_PIXELS)
    )
    assert np.abs(one.canvas - whole.canvas).max() < 1e-5
    assert np.abs(one.probe - whole.probe).max() < 1e-5 * np.abs(whole.probe).max()


def test_a_stop_within_a_batch_leaves_the_object_as_before_it(tensors: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, 'LISTEN', -1.0)
    case = Case(1e5)
    prepared, start = case.prepared(), start_of(case)
    options, events = RefineOptions(2, first_batches=1), list[Event]()
    asked = iter([False] * 14 + [True])  # before the first batch, after each of its 12 blocks; within the second
    stopped = refine(prepared, start, options, arrays=tensors, emit=events.append, should_stop=lambda: next(asked))
    first = refine(prepared, start, RefineOptions(1, first_batches=1), arrays=tensors)
    assert stopped.stopped and stopped.residuals == first.residuals
    assert [e.done for e in events if isinstance(e, Progress)][:3] == [7, 14, 21]
    assert np.array_equal(stopped.canvas, first.canvas) and not np.array_equal(stopped.canvas, start)


def test_after_a_pass_the_object_is_handed_out_in_numpy(tensors: Arrays) -> None:
    case = Case(1e5, side=4)
    seen: list[NDArray[np.complex64]] = []
    result = refine(
        case.prepared(), start_of(case), PLAIN, arrays=tensors, after_pass=lambda _, canvas: seen.append(canvas.copy())
    )
    assert len(seen) == 3 and np.array_equal(seen[-1], result.canvas) and not np.array_equal(seen[0], seen[1])


def test_residuals_and_the_amplitude_of_the_counts(tensors: Arrays) -> None:
    case = Case(1e4, noise=True, modes=2, bad=BAD)
    prepared, start = case.prepared(), start_of(case)
    expected, found = residuals(prepared, start), residuals(prepared, start, arrays=tensors)
    assert found.per_pattern == pytest.approx(expected.per_pattern, rel=1e-5)
    assert found.r_factor == pytest.approx(expected.r_factor, rel=1e-5)
    there = tensors.put(start)
    assert count_gauge(prepared, there, arrays=tensors) == pytest.approx(count_gauge(prepared, start), rel=1e-5)


def on_meta() -> Any:
    """On PyTorch's device without storage: mixing its tensors with those of another device is an error.

    What goes to numpy comes back as ones and is kept count of.
    """

    class OnMeta(arrays.TorchArrays):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__('meta')
            self.fetched: list[tuple[int, ...]] = []

        def get(self, values: Any) -> NDArray[Any]:
            assert values.device.type == 'meta'
            self.fetched.append(tuple(values.shape))
            return torch.ones_like(values, device='cpu').numpy()  # type: ignore[no-any-return]

        def square_sum(self, values: Any) -> float:
            assert values.device.type == 'meta' and values.dtype == torch.float32
            return 0.0

    return OnMeta()


def test_nothing_but_small_sums_leaves_the_device() -> None:
    case, meta = Case(1e4, noise=True, modes=2, bad=BAD), on_meta()
    prepared, start = case.prepared(), start_of(case)
    canvas, predicted = case.truth.shape, [(41, N, N), (40, N, N)]
    options = RefineOptions(2, first_batches=4, prior=1.0)
    refine(prepared, start, options, arrays=meta)
    sample = (SAMPLED, N, N)  # patterns by which the guard judges the start, the end, and what the prior costs
    assert meta.fetched == [
        canvas,
        *[sample] * 2,
        *predicted,
        *[sample] * 3,
        canvas,
        canvas,
    ]  # illumination, ..., object, change
    meta.fetched.clear()
    options = replace(options, refine_probe=True, probe_from_pass=1, refine_positions=True, positions_from_pass=1)
    refine(prepared, start, options, arrays=meta)
    batches = sum(options.schedule(len(prepared)))
    counted = Counter(meta.fetched)
    assert (
        counted.pop(canvas) == 6
    )  # illumination before and after each pass, the object asked for a map, object, its change
    assert counted.pop((2, N, N)) == counted.pop((N, N)) == batches  # the update of the probe and its weight
    # Slopes and curvatures of phase and map, the gauge's patterns.
    assert {shape[1:] for shape in counted} == {(2,), (2, 2), (4,), (4, 4), (N, N)}
    assert {shape for shape in counted if shape[1:] == (N, N)} == {*predicted, sample}
    meta.fetched.clear()
    correct_long_range_phase(prepared, meta.put(start), arrays=meta)
    assert meta.fetched.pop(0) == canvas  # illumination
    assert {shape[1:] for shape in meta.fetched} == {(2,), (2, 2)}


@pytest.mark.slow
def test_refinement_runs_where_the_backend_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a training, after a network, of both halves, judging a fine-tuning; the engine alone only if not cpu."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError('The engine ran in numpy.')

    with monkeypatch.context() as patched:
        patched.setattr(adapter.TorchBackend, 'arrays', lambda *_: arrays.TorchArrays('cpu:0'))
        patched.setattr(NumpyArrays, 'shift_ramp', refuse)  # which nothing but the engine needs
        scan, values = small_scan(positions=64), {'training__nepochs': 1, 'execution__backend': 'torch'}
        config = short_config(**values)
        first = pp.train([scan], short_config(**values, training__refine_probe_first=1), tmp_path / 'first')
        second = pp.train([scan], config, tmp_path / 'second', initial=first.model)
        two = config.merged({'refinement': {'passes': 2}})
        found = pp.reconstruct(scan, second.model, two.merged({'inference': {'split_frc': True}}))
        with pytest.raises(AssertionError, match='in numpy'):
            pp.refine(scan, two)
        patched.setattr(where_engine_runs, 'DRIVERS', [tmp_path])
        alone = pp.refine(scan, two.merged({'execution': {'device': 'auto'}})).report.run
    assert (alone.backend, alone.device, alone.refine_device) == ('torch', 'cpu:0', 'cpu:0')
    assert found.report.run.refine_device == 'cpu:0'
    assert '2 refinement passes on cpu:0' in found.reconstruction.comments
    here = pp.reconstruct(scan, second.model, two)
    assert here.report.run.refine_device == 'cpu'
    assert np.abs(here.reconstruction.object - found.reconstruction.object).max() < 1e-3
    none = pp.reconstruct(scan, second.model, config)
    assert none.report.run.refine_device is None and '0 refinement passes, ' in none.reconstruction.comments


def test_the_engine_alone_needs_no_framework_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEVICE: cpu always, auto where no driver of a GPU is; a device that is not there is an error naming those."""
    scan, loaded = small_scan(positions=16), list[str]()
    monkeypatch.setattr(where_engine_runs, 'DRIVERS', [])

    def load(name: str) -> Backend:
        loaded.append(name)
        return load_backend(name)

    monkeypatch.setattr(where_engine_runs, 'load_backend', load)
    for device in ('cpu', 'auto'):
        run = pp.refine(scan, short_config(execution__device=device, refinement__passes=1)).report.run
        assert (run.backend, run.device) == ('numpy', 'cpu')
    assert loaded == []
    with pytest.raises(DeviceError, match=r'cuda:7.*cpu'):
        pp.refine(scan, short_config(execution__device='cuda:7'))


def test_its_fft_is_that_of_scipy_bit_by_bit_the_same_wherever_memory_begins() -> None:
    """Blocks of other threads lie elsewhere in memory, and may be of other patterns."""
    rng, host = np.random.default_rng(0), arrays.HostArrays()
    values = (rng.normal(size=(5, 2, N, N)) + 1j * rng.normal(size=(5, 2, N, N))).astype(np.complex64)
    for compute, expected in ((host.fft2, fft.fft2), (host.ifft2, fft.ifft2)):
        found, exact = compute(values, norm='ortho'), expected(values.astype(np.complex128), norm='ortho')
        assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()
        room = np.empty(values.size + 8, dtype=np.complex64)
        for begin in range(8):
            moved = room[begin : begin + values.size].reshape(values.shape)
            moved[:] = values
            assert np.array_equal(compute(moved, norm='ortho'), found)
        assert np.array_equal(compute(values[3:4].copy(), norm='ortho'), found[3:4])


def test_several_threads_with_its_fft_change_nothing() -> None:
    case = Case(1e5, noise=True)
    prepared, small = case.prepared(), 3 * N * N
    options = replace(PLAIN, refine_probe=True, probe_from_pass=1)
    found = []
    for threads in (1, 3):
        host = arrays.HostArrays(threads)
        host.block_pixels = small
        found.append(refine(prepared, start_of(case), options, arrays=host))
    one, three = found
    assert np.array_equal(one.canvas, three.canvas) and np.array_equal(one.probe, three.probe)


def test_a_gpu_is_used_and_a_cpu_is_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = adapter.TorchBackend()
    assert isinstance(select_arrays(backend, 'cpu'), NumpyArrays)
    with pytest.raises(DeviceError, match='cuda:7'):
        select_arrays(backend, 'cuda:7')
    monkeypatch.setattr(adapter.TorchBackend, 'devices', lambda _: ['cpu', 'cuda:0', 'cuda:1', 'mps'])
    assert [select_arrays(backend, name).device for name in ('auto', 'gpu:1', 'mps')] == ['cuda:0', 'cuda:1', 'cpu']
