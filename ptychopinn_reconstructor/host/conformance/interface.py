"""Interface without running a job: clauses P6 to P8, P12, P30."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ptychodus.api.reconstruct import TrainableReconstructor

from ..releases import KNOWS_NEAR_FIELD
from .runs import Runs
from .watch import run_in_thread

FILTER = re.compile(r'\S.*\((\*\.\w+)( \*\.\w+)*\)')  # as Qt's file dialogs read it


def is_one_sentence(error: Exception) -> bool:
    """Whether a message is one line that can be displayed unchanged."""
    text = str(error)
    return len(text.split()) >= 3 and '\n' not in text.strip()


class InterfaceChecks:
    """Checks of the interface before anything runs."""

    def test_the_interface_is_complete(self, conformance_jobs: Runs) -> None:
        """P6: nothing abstract is left, and the host takes it for trainable."""
        reconstructor = conformance_jobs.new(conformance_jobs.place()).reconstructor
        assert isinstance(reconstructor, TrainableReconstructor)
        assert not getattr(type(reconstructor), '__abstractmethods__', frozenset())

    def test_its_name_makes_a_key(self, conformance_jobs: Runs) -> None:
        """P4, P7: the host splits the key at its first underscore and gets both names back."""
        library, name = (
            conformance_jobs.subject.library,
            conformance_jobs.new(conformance_jobs.place()).reconstructor.name,
        )
        key = f'{library.casefold()}_{name.casefold()}'
        assert library and name and key == key.strip()
        assert key.split('_', maxsplit=1) == [library.casefold(), name.casefold()]

    def test_there_is_always_a_progress_goal(self, conformance_jobs: Runs) -> None:
        """P8: a goal of 0 leaves the window without a progress bar and a Stop button."""
        instance = conformance_jobs.new(conformance_jobs.place())
        goals = [instance.reconstructor.get_progress_goal()]
        with instance.training_on(conformance_jobs.scan.labeled):
            goals.append(instance.reconstructor.get_progress_goal())
        assert all(goal > 0 for goal in goals), goals

    def test_its_files_can_be_chosen_in_a_dialog(self, conformance_jobs: Runs) -> None:
        """P12: filters for both dialogs, an extension with its dot that the filter of models lets through."""
        reconstructor = conformance_jobs.new(conformance_jobs.place()).reconstructor
        extension = reconstructor.get_model_file_extension()
        assert re.fullmatch(r'(\.\w+)+', extension)
        for found in (reconstructor.get_model_file_filter(), reconstructor.get_training_data_file_filter()):
            assert FILTER.fullmatch(found), found
        patterns = reconstructor.get_model_file_filter().rpartition('(')[2].rstrip(')').split()
        assert any(Path(f'model{extension}').match(pattern) for pattern in patterns)

    def test_without_a_model_it_says_so(self, conformance_jobs: Runs) -> None:
        """P9, P11, P27: is_model_loaded is false, and nothing is made up or written instead."""
        place = conformance_jobs.place()
        reconstructor = conformance_jobs.new(place).reconstructor
        assert reconstructor.is_model_loaded() is False
        with place.enter(), pytest.raises(Exception) as inferring:
            run_in_thread(lambda: list(reconstructor.reconstruct(conformance_jobs.scan.unknown)))
        file = place.output / f'model{reconstructor.get_model_file_extension()}'
        with pytest.raises(Exception) as saving:
            reconstructor.save_model(file)
        assert is_one_sentence(inferring.value) and is_one_sentence(saving.value)
        assert not list(place.output.iterdir())

    def test_near_field_is_refused(self, conformance_jobs: Runs) -> None:
        """P30: in one sentence, before anything is computed."""
        if not conformance_jobs.subject.far_field_only:
            pytest.skip('it takes near-field scans too')
        if not KNOWS_NEAR_FIELD:
            pytest.skip('this Ptychodus knows far field only')
        from .scans import make_near_field_input

        place = conformance_jobs.trained.place
        reconstructor = conformance_jobs.trained.instance.reconstructor
        with place.enter(), pytest.raises(Exception, match=r'(?i)near.field') as error:
            run_in_thread(lambda: list(reconstructor.reconstruct(make_near_field_input(conformance_jobs.scan.unknown))))
        assert is_one_sentence(error.value)
