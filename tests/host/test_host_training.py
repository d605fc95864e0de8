"""Training inside Ptychodus: what on, how it is stopped and resumed, and what becomes of a worker that dies."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_sessions import PINN, SUPERVISED, Case, Finished, Host, session, unstarted
from ptychodus.api.object import Object

from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.host.connection import BusyError, _add_training_product, name_training_product
from ptychopinn_reconstructor.host.runner import WorkerDied
from ptychopinn_reconstructor.host.scans import HostScan
from ptychopinn_reconstructor.host.training_data import TrainingFiles, find_training_files
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.worker.handover import PREFIX

LONG = 400
HANG = 300.0


@pytest.fixture
def host() -> Iterator[Host]:
    with session() as found:
        yield found


def losses_of(model: Path) -> list[tuple[int, float]]:
    return [(int(epoch), float(loss)) for epoch, loss in open_model(model).manifest.training.losses]


# What is trained on


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    """The first kind that is there, in a fixed order; what a training of ours has left is none of it."""

    def add(*names: str) -> TrainingFiles | None:
        for name in names:
            (tmp_path / name).touch()
        return find_training_files(tmp_path)

    assert add('probe.npz', 'settings.ini', 'product.h5') is None
    assert add('b.npz', 'a.npz') == TrainingFiles((tmp_path / 'a.npz', tmp_path / 'b.npz'))
    assert add('test_data.npz') == TrainingFiles(tuple(tmp_path / f'{n}.npz' for n in ('a', 'b', 'test_data')))
    assert add('diffraction.h5') == TrainingFiles((tmp_path,))
    (tmp_path / 'product.h5').unlink()
    with pytest.raises(ScanError, match=r'diffraction\.h5 but no product\.h5'):
        find_training_files(tmp_path)
    assert add('train_data.npz') == TrainingFiles((tmp_path / 'train_data.npz',), tmp_path / 'test_data.npz')
    (tmp_path / 'test_data.npz').unlink()
    assert find_training_files(tmp_path) == TrainingFiles((tmp_path / 'train_data.npz',))
    with pytest.raises(ScanError, match='not a folder'):
        find_training_files(tmp_path / 'absent')


@pytest.fixture
def exported(folder: Path, tmp_path: Path) -> Path:
    """What the host exports for PtychoPINN: patterns as intensity."""
    host = unstarted()
    host.open(folder).export_training_data(tmp_path / 'exported.npz', algorithm=PINN)
    return tmp_path / 'exported.npz'


@pytest.mark.slow
def test_training_on_what_the_host_exports(exported: Path, trained: Finished, tmp_path: Path) -> None:
    """train_data.npz with intensities, understood as such: the same training as on the product itself."""
    host = unstarted()
    shutil.copy(exported, tmp_path / 'train_data.npz')
    outputs = list(host.library.reconstructors[0].train(tmp_path, tmp_path / 'out'))
    assert [output.progress for output in outputs] == [1, 2]
    mine, theirs = (open_model(path / 'out' / 'model.safetensors').manifest for path in (tmp_path, trained.folder))
    assert mine.training.scans == (str(tmp_path / 'train_data.npz'),)
    assert np.allclose(mine.training.losses, theirs.training.losses, rtol=1e-4)
    assert mine.scaling.mean_counts == pytest.approx(theirs.scaling.mean_counts)
    assert 'Measurement domain: counts' in '\n'.join(host.log())


@pytest.mark.slow
def test_test_data_is_validated_on(exported: Path, tmp_path: Path) -> None:
    """The input folder is the output folder too, as in the window; all of train_data.npz is trained on."""
    host = unstarted(**{'PtychoPINNTraining.NumEpochs': 1})
    for name in ('train_data.npz', 'test_data.npz'):
        shutil.copy(exported, tmp_path / name)
    (output,) = host.library.reconstructors[0].train(tmp_path, tmp_path)
    assert len(output.training_loss) == len(output.validation_loss) == 1 and output.validation_loss[0].value > 0
    assert open_model(tmp_path / 'model.safetensors').manifest.training.scans == (str(tmp_path / 'train_data.npz'),)
    assert 'train_data.npz, validated on test_data.npz' in '\n'.join(host.log())


@pytest.mark.slow
def test_training_on_a_folder_of_exported_files(exported: Path, tmp_path: Path) -> None:
    host = unstarted(**{'PtychoPINNTraining.NumEpochs': 1})
    given = tmp_path / 'given'
    given.mkdir()
    for name in ('b.npz', 'a.npz'):
        shutil.copy(exported, given / name)
    list(host.library.reconstructors[0].train(given, tmp_path / 'out'))
    assert open_model(tmp_path / 'out' / 'model.safetensors').manifest.training.scans == (
        str(given / 'a.npz'),
        str(given / 'b.npz'),
    )
    assert sorted(path.name for path in given.iterdir()) == ['a.npz', 'b.npz']


def test_nothing_to_train_on_is_a_sentence(tmp_path: Path) -> None:
    """Without files and without a selected product."""
    host = unstarted()
    with pytest.raises(ScanError, match=r'train_data\.npz .* diffraction\.h5'):
        next(iter(host.library.reconstructors[0].train(tmp_path, tmp_path / 'out')))
    assert not (tmp_path / 'out').exists()


def test_an_export_gets_its_suffix_and_needs_an_object(case: Case, tmp_path: Path) -> None:
    """As the host's own export, which NumPy gives the suffix; a product without an object is a sentence."""
    pinn = unstarted().library.reconstructors[0]
    pinn.export_training_data(tmp_path / 'a scan', case.input)
    pinn.export_training_data(tmp_path / 'other.npz', case.input)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a scan.npz', 'other.npz']
    with np.load(tmp_path / 'a scan.npz') as file:
        assert np.array_equal(file['diff3d'], case.scan.diffraction)
        assert np.allclose(file['xcoords'], case.scan.positions[:, 1])
    with pytest.raises(ScanError, match='object'):
        pinn.export_training_data(tmp_path / 'third.npz', case.with_product(object_=Object(None, None, None)).input)
    assert not (tmp_path / 'third.npz').exists()


@pytest.mark.slow
def test_supervised_training_uses_the_object(case: Case, folder: Path, tmp_path: Path) -> None:
    """As its label: trained on the true one it gives another model than on the flat one, and says what it is."""
    host = unstarted(**{'PtychoPINNTraining.NumEpochs': 1})
    reconstructor = host.library.reconstructors[1]
    assert case.scan.object is not None
    before = case.product.object_
    true = Object(case.scan.object.astype(complex), before.get_pixel_geometry(), before.get_center())
    (tmp_path / 'in').mkdir()
    losses = []
    for name, product in (('true', replace(case.product, object_=true)), ('flat', case.product)):
        with host.library.session.training_on(replace(case.input, product=product)):
            (output,) = reconstructor.train(tmp_path / 'in', tmp_path / name)
        losses.append(output.training_loss[0].value)
        manifest = open_model(tmp_path / name / 'model.safetensors').manifest
        assert manifest.config.model.model_type == 'supervised'
    assert losses[0] > 2 * losses[1]
    without = replace(case.input, product=replace(case.product, object_=Object(None, None, None)))
    with host.library.session.training_on(without), pytest.raises(ScanError, match='Supervised training needs an obj'):
        list(reconstructor.train(tmp_path / 'in', tmp_path / 'none'))


@pytest.mark.parametrize('name', ['scan', f'scan_{PINN}_training', f'scan_{PINN}_training-12'])
def test_the_product_of_a_training_is_tagged_once(name: str) -> None:
    assert name_training_product(name, PINN) == f'scan_{PINN}_training'
    assert name_training_product(name, SUPERVISED) == f'{name}_{SUPERVISED}_training'


def test_a_window_that_draws_slowly_is_shown_no_more_than_it_draws(host: Host, folder: Path) -> None:
    """What comes before it has drawn the last state is left out, but for the end of the training."""
    product, tasks = host.open(folder), host.model._task_manager
    products = host.model.product_core.product_api
    shown = _add_training_product(host.library.session, products, host.monitor, {'product_index': 0}, PINN)
    scan = HostScan.of(product.get_reconstruct_input())
    assert shown is not None

    def show(epochs: int, *, last: bool = False) -> int:
        shown.show(scan, None, [(epoch, 1 / epoch) for epoch in range(1, epochs + 1)], last=last)
        return int(tasks.foreground_queue_size)

    host.model.run_tasks()
    first = show(1)
    assert [show(epochs) for epochs in (2, 3, 4)] == 3 * [first] and first > 0
    assert len(host.products()[1].losses) == 1
    assert show(5) == first and len(host.products()[1].losses) == 5
    assert show(6) < show(7, last=True) and len(host.products()[1].losses) == 7
    assert np.array_equal(host.products()[1].object_.get_array(), host.products()[0].object_.get_array())


# Stop, resume, busy


def wait_for(host: Host, is_it: Callable[[], bool]) -> None:
    """Run the host's main loop until `is_it`."""
    begin = time.monotonic()
    while not is_it():
        host.model.run_tasks()
        assert time.monotonic() - begin < HANG
        time.sleep(0.02)


def worker_of(host: Host) -> int:
    """The process id of the running job: the child whose command line names the worker."""
    children = Path(f'/proc/{os.getpid()}/task').glob('*/children')
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    (found,) = (p for p in pids if b'ptychopinn_reconstructor.worker.main' in Path(f'/proc/{p}/cmdline').read_bytes())
    return found


@pytest.mark.slow
def test_stop_and_resume(host: Host, folder: Path, tmp_path: Path) -> None:
    """After a stop the best epoch becomes the model in use, and a further Train goes on if asked."""
    host.set(**{'PtychoPINNTraining.NumEpochs': LONG})
    (tmp_path / 'in').mkdir()
    out = tmp_path / 'out'
    product = host.open(folder)
    product.train_reconstructor_local(tmp_path / 'in', out, algorithm=PINN)
    wait_for(host, lambda: host.monitor.get_progress() >= 2)
    assert host.monitor.get_progress_goal() == LONG

    with pytest.raises(BusyError, match='training is running'):
        product.train_reconstructor_local(tmp_path / 'in', tmp_path / 'second', algorithm=PINN)
    count = len(host.products())
    host.monitor.stop_processing()
    wait_for(host, lambda: not host.monitor.is_processing)
    assert host.monitor.get_last_error() is None
    with pytest.raises(BusyError, match='model of the stopped training'):
        product.train_reconstructor_local(tmp_path / 'in', tmp_path / 'second', algorithm=PINN)
    wait_for(host, lambda: not host.library.session.is_finishing)
    stopped = open_model(out / 'model.safetensors').manifest.training
    assert stopped.interrupted and list(out.glob('checkpoints/last.*'))
    assert host.library.reconstructors[0].is_model_loaded() and not host.library.session.is_training
    assert not (tmp_path / 'second').exists() and len(host.products()) == count
    log = '\n'.join(host.log())
    assert '[WARNING]' in log and 'last checkpoint' in log and 'A PtychoPINN training is running' in log
    shown = host.products()[1]
    stopped_at = shown.losses[-1].epoch
    assert 2 <= stopped.epochs == stopped_at < LONG

    host.set(**{'PtychoPINNTraining.NumEpochs': stopped_at + 2, 'PtychoPINNPlugin.Resume': True})
    product.train_reconstructor_local(tmp_path / 'in', out, algorithm=PINN, block=True)
    losses = losses_of(out / 'model.safetensors')
    assert [epoch for epoch, _ in losses] == list(range(1, losses[-1][0] + 1))
    assert losses[-1][0] == stopped_at + 2
    assert np.allclose(losses[:stopped_at], [(loss.epoch, loss.value) for loss in shown.losses])
    assert host.library.reconstructors[0].is_model_loaded()
    assert host.monitor.get_progress() == stopped_at + 2


@pytest.mark.slow
def test_a_resumed_training_goes_on_with_the_losses_of_the_earlier_epochs(case: Case, tmp_path: Path) -> None:
    """So that the curve is whole while it runs, not only in the end."""
    host = unstarted()
    (tmp_path / 'in').mkdir()
    with host.library.session.training_on(case.input):
        *_, before = host.library.reconstructors[0].train(tmp_path / 'in', tmp_path / 'out')
        host.set(**{'PtychoPINNPlugin.Resume': True, 'PtychoPINNTraining.NumEpochs': 3})
        (after,) = host.library.reconstructors[0].train(tmp_path / 'in', tmp_path / 'out')
    assert after.progress == 3 and [loss.epoch for loss in after.training_loss] == [1, 2, 3]
    values = [[loss.value for loss in output.training_loss[:2]] for output in (before, after)]
    assert values[1] == pytest.approx(values[0])


@pytest.mark.slow
def test_a_second_training_waits_for_nothing_when_the_first_has_failed(
    host: Host, folder: Path, tmp_path: Path
) -> None:
    """A training that ends with an error, or that the host refuses, does not keep the next from starting."""
    product = host.open(folder)
    (tmp_path / 'in').mkdir()
    host.set(**{'PtychoPINNPlugin.ScratchDir': str(tmp_path / 'absent')})
    for _ in range(2):
        with pytest.raises(OutputError, match='absent is no folder'):
            product.train_reconstructor_local(tmp_path / 'in', tmp_path / 'out', algorithm=PINN, block=True)
    assert not host.library.session.is_training and host.library.session.selected is None


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told(host: Host, folder: Path, model: Path, tmp_path: Path) -> None:
    """In training and in inference: the exception for a script, the panel for a user; the host goes on."""
    (tmp_path / 'in').mkdir()
    (tmp_path / 'scratch').mkdir()
    host.set(
        **{
            'PtychoPINNTraining.NumEpochs': LONG,
            'PtychoPINNPlugin.RefinePasses': 1000,
            'PtychoPINNPlugin.ScratchDir': str(tmp_path / 'scratch'),
            'PtychoPINNInference.ModelPath': model,
        }
    )
    product = host.open(folder)
    jobs: list[Callable[[], Any]] = [
        lambda: product.train_reconstructor_local(tmp_path / 'in', tmp_path / 'out', algorithm=PINN),
        lambda: product.reconstruct_local(algorithm=PINN),
    ]
    for start in jobs:
        start()
        wait_for(host, lambda: host.monitor.get_progress() in (1, 2, 3) or host.monitor.get_progress() >= 90)
        assert len(list((tmp_path / 'scratch').iterdir())) == 1
        os.kill(worker_of(host), signal.SIGKILL)
        wait_for(host, lambda: not host.monitor.is_processing)
        error = host.monitor.get_last_error()
        assert isinstance(error, WorkerDied) and 'exit code -9' in str(error) and 'memory' in str(error)
        assert any('[ERROR]' in line and 'exit code -9' in line for line in host.log())
        assert list((tmp_path / 'scratch').iterdir()) == [], 'the scratch folder goes with the job'
        host.monitor.update_progress(0, 100)
    assert not any(path.name.startswith(PREFIX) for path in (tmp_path / 'out').iterdir())
    host.set(**{'PtychoPINNPlugin.RefinePasses': 0})
    found = product.reconstruct_local(algorithm=SUPERVISED, block=True).get_product()
    assert np.ptp(np.abs(found.object_.get_array())) > 0.01


@pytest.mark.slow
def test_closing_ptychodus_ends_the_worker(folder: Path, tmp_path: Path) -> None:
    """At once, though a training has hours to go."""
    (tmp_path / 'in').mkdir()
    with session(**{'PtychoPINNTraining.NumEpochs': LONG}) as host:
        host.open(folder).train_reconstructor_local(tmp_path / 'in', tmp_path / 'out', algorithm=PINN)
        wait_for(host, lambda: host.monitor.get_progress() >= 1)
        pid = worker_of(host)
    assert not (tmp_path / 'out' / 'model.safetensors').exists()
    assert not Path(f'/proc/{pid}').exists()
    assert list((tmp_path / 'out').glob('checkpoints/last.*'))
