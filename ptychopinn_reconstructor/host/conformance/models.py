"""Model files: clauses P9 to P11, P37."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .interface import is_one_sentence
from .results import largest_difference
from .runs import Runs

WRONG: dict[str, Callable[[bytes], bytes | None]] = {
    'missing': lambda model: None,
    'empty': lambda model: b'',
    'another format': lambda model: b'no model at all\n' * 40,
    'truncated': lambda model: model[: len(model) // 2],
}


def write_wrong_file(runs: Runs, folder: Path, kind: str) -> Path:
    """Path of a written file with the right extension that is no model."""
    file = folder / f'wrong{runs.trained.model.suffix}'
    content = WRONG[kind](runs.trained.model.read_bytes())
    if content is not None:
        file.write_bytes(content)
    return file


class ModelChecks:
    """Checks of opening and saving models."""

    @pytest.mark.slow
    @pytest.mark.parametrize('kind', WRONG)
    def test_a_wrong_file_is_refused(self, conformance_jobs: Runs, kind: str) -> None:
        """P10, P27: in one sentence that names the file, and there is no model as before."""
        place = conformance_jobs.place()
        reconstructor = conformance_jobs.new(place).reconstructor
        file = write_wrong_file(conformance_jobs, place.input, kind)
        with pytest.raises(Exception, match=file.stem) as error:
            reconstructor.load_model_from_file(file)
        assert is_one_sentence(error.value)
        assert reconstructor.is_model_loaded() is False

    @pytest.mark.slow
    def test_a_saved_model_gives_the_same_in_another_object(self, conformance_jobs: Runs) -> None:
        """P9, P10, P11, P37: a wrong file that is tried afterwards changes nothing."""
        place = conformance_jobs.place()
        file = place.output / f'saved{conformance_jobs.trained.model.suffix}'
        conformance_jobs.trained.instance.reconstructor.save_model(file)
        assert [path.name for path in place.output.iterdir()] == [file.name]
        instance = conformance_jobs.new(place)
        instance.reconstructor.load_model_from_file(file)
        assert instance.reconstructor.is_model_loaded() is True
        with pytest.raises(Exception, match='wrong'):
            instance.reconstructor.load_model_from_file(write_wrong_file(conformance_jobs, place.input, 'truncated'))
        assert instance.reconstructor.is_model_loaded() is True
        found = conformance_jobs.reconstruct(place, instance, conformance_jobs.scan.unknown)
        assert largest_difference(found, conformance_jobs.result) <= conformance_jobs.subject.repeatability
