"""`ptychopinn study`: its grid, scans, table and page against known ones; real runs, resumed, failed and stopped."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, error_lines, run
from pictures import imread
from scans import backend_here

from ptychopinn_reconstructor.errors import ConfigError, OutputError
from ptychopinn_reconstructor.experiments.study import (
    Run,
    Study,
    list_runs,
    list_studies,
    read_description,
    run_study,
)
from ptychopinn_reconstructor.experiments.study.curves import find_varied_factors, group_curves, label_curve
from ptychopinn_reconstructor.experiments.study.grid import FACTORS, format_dose
from ptychopinn_reconstructor.experiments.study.scans import Sample
from ptychopinn_reconstructor.experiments.study.table import group_by_seed, read_table, write_table
from ptychopinn_reconstructor.io import read_object, read_scan
from ptychopinn_reconstructor.io.locks import NAME as LOCK
from ptychopinn_reconstructor.io.system import CAN_LOCK, lock_file
from ptychopinn_reconstructor.physics.probes import energy_diameter
from ptychopinn_reconstructor.reconstruction.evaluate import evaluate

TINY = ('--n', 32, '--area', 40, '--model', 'engine', '--engine-passes', 2)
A = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'simulated_A.npz'


def study(*args: object) -> Any:
    return run('study', *map(str, args))


def told(*args: object) -> Any:
    result = study(*args, '--json')
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# the grid


def test_every_combination_is_a_run_of_its_own() -> None:
    runs = list_runs(Study(dose=(1e3, 1e5), overlap=(0.0, 50.0), model=('pinn', 'engine'), passes=(0, 'auto'), seeds=2))
    assert len(runs) == len(set(runs)) == len({one.name for one in runs}) == 2 * 2 * 2 * (2 + 1)
    assert [one.seed for one in runs] == [0] * 12 + [1] * 12
    assert {one.passes for one in runs if one.model == 'pinn'} == {0, None}
    assert {(one.passes, one.backend) for one in runs if one.model == 'engine'} == {(20, None)}
    trainings = {one.training for one in runs if one.model == 'pinn'}
    assert len(trainings) == 2 * 2 * 2  # passes share a training


def test_a_factor_counts_only_where_it_means_something() -> None:
    every = Study(
        gridsize=(1, 2), train_patterns=(64, 128), model=('pinn', 'supervised', 'pretrained', 'engine'), seeds=1
    )
    found = list_runs(every)
    counts = {model: sum(one.model == model for one in found) for model in every.model}
    assert counts == {'pinn': 4, 'supervised': 2, 'pretrained': 1, 'engine': 1}
    pretrained = next(one for one in found if one.model == 'pretrained')
    assert pretrained.train_patterns is None and 'overlap' not in pretrained.pretraining


@pytest.mark.parametrize(('photons', 'text'), [(1e5, '1e5'), (100.0, '1e2'), (2500.0, '2.5e3'), (1.0, '1e0')])
def test_a_dose_is_written_shortly(photons: float, text: str) -> None:
    assert format_dose(photons) == text


@pytest.mark.parametrize('name', list_studies())
def test_a_shipped_study_can_be_read(name: str) -> None:
    found = list_runs(read_description(name, {}))
    assert len(found) >= 24 and {one.seed for one in found} == {0, 1, 2}


def test_the_shipped_studies_ask_what_the_field_argues_about() -> None:
    studies = {name: read_description(name, {}) for name in list_studies()}
    assert studies['dose'].dose == (1e2, 1e3, 1e4, 1e5, 1e6, 1e7)
    assert min(studies['overlap'].overlap) == 0 and max(studies['overlap'].overlap) == 90
    assert studies['training-size'].train_patterns == (128, 256, 512, 1024, 2048, 4096)
    assert {'pinn', 'supervised'} <= set(studies['pinn-against-supervised'].model)


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('dose: [1e3, 10000]\noverlap: 70\nseeds: 2\nsettings: {training: {learning_rate: 0.001}}\n')
    own = read_description(str(file), {'dose': None, 'settings': {'training': {'batch_size': '16'}}})
    assert (own.dose, own.overlap, own.seeds) == ((1e3, 1e4), (70.0,), 2)
    assert own.settings == {'training': {'learning_rate': 0.001, 'batch_size': '16'}}
    assert read_description(str(file), {'dose': ['1e6'], 'passes': ['auto', '3']}).passes == ('auto', 3)
    assert read_description(str(file), {'dose': ['1e6']}).dose == (1e6,)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('doses: [1e3]', "nothing called 'doses'"),
        ('dose: [0]', 'not between 1 and'),
        ('dose: [many]', 'dose of the study'),
        ('overlap: [99]', 'percent'),
        ('model: [network]', "'network'"),
        ('passes: [some]', 'passes of the study'),
        ('seeds: 0', 'seeds of the study'),
        ('settings: {training: {epochs: 3}}', 'epochs'),
        ('settings: 3', 'sections'),
        ('- 3', 'holds no study'),
        ('a: [', 'not valid YAML in line'),
    ],
)
def test_a_bad_description_is_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / 's.yaml'
    file.write_text(text)
    assert_refused(study(file, '--output-dir', tmp_path / 'out'), (words,))
    assert not (tmp_path / 'out').exists()


def test_an_unknown_study_names_the_shipped_ones(tmp_path: Path) -> None:
    assert_refused(study('doses', '--output-dir', tmp_path / 'o'), ('doses', 'training-size'))
    assert_refused(study('--dose', ',', '--output-dir', tmp_path / 'o'), ('--dose',))


# the scans


def test_the_overlap_is_a_share_of_the_probes_diameter() -> None:
    sample = Sample.of(Study())
    wanted = Run('engine', 1e5, 50.0, 0)
    assert sample.step(wanted) == pytest.approx(energy_diameter(sample.probe) / 2)
    counts = [sample.patterns(Run('engine', 1e5, overlap, 0)) for overlap in (0.0, 50.0, 65.0, 90.0)]
    assert counts == sorted(counts) and counts[0] == 12**2 and counts[2] == 32**2  # 22.8 and 8 px on 252


@pytest.mark.parametrize('overlap', [-20.0, 0.0, 60.0])
def test_a_scan_lies_on_the_same_object_at_any_overlap(tmp_path: Path, overlap: float) -> None:
    described = Study(n=32, area=80.0, overlap=(overlap,))
    sample = Sample.of(described)
    wanted = Run('engine', 1e4, overlap, 3)
    sample.write(tmp_path / 'a.npz', wanted)
    scan = read_scan(tmp_path / 'a.npz').scan
    assert len(scan) == sample.patterns(wanted) and scan.probe is not None
    assert (np.abs(scan.probe) ** 2).sum() == pytest.approx(1e4, rel=1e-4)
    low, high = scan.positions.min(axis=0), scan.positions.max(axis=0)
    assert (abs(high - low - 80) <= sample.step(wanted) / 2 + 4).all()
    sample.write(tmp_path / 'b.npz', Run('engine', 1e5, 40.0, 3))
    other = read_object(tmp_path / 'b.npz')
    np.testing.assert_array_equal(read_object(tmp_path / 'a.npz').object, other.object)
    sample.write(tmp_path / 'c.npz', Run('engine', 1e4, overlap, 4))
    assert not np.array_equal(read_object(tmp_path / 'c.npz').object, other.object)


def test_a_network_that_trains_on_another_object_never_sees_the_scan(tmp_path: Path) -> None:
    sample = Sample.of(Study(n=32, area=60.0))
    wanted = Run('pinn', 1e4, 60.0, 0, 'torch', None, 50)
    sample.write_training_scan(tmp_path / 't.npz', wanted)
    sample.write(tmp_path / 's.npz', wanted)
    trained, seen = (read_scan(tmp_path / name).scan for name in ('t.npz', 's.npz'))
    assert len(trained) == 50 and trained.object is not None and seen.object is not None
    np.testing.assert_array_equal(trained.probe, seen.probe)
    side = min(*trained.object.shape, *seen.object.shape)
    one, two = (np.angle(values[:side, :side]).ravel() for values in (trained.object, seen.object))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.5


@pytest.mark.skipif(not A.exists(), reason=f'the shared data are not at {A}')
def test_a_given_scan_lends_object_and_probe(tmp_path: Path) -> None:
    """At 65 % overlap the scan has the size of simulated_A itself, on the same area of the same object."""
    sample, own = Sample.of(Study(scan=A)), read_scan(A).scan
    wanted = Run('engine', 1e5, 65.0, 0)
    sample.write(tmp_path / 's.npz', wanted)
    scan = read_scan(tmp_path / 's.npz').scan
    assert len(scan) == len(own) == 1024
    assert scan.positions.min(axis=0) == pytest.approx(own.positions.min(axis=0), abs=2)
    assert scan.positions.max(axis=0) == pytest.approx(own.positions.max(axis=0), abs=2)
    np.testing.assert_array_equal(scan.object, own.object)
    assert own.mean_counts == pytest.approx(scan.mean_counts, rel=0.01)


# the table and the curves


def rows(model: str = 'engine', **values: Any) -> list[dict[str, Any]]:
    """Two seeds at two doses; the phase PSNR is 10 log10(dose), plus and minus 1."""
    return [
        {**Run(model, dose, 65.0, seed, passes=20).factors(), 'status': 'done', 'phase_psnr': 10 * k + 2.0 * seed - 1}
        | values
        for k, dose in ((3, 1e3), (5, 1e5))
        for seed in (0, 1)
    ]


def test_the_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written: list[dict[str, Any]] = [
        *rows(versions='numpy 2, python 3'),
        {**Run('pinn', 1e3, 0.0, 0, 'torch').factors(), 'status': 'failed', 'error': 'It failed, "badly";\nso.'},
        {**Run('pinn', 1e3, 0.0, 1, 'torch').factors(), 'status': 'done', 'phase_psnr': float('nan'), 'more': 1e-7},
    ]
    write_table(tmp_path / 't.csv', written)
    found = read_table(tmp_path / 't.csv')
    assert list(found[0])[: len(FACTORS)] == list(FACTORS) and list(found[0])[-1] == 'error'
    assert found[4]['error'] == written[4]['error'] and found[4]['phase_psnr'] is None
    assert (found[5]['phase_psnr'], found[5]['more'], found[5]['backend']) == (None, 1e-7, 'torch')
    assert found[0]['versions'] == 'numpy 2, python 3' and found[0]['seed'] == 0 and found[0]['dose'] == 1e3
    assert [row['phase_psnr'] for row in found[:4]] == [29.0, 31.0, 49.0, 51.0]


def test_mean_and_spread_are_over_the_seeds() -> None:
    first, second = group_by_seed([*rows(), {**rows()[0], 'status': 'failed'}], ['phase_psnr', 'residual'])
    assert (first.mean('phase_psnr'), second.mean('phase_psnr')) == (30.0, 50.0)
    assert first.spread('phase_psnr') == pytest.approx(np.sqrt(2)) and first.count('phase_psnr') == 2
    assert np.isnan(first.mean('residual')) and first.spread('residual') == 0


def test_what_varies_makes_curves_and_labels() -> None:
    table: list[dict[str, Any]] = [*rows(), *rows('pinn', passes=2, backend='torch')]
    assert find_varied_factors(table) == ['dose']
    one, two = group_curves(table, 'dose')
    assert (one.label, two.label) == ('engine, 20 passes', 'pinn')
    assert [(x, group.mean('phase_psnr')) for x, group in one.points] == [(1e3, 30.0), (1e5, 50.0)]
    assert label_curve({**table[-1], 'passes': None}, 'overlap', [*table, *rows('pinn', passes=3)]) == (
        'pinn, 1e5 photons, auto passes'
    )
    same_dose = [row for row in table if row['dose'] == 1e3]
    assert (
        find_varied_factors(same_dose) == ['model']
        and [curve.level is not None for curve in group_curves(same_dose, 'model')] == [True] * 2
    )
    sizes: list[dict[str, Any]] = [{**row, 'train_patterns': n} for n in (64, 128) for row in rows('pinn')]
    trained = group_curves([row for row in [*rows(), *sizes] if row['dose'] == 1e3], 'train_patterns')
    assert trained[0].level is not None and trained[0].points == []  # the engine: a level beside the curve
    assert [x for x, _ in trained[1].points] == [64.0, 128.0]


# real runs


@pytest.fixture(scope='module')
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Engine runs at two overlaps, one of them none."""
    folder = tmp_path_factory.mktemp('study') / 'out'
    return folder, told(*TINY, '--overlap', '0,70', '--seeds', 1, '--output-dir', folder)


@pytest.mark.slow
def test_a_study_measures_every_run(done: tuple[Path, Any]) -> None:
    folder, values = done
    assert (values['runs'], values['failed']) == (2, 0)
    found = read_table(folder / 'study.csv')
    assert [(row['overlap'], row['status'], row['passes'], row['error']) for row in found] == [
        (0, 'done', 2, None),
        (70, 'done', 2, None),
    ]
    for row, shown in zip(found, values['rows'], strict=True):
        assert row['phase_psnr'] == pytest.approx(shown['phase_psnr']) and row['cpu_seconds'] > 0.2
        assert row['peak_memory_mib'] > 50 and 'ptychopinn-reconstructor' in row['versions']
        folder_of_run = folder / 'runs' / Run('engine', 1e5, float(row['overlap']), 0, passes=2).name
        result, truth = read_object(folder_of_run / 'product.h5'), read_object(_scan_of(folder, row))
        plain = evaluate(result, truth, margin=2)
        scored = evaluate(result, truth, margin=2, pistons=True) if row['overlap'] == 0 else plain
        assert row['phase_psnr'] == pytest.approx(scored.phase_psnr, abs=1e-6)
        assert row['frc_area'] == pytest.approx(scored.frc.area, abs=1e-6)
        pistons = ('--pistons',) if row['overlap'] == 0 else ()
        line = ('evaluate', folder_of_run / 'product.h5', _scan_of(folder, row), '--margin', 2, *pistons, '--json')
        compared = json.loads(run(*map(str, line)).stdout)
        assert compared['results'][0]['phase_psnr'] == pytest.approx(row['phase_psnr'], abs=1e-6)
    assert found[0]['phase_psnr'] > found[0]['phase_psnr_global']


def _scan_of(folder: Path, row: dict[str, Any]) -> Path:
    return folder / 'scans' / f'1e5-photons_{row["overlap"]:g}-overlap_seed-0.npz'


@pytest.mark.slow
def test_the_page_stands_alone_and_shows_curves_and_objects(done: tuple[Path, Any]) -> None:
    text = (done[0] / 'study.html').read_text(encoding='utf-8')
    assert 'piston' in text and '2 of 2 runs' in text
    sources = re.findall(r'src="([^"]+)"', text)
    assert len(sources) == 3 and not re.search(r'(src|href)="(?!data:)', text)
    kinds = [source.partition(';')[0] for source in sources]
    assert kinds == ['data:image/svg+xml', 'data:image/png', 'data:image/png']
    drawn = base64.b64decode(sources[0].partition(',')[2])
    assert b'<svg' in drawn
    picture = imread(io.BytesIO(base64.b64decode(sources[1].partition(',')[2])))
    assert min(picture.shape[:2]) > 150 and float(np.std(picture[..., :3])) > 0.1


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_the_grid_may_grow(done: tuple[Path, Any], tmp_path: Path) -> None:
    folder = tmp_path / 'copy'
    shutil.copytree(done[0], folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('run.json')}
    values = told(*TINY, '--overlap', '0,70', '--dose', '1e5,1e3', '--seeds', 1, '--output-dir', folder)
    assert values['runs'] == 4 and [row['dose'] for row in values['rows']] == [1e5, 1e5, 1e3, 1e3]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.rglob('run.json'))) == 4
    assert values['rows'][0] == done[1]['rows'][0]


@pytest.mark.slow
def test_a_folder_holds_one_study(done: tuple[Path, Any], tmp_path: Path) -> None:
    line = ('--n', 32, '--area', 44, '--model', 'engine', '--engine-passes', 1, '--seeds', 1, '--overlap', 70)
    assert_refused(study(*line, '--output-dir', done[0]), ('area 40.0, not 44.0', '--overwrite'))
    folder = tmp_path / 'copy'
    shutil.copytree(done[0], folder)
    (folder / 'mine.txt').write_text('kept')
    assert told(*line, '--output-dir', folder, '--overwrite')['runs'] == 1
    assert len(list((folder / 'runs').iterdir())) == 1 and (folder / 'mine.txt').exists()


@pytest.mark.skipif(not CAN_LOCK, reason='locks of POSIX')
def test_two_studies_are_never_in_one_folder_at_a_time(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({'host': 'elsewhere', 'pid': 7, 'job': 'study'}))
    with (tmp_path / LOCK).open('r+') as other:
        assert lock_file(other)
        with pytest.raises(OutputError, match=r"in use by process 7 on 'elsewhere' \('study'\)"):
            run_study(Study(model=('engine',), seeds=1), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_list_names_the_runs_with_their_states_and_writes_nothing(tmp_path: Path) -> None:
    values = told('dose', '--seeds', 1, '--model', 'pinn,engine', '--list', '--output-dir', tmp_path / 'o')
    assert (values['runs'], values['trainings']) == (6 * (2 + 3), 6)
    assert set(values['jobs'].values()) == {'open'} and len(values['jobs']) == values['runs']
    assert values['training_cpu_seconds_at_most'] == 6 * 240 and not (tmp_path / 'o').exists()


@pytest.mark.slow
def test_networks_train_once_for_all_passes_and_a_failure_stops_nothing(tmp_path: Path) -> None:
    """A training on 20 patterns fails, since n_subsample asks for more; the others are measured."""
    small = ('--n', 32, '--area', 36, '--overlap', 75, '--seeds', 1, '--backend', backend_here(), '--patterns-seen', 60)
    settings = ('--set', 'n_filters_scale=0.5', '--set', 'n_subsample=30')
    grid = ('--model', 'pinn,engine', '--train-patterns', '20,36', '--passes', '0,1', '--engine-passes', 1)
    result = study(*small, *settings, *grid, '--output-dir', tmp_path / 'o')
    assert result.exit_code == 1
    assert '2 of 5 runs failed' in result.stderr and 'n_subsample is 30' in result.stderr
    found = read_table(tmp_path / 'o' / 'study.csv')
    assert [row['status'] == 'failed' for row in found] == [row['train_patterns'] == 20 for row in found]
    assert all('n_subsample is 30' in row['error'] for row in found if row['status'] == 'failed')
    trained = [row for row in found if row['model'] == 'pinn' and row['train_patterns'] == 36]
    assert len({row['fit_cpu_seconds'] for row in trained}) == 1 and {row['epochs'] for row in trained} == {2}
    assert [row['refine_passes'] for row in trained] == [0, 1]
    assert trained[0]['residual'] != trained[1]['residual'] and trained[0]['train_cpu_seconds'] > 0.5
    assert len(list((tmp_path / 'o').rglob('model.safetensors'))) == 1
    page = (tmp_path / 'o' / 'study.html').read_text(encoding='utf-8')
    assert 'Without figures' in page and 'n_subsample is 30' in page


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    line = [*map(str, TINY), '--seeds', '40', '--overlap', '60', '--output-dir', str(tmp_path / 'o')]
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', 'study', *line]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob('run.json')) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130 and 'the same command goes on' in said and len(error_lines(said)) == 1
    there = read_table(tmp_path / 'o' / 'study.csv')
    assert 1 <= len(there) < 40 and len(there) == len(list(tmp_path.rglob('run.json')))
    assert f'{len(there)} of 40 runs' in (tmp_path / 'o' / 'study.html').read_text(encoding='utf-8')
    line[line.index('--seeds') + 1] = str(len(there))
    assert told(*line)['rows'][0]['phase_psnr'] == pytest.approx(there[0]['phase_psnr'])


def test_what_all_runs_need_is_checked_before_the_first(tmp_path: Path) -> None:
    out = ('--output-dir', tmp_path / 'o')
    assert_refused(study(*out, '--scan', tmp_path / 'no.npz'), ('no.npz',))
    assert_refused(study(*out, '--object', 'cat'), ("'cat'", 'cells'))
    assert_refused(study(*out, '--backend', 'jax'), ('jax',))
    assert_refused(study(*out, '--model', 'pretrained', '--pretrained', tmp_path / 'm.zip'), ('m.zip',))
    assert_refused(study(*out, '--area', 20, '--overlap', '-90', '--model', 'engine'), ('43.3 px', 'area of 20'))
    assert not (tmp_path / 'o').exists()
    with pytest.raises(ConfigError, match='seeds'):
        read_description(None, {'seeds': 0})
