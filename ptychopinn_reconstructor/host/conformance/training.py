"""Training: clauses P8, P9, P15, P19, P27, P45, P47, P62."""

from __future__ import annotations

import logging

import pytest
from ptychodus.api.reconstruct import TrainOutput

from .interface import is_one_sentence
from .results import check_losses, check_progress
from .runs import Runs
from .subject import FORMS
from .watch import run_in_thread


class TrainingChecks:
    """Checks of the outputs and files of `train`."""

    @pytest.mark.slow
    def test_a_training_reports_progress_and_losses(self, conformance_jobs: Runs) -> None:
        """P8, P15, P19: in a thread that is not the main one."""
        heard = conformance_jobs.trained.heard
        assert all(isinstance(output, TrainOutput) for output in heard.outputs)
        check_progress(heard)
        for output in heard.outputs:
            check_losses(output.training_loss)
            check_losses(output.validation_loss)
        assert heard.outputs[-1].training_loss, 'no loss is reported'

    @pytest.mark.slow
    def test_a_training_leaves_its_model(self, conformance_jobs: Runs) -> None:
        """P9, P47: OUT/model{ext}, where the host looks for it, and Infer can begin."""
        trained = conformance_jobs.trained
        assert trained.model.is_file() and trained.model.stat().st_size
        assert trained.loaded_before is False
        assert trained.instance.reconstructor.is_model_loaded() is True

    @pytest.mark.slow
    @pytest.mark.parametrize('form', FORMS)
    def test_it_trains_from(self, conformance_jobs: Runs, form: str) -> None:
        """P14, P45, P47: every form that it takes; the input folder stays as it was."""
        if form not in conformance_jobs.subject.training_forms:
            pytest.skip(f'it does not train from the form {form!r}')
        if form == conformance_jobs.form():
            trained = conformance_jobs.trained
        else:
            trained = conformance_jobs.train(form, conformance_jobs.scan.labeled)
        assert trained.model.is_file() and trained.model.stat().st_size
        assert trained.leftovers == {}
        assert not trained.changed_input
        check_progress(trained.heard)

    def test_training_on_nothing_is_an_error(self, conformance_jobs: Runs, caplog: pytest.LogCaptureFixture) -> None:
        """P27, P45, P62: raised in one sentence, which is also logged where the host shows it."""
        place = conformance_jobs.place()
        reconstructor = conformance_jobs.new(place).reconstructor
        state = place.state()
        with caplog.at_level(logging.ERROR), place.enter(), pytest.raises(Exception) as error:
            run_in_thread(lambda: list(reconstructor.train(place.input, place.output)))
        assert is_one_sentence(error.value)
        assert place.find_leftovers(state) == {}
        assert reconstructor.is_model_loaded() is False
        logger = conformance_jobs.subject.logger
        records = [record for record in caplog.records if f'{record.name}.'.startswith(f'{logger}.')]
        assert not logger or any(str(error.value) in record.getMessage() for record in records)
