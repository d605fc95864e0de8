"""The pipeline: train, reconstruct in a new process, invariances, choice of the probe, streaming."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ConfigError, Interrupted, ModelFileError, ScanError
from ptychopinn_reconstructor.events import Done, Epoch, Event, Progress, Started
from ptychopinn_reconstructor.io import ObjectFile, read_probe, write_npz
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.model_file.probes import choose_probe, correlate_probes
from ptychopinn_reconstructor.model_file.trained import verify_model
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction import network_object as inference
from ptychopinn_reconstructor.reconstruction.evaluate import as_object_file
from ptychopinn_reconstructor.reconstruction.finish import Result
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.setup import split_scan

pytestmark = pytest.mark.usefixtures('backend_name')


def config_of(**changes: Any) -> Config:
    """A few short epochs on the CPU; `changes` are 'section__field' values."""
    return short_config(**{'training__nepochs': 20} | changes)


@pytest.fixture(scope='module')
def scan() -> Scan:
    return small_scan(positions=144)


@pytest.fixture(scope='module')
def model(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pp.train([scan], config_of(), tmp_path_factory.mktemp('model')).model


def objects(result: Result) -> NDArray[np.complex64]:
    """The object on the area that the scan covers."""
    from ptychopinn_reconstructor.physics.geometry import scan_area

    found = result.reconstruction
    return found.object[scan_area(found.positions, found.origin)]


def test_training_beats_the_empty_object_and_refinement_beats_both(scan: Scan, model: Path) -> None:
    assert scan.object is not None
    truth = ObjectFile(scan.object, scan.object_origin, scan.positions)
    empty = ObjectFile(np.ones_like(scan.object), scan.object_origin, scan.positions)
    flat = pp.evaluate(empty, truth, margin=2).to_dict()
    scores, residuals = [], []
    for passes in (0, 2):
        result = pp.reconstruct(scan, model, config_of(refinement__passes=passes))
        scores.append(pp.evaluate(as_object_file(result.reconstruction), truth, margin=2).to_dict())
        residuals.append(result.report.residual)
    assert scores[0]['amplitude_psnr'] > flat['amplitude_psnr'] + 1
    assert scores[1]['phase_psnr'] > flat['phase_psnr'] + 3
    assert residuals[1] < 0.7 * residuals[0]


@pytest.mark.parametrize('offset', [(0.3, -0.4), (17.25, 1e4)])
def test_a_constant_added_to_all_positions_changes_nothing(
    scan: Scan, model: Path, offset: tuple[float, float]
) -> None:
    """OFFSETS: the same object to 1e-5, and its origin moves along."""
    moved = replace(scan, positions=scan.positions + offset)
    one, two = (pp.reconstruct(s, model, config_of()) for s in (scan, moved))
    assert np.abs(objects(one) - objects(two)).max() < 1e-5
    shift = np.subtract(one.reconstruction.origin, two.reconstruction.origin)
    assert shift == pytest.approx(offset, abs=1e-6)


def test_the_order_of_the_patterns_changes_nothing(scan: Scan, model: Path) -> None:
    """Another order of patterns in the file: the same object and the same residual of each pattern."""
    order = np.random.default_rng(3).permutation(len(scan))
    mixed = replace(scan, diffraction=scan.diffraction[order], positions=scan.positions[order], scan_index=None)
    one, two = (pp.reconstruct(s, model, config_of(refinement__passes=1)) for s in (scan, mixed))
    assert one.network is not None and two.network is not None
    assert np.abs(one.network - two.network).max() < 1e-5
    assert np.abs(objects(one) - objects(two)).max() < 1e-5
    assert np.abs(one.report.residual_per_pattern[order] - two.report.residual_per_pattern).max() < 1e-6


def test_the_model_verifies_and_describes_the_training(scan: Scan, model: Path, backend_name: str) -> None:
    report = verify_model(model)
    assert report.difference <= report.tolerance <= 1e-5 and report.distance_to_fresh > 100 * report.tolerance
    manifest = open_model(model).manifest
    assert manifest.backend == backend_name and manifest.config.model.N == 32
    assert manifest.training.epochs == 20 and manifest.training.patterns_seen > 20 * 100
    assert manifest.scaling.probe_power == 'absolute'
    assert 0.2 < manifest.scaling.power_ratio < 1.1


def test_the_probe_is_the_given_one_the_scans_or_the_models(scan: Scan, model: Path) -> None:
    """Section 1: the scan's probe when there is one, otherwise the model's; the result says which and warns."""
    opened = open_model(model)
    assert scan.probe is not None
    bare = replace(scan, probe=None)
    one, two = pp.reconstruct(scan, model, config_of()), pp.reconstruct(bare, model, config_of())
    assert (one.report.run.probe_source, two.report.run.probe_source) == ('scan', 'model')
    assert np.abs(one.reconstruction.object - two.reconstruction.object).max() < 1e-5
    other = np.roll(scan.probe, 5, axis=2)
    chosen, source, notices = choose_probe(scan.with_probe(other), opened, None)
    assert source == 'scan' and np.array_equal(chosen, other) and 'correlation' in notices[0].text
    chosen, source, notices = choose_probe(scan, opened, other)
    assert source == 'given' and np.array_equal(chosen, other) and 'The probe given differs' in notices[0].text
    assert not choose_probe(scan, opened, 3j * scan.probe)[2]


def test_a_probe_refined_first_replaces_the_guess(scan: Scan, tmp_path: Path) -> None:
    """The guess in the file gives way, when reconstructing, to the probe that the training refined from it."""
    assert scan.probe is not None
    y, x = np.mgrid[:32, :32] - 15.5
    guess = scan.with_probe(scan.probe * np.exp(0.02j * (x**2 + 0.5 * y**2)))
    trained = pp.train([guess], config_of(training__refine_probe_first=10, training__nepochs=1), tmp_path)
    opened = open_model(trained.model)
    assert guess.probe is not None
    before, after = (correlate_probes(p, scan.probe) for p in (guess.probe, opened.probe))
    assert before < 0.95 and after > 0.98
    assert np.allclose(read_probe(str(tmp_path / 'probe.npz')), opened.probe)
    chosen, source, notices = choose_probe(guess, opened, None)
    assert source == 'model' and np.array_equal(chosen, opened.probe) and 'guess' in notices[0].text
    assert choose_probe(scan, opened, None)[1] == 'scan'


def test_several_scans_and_a_validation_scan(scan: Scan, tmp_path: Path) -> None:
    """Every pattern of all scans is trained on; the validation scan alone decides which epoch is best."""
    rows: list[Epoch] = []
    pp.train(
        [scan, small_scan(seed=1)],
        config_of(training__nepochs=2),
        tmp_path,
        validation=small_scan(seed=2),
        emit=lambda event: rows.append(event) if isinstance(event, Epoch) else None,
    )
    assert rows[0].patterns_seen == 16 * (144 // 16 + 100 // 16)
    assert rows[0].val_loss is not None and np.isfinite(rows[0].val_loss)


def test_precision_that_a_cpu_is_slow_with_is_refused_before_anything_is_computed(scan: Scan, model: Path) -> None:
    heard: list[Event] = []
    with pytest.raises(ConfigError, match='precision is 16-mixed, but a CPU'):
        pp.reconstruct(scan, model, config_of(execution__precision='16-mixed'), emit=heard.append)
    assert not [event for event in heard if isinstance(event, Started | Progress)]


def test_scans_of_two_sizes_are_refused(scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match='32 and 64 pixels'):
        pp.train([scan, small_scan(n=64, positions=9)], config_of(), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_supervised_needs_an_object_before_any_framework_is_loaded(tmp_path: Path) -> None:
    """SUPERVISED: the error comes before any work and before a framework is imported."""
    write_npz(tmp_path / 'scan.npz', replace(small_scan(), object=None))
    code = (
        'import sys\n'
        'from pathlib import Path\n'
        'import ptychopinn_reconstructor as pp\n'
        'from ptychopinn_reconstructor.config import Config\n'
        'from ptychopinn_reconstructor.errors import ScanError\n'
        'from ptychopinn_reconstructor.io import read_scan\n'
        "config = Config().merged({'model': {'model_type': 'supervised'}})\n"
        'try:\n'
        "    pp.train([read_scan(sys.argv[1]).scan], config, Path(sys.argv[1]).parent / 'out')\n"
        'except ScanError as error:\n'
        "    assert 'needs an object' in str(error), error\n"
        "    assert not {'torch', 'lightning', 'tensorflow', 'keras'} & set(sys.modules)\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', code, tmp_path / 'scan.npz'], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == 'refused', done.stderr
    assert not (tmp_path / 'out').exists()


def test_subsampling_trains_on_fewer_patterns(scan: Scan, tmp_path: Path) -> None:
    """SETTINGS: n_subsample and its seed choose the patterns; more than there are is refused."""
    prepared = prepare_scan(scan)
    splits = [split_scan(prepared, config_of(data__n_subsample=60, training__seed=seed)) for seed in (0, 0, 1)]
    assert len(splits[0].training) <= 60
    assert np.array_equal(splits[0].training, splits[1].training)
    assert not np.array_equal(splits[0].training, splits[2].training)
    with pytest.raises(ConfigError, match='n_subsample is 1000'):
        split_scan(prepared, config_of(data__n_subsample=1000))


def test_stopping_a_reconstruction_is_an_interruption(scan: Scan, model: Path) -> None:
    with pytest.raises(Interrupted):
        pp.reconstruct(scan, model, config_of(), should_stop=lambda: True)
    with pytest.raises(Interrupted):
        pp.refine(scan, config_of(refinement__passes=3), should_stop=lambda: True)


def test_a_stopped_training_whose_model_is_not_wanted_ends_at_once(scan: Scan, tmp_path: Path) -> None:
    """keep_interrupted: stopped in the second epoch, a model is written by default; without it none, and it resumes."""
    config, steps = config_of(training__nepochs=2), len(scan) // 16

    def stopped_at(asked: int) -> Callable[[], bool]:
        left = iter([False] * asked)
        return lambda: next(left, True)

    kept = pp.train([scan], config, tmp_path / 'kept', should_stop=stopped_at(steps + 1))
    assert kept.trained.interrupted and kept.model.exists() and len(kept.trained.losses) == 1
    with pytest.raises(Interrupted, match='the last checkpoint is kept'):
        pp.train([scan], config, tmp_path / 'out', should_stop=stopped_at(steps + 1), keep_interrupted=False)
    assert not (tmp_path / 'out' / 'model.safetensors').exists()
    resumed = pp.train([scan], config, tmp_path / 'out', resume=True, keep_interrupted=False)
    assert resumed.model.exists() and len(resumed.trained.losses) == 2 and not resumed.trained.interrupted


def test_events_tell_the_whole_story(scan: Scan, model: Path) -> None:
    events: list[Event] = []
    pp.reconstruct(scan, model, config_of(refinement__passes=1), emit=events.append)
    assert isinstance(events[0], Started) and isinstance(events[-1], Done)
    done = [event for event in events if isinstance(event, Progress) and event.stage == 'network']
    assert done[-1].done == done[-1].total == len(scan)
    assert any(isinstance(event, Progress) and event.stage == 'refine' for event in events)


@pytest.mark.parametrize(('n', 'expected'), [(32, 64), (128, 64), (256, 16), (512, 4), (2048, 1)])
def test_a_batch_of_inference_follows_the_size_of_the_patterns(n: int, expected: int) -> None:
    """MEMORY: about a million pixels and at most 64 patterns, unless it is set."""
    assert inference.batch_size(Config(), n) == expected
    assert inference.batch_size(Config().merged({'inference': {'inference_batch_size': 100}}), n) == 100


def test_patches_that_do_not_fit_in_memory_go_to_a_scratch_file(
    scan: Scan, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MEMORY: the same object through a scratch file, which is gone afterwards."""
    expected = pp.reconstruct(scan, model, config_of()).reconstruction.object
    monkeypatch.setattr(inference, 'IN_MEMORY', 0)
    found = pp.reconstruct(scan, model, config_of(), scratch=tmp_path).reconstruction.object
    assert np.array_equal(found, expected)
    assert not list(tmp_path.iterdir())


MEMORY_SCRIPT = """
import resource, sys
from pathlib import Path
import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.reconstruction import network_object as inference
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.io import read_scan

def anonymous():
    lines = Path('/proc/self/status').read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith('RssAnon')) / 1024

peak = 0.0
def emit(event):
    global peak
    peak = max(peak, anonymous())

inference.IN_MEMORY = 0
scan = read_scan(sys.argv[1]).scan
config = Config().merged({'inference': {'sync_neighbors': 8}, 'execution': {'backend': sys.argv[4]}})
pp.reconstruct(scan, Path(sys.argv[2]), config, scratch=Path(sys.argv[3]), emit=emit)
print(peak)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_patterns(
    scan: Scan, model: Path, tmp_path: Path, backend_name: str
) -> None:
    """MEMORY: 60 times the patterns on the same canvas, 66 MiB more of them, cost less than half of that."""
    if not Path('/proc/self/status').exists():
        pytest.skip('anonymous memory is read from /proc')
    peaks = []
    for copies in (1, 60):
        rng = np.random.default_rng(0)
        jitter = rng.uniform(-0.5, 0.5, size=(copies, 1, 2)) * (copies > 1)
        many = replace(
            scan,
            diffraction=np.tile(scan.diffraction, (copies, 1, 1)).astype(np.float64),
            positions=(scan.positions + jitter).reshape(-1, 2),
            scan_index=None,
        )
        write_npz(tmp_path / 'many.npz', many)
        done = subprocess.run(
            [sys.executable, '-c', MEMORY_SCRIPT, tmp_path / 'many.npz', model, tmp_path, backend_name],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert not done.returncode, done.stderr
        peaks.append(float(done.stdout))
    patterns_mib = 59 * scan.diffraction.size * 8 / 2**20
    assert patterns_mib > 50
    assert peaks[1] - peaks[0] < 0.5 * patterns_mib


def test_a_scan_unlike_the_training_is_told_and_one_like_it_is_not(scan: Scan, model: Path) -> None:
    """RELIABILITY: the file keeps what the model was trained for; a dose far from it is in the notes and the facts."""
    assert open_model(model).manifest.trained_for.counts == pytest.approx([scan.mean_counts] * 2)
    weak = replace(scan, diffraction=np.floor(np.asarray(scan.diffraction) / 8))
    own, other = (pp.reconstruct(s, model, config_of()).report for s in (scan, weak))
    assert own.run.outside_training == () and not any('trained on' in notice.text for notice in own.notices)
    assert other.run.outside_training == ('dose',) and any('similar dose' in notice.text for notice in other.notices)


def test_where_the_patches_of_a_network_disagree_the_object_is_wrong(scan: Scan, model: Path) -> None:
    """RELIABILITY: the uncertainty and the true error of the details (high-passed phase and all) rise together."""
    from scipy import ndimage

    from ptychopinn_reconstructor.physics.geometry import scan_area

    assert scan.object is not None
    result = pp.reconstruct(scan, model, config_of())
    found, reliability = result.reconstruction, result.report.reliability
    assert reliability.uncertainty is not None and reliability.source == 'patches'
    truth = ObjectFile(scan.object, scan.object_origin, scan.positions)
    compared = pp.evaluate(as_object_file(found), truth, margin=2)
    ratio = compared.result / compared.truth
    detail = ratio - (ndimage.gaussian_filter(ratio.real, 6.0) + 1j * ndimage.gaussian_filter(ratio.imag, 6.0))
    deviation = reliability.uncertainty[scan_area(found.positions, found.origin, 2)]
    assert deviation.shape == detail.shape and np.isfinite(deviation).all()
    smooth = [np.sqrt(ndimage.gaussian_filter(np.abs(values) ** 2, 4.0)) for values in (detail, deviation)]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.4
    assert f'patches disagree by {reliability.uncertain(50):.2g}' in found.comments


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_its_networks(scan: Scan, model: Path, tmp_path: Path) -> None:
    """RELIABILITY: two models: their mean object up to the global phase, and their difference as the uncertainty."""
    other = pp.train([scan], config_of(training__nepochs=8, training__seed=5), tmp_path).model
    one, two, both = (
        pp.reconstruct(scan, first, config_of(inference__split_frc=True), ensemble=rest)
        for first, rest in ((model, ()), (other, ()), (model, (other,)))
    )
    reliability = both.report.reliability
    assert reliability.source == 'models' and reliability.uncertainty is not None and reliability.split is not None
    a, b, mean = (objects(result).astype(complex) for result in (one, two, both))
    b = b * np.exp(-1j * np.angle(np.vdot(a, b)))
    mean = mean * np.exp(-1j * np.angle(np.vdot(a + b, mean)))
    assert np.abs(mean - (a + b) / 2).max() < 0.02
    expected = np.median(np.abs(a - b)) / np.sqrt(2)
    assert reliability.uncertain(50) == pytest.approx(expected, rel=0.05)
    assert 'models disagree by' in both.reconstruction.comments
    assert both.report.run.ensemble == (str(other),) and both.report.stages['network']['wall_seconds'] > 0
    with pytest.raises(ModelFileError, match='N = 32 pixels but the scan has 64'):
        pp.reconstruct(small_scan(n=64, positions=9), model, config_of(), ensemble=[model])
