"""The checks of reconstructors: over ours, over a toy, and over toys that are broken."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, TrainOutput
from ptychodus.api.settings import SettingsRegistry
from toy_reconstructor import Toy, subject_of

from ptychopinn_reconstructor.backend import installed, resolve_title
from ptychopinn_reconstructor.host.conformance import FORMS, Instance, ReconstructorConformance, Subject
from ptychopinn_reconstructor.host.conformance.runs import Runs
from ptychopinn_reconstructor.host.conformance.watch import list_children
from ptychopinn_reconstructor.host.library import LOGGER, PtychoPINNLibrary

pytest_plugins = ['ptychopinn_reconstructor.host.conformance.plugin']

EPOCHS, QUICK_EPOCHS = 30, 2
FRAMEWORKS = ('torch', 'lightning', 'tensorflow', 'keras')


def our_subject(name: str) -> Subject:
    """One of our reconstructors over settings of its own, with a backend that is here, on the CPU."""
    titles = [resolve_title(backend) for backend in installed()]
    if not titles:
        pytest.skip('no backend is installed')

    def make(scratch: Path, quick: bool) -> Instance:
        library = PtychoPINNLibrary(SettingsRegistry())
        values = {'backend': titles[0], 'device': 'cpu', 'batch_size': 16, 'nepochs': QUICK_EPOCHS if quick else EPOCHS}
        for key, value in values.items():
            library.settings[key].set_value(value)
        library.settings['scratch_dir'].set_value(str(scratch))
        stopped = threading.Event()
        library.session.should_stop = stopped.is_set
        reconstructor = next(one for one in library.reconstructors if one.name == name)
        return Instance(reconstructor, library.session.training_on, stopped.set)

    return Subject(
        library='PtychoPINN', make=make, training_forms=frozenset(FORMS), logger=LOGGER, not_imported=FRAMEWORKS
    )


@pytest.fixture(scope='class')
def conformance_subject(request: pytest.FixtureRequest) -> Subject:
    """Each of the classes below says what it checks."""
    subject: Subject = request.cls.subject()
    return subject


class TestPINN(ReconstructorConformance):
    """Every check over the network that learns from the patterns."""

    @staticmethod
    def subject() -> Subject:
        return our_subject('PINN')


class TestSupervised(ReconstructorConformance):
    """Every check over the network that learns from an object."""

    @staticmethod
    def subject() -> Subject:
        return our_subject('Supervised')


class TestToy(ReconstructorConformance):
    """Every check over a reconstructor of somebody else."""

    @staticmethod
    def subject() -> Subject:
        return subject_of(Toy)


class Goalless(Toy):
    def get_progress_goal(self) -> int:
        return 0


class Undotted(Toy):
    def get_model_file_extension(self) -> str:
        return 'npy'


class Unfiltered(Toy):
    def get_training_data_file_filter(self) -> str:
        return ''


class Inventive(Toy):
    """Without a model it returns what it was given."""

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        if self.remembered is None:
            self.remembered = parameters.product.object_.get_layer(0)
        return super().reconstruct(parameters)


class Careless(Toy):
    """Does not look at the propagation."""

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        metadata = replace(parameters.product.metadata, far_field=True)
        return super().reconstruct(replace(parameters, product=replace(parameters.product, metadata=metadata)))


class Silent(Toy):
    """Errors of a training end it as if it were done."""

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        try:
            yield from super().train(input_path, output_path)
        except ValueError:
            return


class Untold(Toy):
    def failure(self, text: str) -> ValueError:
        return ValueError(text)


class Wordy(Toy):
    def failure(self, text: str) -> ValueError:
        return super().failure(f'{text}\nTraceback:\n  somewhere')


class Backwards(Toy):
    def epochs(self) -> Iterator[TrainOutput]:
        done = list(super().epochs())
        yield from [done[1], done[0], *done[2:]]


class Unfinished(Toy):
    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        yield next(super().reconstruct(parameters))


class Diverged(Toy):
    def epochs(self) -> Iterator[TrainOutput]:
        for output in super().epochs():
            yield replace(output, training_loss=[LossValue(1, float('nan'))])


class Misplaced(Toy):
    """Its model has another name."""

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        yield from super().train(input_path, output_path)
        (output_path / 'model.npy').rename(output_path / 'weights.npy')


class Intruding(Toy):
    """Leaves a file where it was only to read."""

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        yield from super().train(input_path, output_path)
        (input_path / 'cache.bin').write_bytes(b'1')


class Untidy(Toy):
    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        (self.scratch / 'job').mkdir(exist_ok=True)
        yield from super().reconstruct(parameters)
        (self.scratch / 'job').rmdir()


class Fathering(Toy):
    """Its child process outlives a job that is closed."""

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])
        yield from super().reconstruct(parameters)
        child.kill()
        child.wait()


class Spoiling(Toy):
    """Works in the host's own arrays."""

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        parameters.diffraction_patterns[:, 0, 0] += 1
        return super().reconstruct(parameters)


class Fickle(Toy):
    """No two of its results are equal."""

    def model(self) -> NDArray[Any]:
        return super().model() + np.random.default_rng().normal(0, 1e-4, ())


class Forgetful(Toy):
    """A model that was saved is not the one that is opened."""

    def save_model(self, file_path: Path) -> None:
        np.save(file_path, np.round(self.model(), 2))


class Credulous(Toy):
    """Takes any file for a model."""

    def load_model_from_file(self, file_path: Path) -> None:
        try:
            super().load_model_from_file(file_path)
        except ValueError:
            self.remembered = np.ones((66, 78), dtype=complex)


class Losing(Toy):
    """A wrong file costs it the model that it had."""

    def load_model_from_file(self, file_path: Path) -> None:
        self.remembered = None
        super().load_model_from_file(file_path)


class Deaf(Toy):
    def epochs(self) -> Iterator[TrainOutput]:
        self.stopped = threading.Event()
        return super().epochs()


class Heavy(Toy):
    """Imports its framework where it is called."""

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        import wave  # noqa: F401 - stands for a framework

        return super().reconstruct(parameters)


class MainThreaded(Toy):
    """Cannot be used in a thread."""

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        return super().reconstruct(parameters)


class Altering(Toy):
    """Changes the product that it returns."""

    def output(self, parameters: ReconstructInput, array: NDArray[Any], progress: int) -> ReconstructOutput:
        good = super().output(parameters, array, progress)
        return replace(good, product=replace(good.product, **self.changes(good)))

    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        raise NotImplementedError

    @staticmethod
    def placed(good: ReconstructOutput, array: NDArray[Any], pixels: float = 0.0) -> dict[str, Any]:
        """Another object, its center `pixels` to the right."""
        geometry = good.product.object_.get_geometry()
        center = ObjectCenter(geometry.center_x_m + pixels * geometry.pixel_width_m, geometry.center_y_m)
        return {'object_': Object(array, geometry.get_pixel_geometry(), center)}


class Renaming(Altering):
    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        return {'metadata': replace(good.product.metadata, name='result')}


class Dropping(Altering):
    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        return {'probe_positions': good.product.probe_positions[:-1]}


class NotFinite(Altering):
    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        array = good.product.object_.get_array().copy()
        array[..., :2] = np.nan
        return self.placed(good, array)


class Flipped(Altering):
    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        return self.placed(good, good.product.object_.get_array()[:, ::-1])


class Transposed(Altering):
    """With x and y exchanged everywhere."""

    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        return self.placed(good, good.product.object_.get_array().transpose(0, 2, 1))


class Conjugate(Altering):
    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        return self.placed(good, good.product.object_.get_array().conj())


class HalfPixel(Altering):
    """Takes W/2 for the middle of an array."""

    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        return self.placed(good, good.product.object_.get_array(), pixels=0.5)


class ModeLosing(Altering):
    def changes(self, good: ReconstructOutput) -> dict[str, Any]:
        probes = good.product.probes
        return {'probes': type(probes)(probes.get_array()[:, :1], None, probes.get_pixel_geometry())}


class NotTrainable:
    """Has the methods but not the type."""

    def __init__(self, scratch: Path) -> None:
        toy = Toy(scratch)
        self.training_on, self.stopped = toy.training_on, toy.stopped


WHERE, PRODUCT = 'test_the_object_lies_where_the_true_one_lies', 'test_every_product_is_what_the_host_needs'
TRAINED, SAVED = 'test_a_training_reports_progress_and_losses', 'test_a_saved_model_gives_the_same_in_another_object'
CLOSED, LEFT = (
    'test_closed_early_it_leaves_nothing_and_works_again',
    'test_nothing_is_left_and_nothing_handed_in_changes',
)
NOTHING, REPORTS = 'test_training_on_nothing_is_an_error', 'test_a_reconstruction_reports_its_progress'
FAULTS: list[tuple[str, type[Any], dict[str, Any], dict[str, Any]]] = [
    ('test_the_interface_is_complete', NotTrainable, {}, {}),
    ('test_its_name_makes_a_key', Toy, {'library': 'My_Toys'}, {}),
    ('test_there_is_always_a_progress_goal', Goalless, {}, {}),
    ('test_its_files_can_be_chosen_in_a_dialog', Undotted, {}, {}),
    ('test_its_files_can_be_chosen_in_a_dialog', Unfiltered, {}, {}),
    ('test_without_a_model_it_says_so', Inventive, {}, {}),
    ('test_without_a_model_it_says_so', Wordy, {}, {}),
    ('test_near_field_is_refused', Careless, {}, {}),
    (NOTHING, Silent, {}, {}),
    (NOTHING, Untold, {}, {}),
    (TRAINED, Backwards, {}, {}),
    (TRAINED, Diverged, {}, {}),
    (REPORTS, Unfinished, {}, {}),
    (REPORTS, MainThreaded, {}, {}),
    ('test_a_training_leaves_its_model', Misplaced, {}, {}),
    ('test_it_trains_from', Intruding, {}, {'form': 'pair'}),
    (LEFT, Intruding, {}, {}),
    (LEFT, Spoiling, {}, {}),
    (CLOSED, Untidy, {}, {}),
    (CLOSED, Fathering, {}, {}),
    (CLOSED, Fickle, {}, {}),
    ('test_a_training_can_be_ended', Deaf, {}, {'how': 'stopped'}),
    (SAVED, Forgetful, {}, {}),
    (SAVED, Losing, {}, {}),
    ('test_a_wrong_file_is_refused', Credulous, {}, {'kind': 'another format'}),
    ('test_no_framework_is_imported_here', Heavy, {'not_imported': ('wave',)}, {}),
    ('test_two_incoherent_modes', ModeLosing, {}, {}),
    (PRODUCT, Renaming, {}, {}),
    (PRODUCT, Dropping, {}, {}),
    (PRODUCT, NotFinite, {}, {}),
    (WHERE, Flipped, {}, {}),
    (WHERE, Transposed, {}, {}),
    (WHERE, Conjugate, {}, {}),
    (WHERE, HalfPixel, {}, {}),
]


@pytest.fixture
def tidied() -> Iterator[None]:
    """What a broken toy leaves in this process."""
    before = list_children()
    yield
    sys.modules.pop('wave', None)
    for child in list_children() - before:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def run_check(name: str, subject: Subject, folder: Path, arguments: dict[str, Any]) -> None:
    """One check of the suite, as pytest calls it."""
    method = getattr(ReconstructorConformance(), name)
    offered = {'conformance_jobs': Runs(subject, folder), **arguments}
    asked = inspect.signature(method).parameters
    method(**{key: value for key, value in offered.items() if key in asked})


@pytest.mark.usefixtures('tidied')
@pytest.mark.parametrize('number', range(len(FAULTS)), ids=[f'{kind.__name__}-{name}' for name, kind, *_ in FAULTS])
def test_a_broken_reconstructor_is_found_out(tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int) -> None:
    """Each fault is planted into a toy that passes; a check that finds nothing is no check."""
    name, kind, declared, arguments = FAULTS[number]
    arguments = {'caplog': caplog, **arguments}
    run_check(name, subject_of(Toy), tmp_path / 'sound', arguments)
    caplog.clear()
    with pytest.raises((Exception, pytest.fail.Exception)):
        run_check(name, subject_of(kind, **declared), tmp_path / 'broken', arguments)


def test_beside_the_upstream_package_the_library_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: it then fills the host's own library of our name; both can be chosen."""
    assert PtychoPINNLibrary(SettingsRegistry()).name == 'PtychoPINN'
    (tmp_path / 'ptycho').mkdir()
    (tmp_path / 'ptycho' / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    name = PtychoPINNLibrary(SettingsRegistry()).name
    assert name == 'PtychoPINN-Plugin' and '_' not in name


def test_without_a_subject_the_suite_says_what_to_do(tmp_path: Path) -> None:
    """In a project of its own, with nothing but what specs/conformance.md asks for, less the fixture."""
    (tmp_path / 'conftest.py').write_text("pytest_plugins = ['ptychopinn_reconstructor.host.conformance.plugin']\n")
    (tmp_path / 'test_mine.py').write_text(
        'from ptychopinn_reconstructor.host.conformance import ReconstructorConformance\n\n\n'
        'class TestMine(ReconstructorConformance):\n    pass\n'
    )
    command = [sys.executable, '-P', '-m', 'pytest', '-p', 'no:cacheprovider', '--strict-markers', '-q', '-x']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and 'override the fixture conformance_subject' in done.stdout, done.stdout
