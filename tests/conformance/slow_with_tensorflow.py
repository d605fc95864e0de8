"""Which trainings with TensorFlow are for `make test-all`: each traces its steps for 4 s of CPU time."""

from __future__ import annotations

import pytest

SLOW_WITH_TENSORFLOW = (
    'test_everything_is_written_below_the_output_folder[tensorflow',
    'test_the_loss_is_that_of_the_reference[tensorflow-gridsize 1',
    'test_the_loss_is_that_of_the_reference[tensorflow-gridsize 2',
    'test_the_network_is_seen_as_it_stands_after_every_epoch[tensorflow',
    'test_the_loss_is_that_of_the_reference[tensorflow-gridsize 3',
    'test_the_loss_is_that_of_the_reference[tensorflow-positions',
    'test_the_loss_is_that_of_the_reference[tensorflow-each',
    'test_procedural_patterns_are_learnt_from[tensorflow',
    'test_an_exception_of_the_caller_reaches_the_caller[tensorflow',
    'test_gradients_are_clipped_by_norm[tensorflow',  # tests/backends/test_optimizers.py has it in numbers
    'test_a_loss_that_is_not_finite_ends_the_training[tensorflow',
    'test_a_step_is_one_of_adamw[tensorflow',
    'test_a_stopped_training_resumes_to_the_same_weights[tensorflow',
    'test_a_trained_probe_keeps_its_power[tensorflow',
    'test_a_trained_scale_stays_within_its_bound[tensorflow',
    'test_accumulated_gradients_equal_the_large_batch[tensorflow',
    'test_inspecting_after_a_resume[tensorflow',
    'test_more_epochs_can_be_added[tensorflow',
    'test_nothing_held_out_is_no_obstacle[tensorflow',
    'test_supervised_learns_from_the_object[tensorflow',
    'test_the_best_epoch_is_returned_not_the_last[tensorflow',
    'test_the_learning_rate_follows_its_schedule[tensorflow',
    'test_what_was_best_is_remembered_across_a_resume[tensorflow',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if item.name.startswith(SLOW_WITH_TENSORFLOW):
            item.add_marker(pytest.mark.slow)
