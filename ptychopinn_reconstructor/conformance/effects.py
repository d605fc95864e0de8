"""Every setting has the effect that is documented: clause B29, SETTINGS. A field without an entry fails."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import Backend, descriptions
from ..config import field_table
from ..errors import ConfigError
from ..training.setup import split_of
from ..training.train import train
from . import jobs
from .runs import Runs


@dataclass(frozen=True)
class Learns:
    """`value` changes the trained weights, among the settings `around`."""

    value: Any
    around: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Same:
    """`value` leaves the losses as they are, to `tolerance` relative; 0: the weights too, bit by bit."""

    value: Any
    tolerance: float = 0.0


@dataclass(frozen=True)
class By:
    """Its effect and direction are asserted by these checks."""

    checks: tuple[str, ...]

    def __init__(self, *checks: str) -> None:
        object.__setattr__(self, 'checks', checks)


LARGER = 'test_larger_patches_equal_those_of_the_reference'
LOSS = 'test_the_loss_is_that_of_the_reference'
SUPERVISED: dict[str, Any] = {'model__model_type': 'supervised'}
PROCESSES = 'test_trained_in_one_process_reconstructed_in_another'

EFFECTS: dict[str, Learns | Same | By] = {
    'model.N': By('test_another_pattern_size_is_refused'),
    'model.gridsize': By(LOSS),
    'model.n_filters_scale': By('test_weights_have_the_neutral_layout'),
    'model.model_type': Learns('supervised'),
    'model.architecture': By('test_an_unknown_architecture_is_refused'),
    'model.amp_activation': By(LOSS, 'test_patches_equal_those_of_the_reference'),
    'model.amplitude_max': By('test_only_the_sigmoid_is_bounded_by_amplitude_max'),
    'model.object_big': By(LOSS),
    'model.probe_big': By(LOSS, LARGER),
    'model.probe_mask': By('test_the_probe_is_masked_and_scaled'),
    'model.pad_object': By(LOSS, LARGER),
    'model.probe_scale': By('test_the_probe_is_masked_and_scaled'),
    'model.gaussian_smoothing_sigma': By(LOSS, 'test_smoothing_flattens_patches'),
    'data.train_data_file': By(PROCESSES),
    'data.test_data_file': By('test_the_validation_scan_of_the_file_was_used'),
    'data.source': By('test_procedural_patterns_are_learnt_from'),
    'data.measurement_domain': By('test_the_measurement_domain_is_the_unit_of_a_file'),
    'data.probe_power': Learns('from_counts'),
    'data.nphotons': By('test_photons_are_used_where_counts_are_unknown'),
    'data.n_groups': By(LOSS),
    'data.n_subsample': By('test_subsampling_chooses_what_is_trained_on'),
    'data.neighbor_count': By(LOSS),
    'data.positions_provided': By(LOSS, 'test_positions_not_provided_have_no_influence_on_training'),
    'data.validation_fraction': By('test_nothing_held_out_is_no_obstacle'),
    'training.batch_size': By('test_accumulated_gradients_equal_the_large_batch'),
    'training.nepochs': By('test_more_epochs_see_more_patterns'),
    'training.max_cpu_seconds': By('test_the_cpu_budget_ends_the_training_with_its_schedule_run_out'),
    'training.nll_weight': By(LOSS),
    'training.mae_weight': By(LOSS),
    'training.realspace_mae_weight': By('test_the_error_of_the_object_is_a_part_of_the_loss'),
    'training.realspace_weight': By(LOSS, 'test_total_variation_flattens_the_patches'),
    'training.far_field_weight': Learns(0.0, SUPERVISED),
    'training.dose_range': By('test_procedural_patterns_are_learnt_from'),
    'training.probe_trainable': Learns(True),
    'training.intensity_scale_trainable': By('test_probe_and_scale_move_within_their_bounds'),
    'training.refine_probe_first': By('test_a_probe_refined_first_is_nearer_to_the_true_one'),
    'training.refine_positions_first': By('test_positions_refined_first_are_nearer_to_the_true_ones'),
    'training.learning_rate': By('test_the_learning_rate_follows_its_schedule'),
    'training.scheduler': By('test_the_learning_rate_follows_its_schedule'),
    'training.accum_steps': By('test_accumulated_gradients_equal_the_large_batch'),
    'training.gradient_clip_val': By('test_gradients_are_clipped_by_norm'),
    'training.seed': Learns(1),
    'training.checkpoint_monitor_metric': By('test_the_best_epoch_is_returned_not_the_last'),
    'training.early_stop_patience': By('test_patience_is_a_number_of_epochs'),
    'training.output_dir': By(PROCESSES),
    'inference.model_path': By(PROCESSES),
    'inference.inference_batch_size': By('test_the_batch_size_of_inference_changes_nothing'),
    'inference.sync_neighbors': By('test_synchronization_and_refinement_improve_the_fit'),
    'refinement.wavefront': By('test_the_wavefront_brings_the_phase_nearer_to_the_truth'),
    'refinement.passes': By('test_synchronization_and_refinement_improve_the_fit'),
    'refinement.prior': By('test_the_prior_smooths_what_the_passes_find'),
    'refinement.probe': By('test_probe_and_positions_move_only_when_asked'),
    'refinement.positions': By('test_probe_and_positions_move_only_when_asked'),
    'inference.split_frc': By('test_a_result_says_how_far_to_trust_it'),
    'inference.middle_trim': By('test_the_middle_of_each_patch_is_stitched'),
    'inference.debug': By('test_patches_are_kept_for_debugging'),
    'execution.backend': By('test_the_result_says_which_backend_made_it'),
    'execution.device': By('test_a_device_that_is_not_there_is_refused', 'test_every_device_computes_the_same'),
    'execution.num_workers': Same(1),
    'execution.pin_memory': Same(True),
    'execution.precision': Same('bf16-mixed', 0.05),
    'execution.threads': Same(2, 1e-3),
    'execution.logger_backend': Same('none'),
    'execution.progress': Same(False),
}


def entries(kind: type) -> list[str]:
    """The fields of one kind of effect."""
    return [key for key, effect in EFFECTS.items() if isinstance(effect, kind)]


class SettingsChecks:
    """Every setting of config.field_table()."""

    def test_every_setting_is_in_the_table(self) -> None:
        """B29, SETTINGS: a new field needs an entry, and a check that is named must be there."""
        rows = {f'{row.section}.{row.name}': row for row in field_table()}
        assert rows.keys() == EFFECTS.keys()
        named = [check for effect in EFFECTS.values() if isinstance(effect, By) for check in effect.checks]
        assert all(callable(getattr(type(self), check)) for check in named)

    @pytest.mark.parametrize('key', entries(Learns))
    def test_a_setting_changes_the_trained_weights(self, conformance_runs: Runs, key: str) -> None:
        """B29, SETTINGS: what a user can reach has an effect on what is learnt."""
        effect = EFFECTS[key]
        assert isinstance(effect, Learns)
        change = {key.replace('.', '__'): effect.value}
        changed, plain = conformance_runs.of(**effect.around, **change), conformance_runs.of(**effect.around)
        assert jobs.distance(changed.trained.weights, plain.trained.weights) > 1e-4

    def test_execution_does_not_change_the_mathematics(self, conformance_runs: Runs) -> None:
        """B29, SETTINGS: settings of execution change speed and place only: the same weights, bit by bit."""
        exact = {key: EFFECTS[key] for key in entries(Same)}
        changes = {
            key.replace('.', '__'): e.value for key, e in exact.items() if isinstance(e, Same) and not e.tolerance
        }
        found, plain = conformance_runs.of(**changes).trained, conformance_runs.reference.trained
        assert found.losses == plain.losses
        assert jobs.distance(found.weights, plain.weights) == 0

    @pytest.mark.parametrize('key', [key for key in entries(Same) if getattr(EFFECTS[key], 'tolerance', 0)])
    def test_execution_changes_rounding_at_most(self, conformance_runs: Runs, key: str) -> None:
        """B29, SETTINGS: the losses stay as they are, to what threads and precision cost."""
        effect = EFFECTS[key]
        assert isinstance(effect, Same)
        found = conformance_runs.of(**{key.replace('.', '__'): effect.value}).trained
        plain = conformance_runs.reference.trained
        losses = [[loss for _, loss in one.losses] for one in (found, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=effect.tolerance, abs=0)
        if key == 'execution.precision':
            assert jobs.distance(found.weights, plain.weights) > 0

    def test_subsampling_chooses_what_is_trained_on(self, backend: Backend) -> None:
        """SETTINGS: n_subsample patterns at most, drawn by the seed of the training; more than there are is refused."""
        scan = jobs.prepared(backend)

        def drawn(number: int, seed: int) -> list[Any]:
            config = jobs.configuration(backend, data__n_subsample=number, training__seed=seed)
            return list(split_of(scan, config).training)

        assert 20 < len(drawn(40, 0)) <= 40
        assert drawn(40, 0) == drawn(40, 0) != drawn(40, 1)
        with pytest.raises(ConfigError, match='n_subsample is 1000'):
            drawn(1000, 0)

    def test_an_unknown_architecture_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """B13, SETTINGS: the error names those that the backend offers, whoever asks; nothing is written."""
        config = jobs.configuration(backend, model__architecture='unheard of')
        weights = backend.fresh_weights(jobs.configuration(backend), 0)
        calls = (
            lambda: backend.check(config),
            lambda: backend.fresh_weights(config, 0),
            lambda: backend.network(config, weights, 'cpu'),
            lambda: jobs.train(backend, tmp_path, model__architecture='unheard of'),
        )
        for call in calls:
            with pytest.raises(ConfigError, match=', '.join(descriptions()[backend.name].architectures)):
                call()
        assert not list(tmp_path.iterdir())

    def test_more_epochs_see_more_patterns(self, conformance_runs: Runs) -> None:
        """SETTINGS: nepochs."""
        short, long = conformance_runs.reference.trained, conformance_runs.whole.trained
        assert [epoch for epoch, _ in long.losses] == [1, 2, 3, 4]
        assert long.summary['patterns_seen'] == 2 * short.summary['patterns_seen']
        assert long.losses[-1][1] < short.losses[-1][1]

    @pytest.mark.slow
    def test_the_cpu_budget_ends_the_training_with_its_schedule_run_out(self, backend: Backend, tmp_path: Path) -> None:
        """B28, B35, SETTINGS: max_cpu_seconds ends it well before nepochs, cleanly, at the lowest learning rate."""
        heard = jobs.Listener()
        trained = jobs.train(backend, tmp_path, training__nepochs=100_000, training__max_cpu_seconds=8.0, emit=heard)
        assert not trained.interrupted and len(trained.losses) < 100_000
        assert 8.0 <= trained.summary['cpu_seconds'] < 60
        rates = [row['learning_rate'] for row in heard.epochs]
        assert rates[-1] <= 0.05 * 2e-3
        assert max(rates) > 3 * rates[-1]  # compiling may have taken most of the budget, but not all of it

    def test_patience_is_a_number_of_epochs(self, backend: Backend, tmp_path: Path) -> None:
        """B35, SETTINGS: early_stop_patience: so many epochs after the best; here the first is never improved on."""
        settings: dict[str, Any] = {'training__nepochs': 9, 'training__learning_rate': jobs.STILL}
        trained = jobs.train(backend, tmp_path, training__early_stop_patience=3, **settings)
        assert len(trained.losses) == 1 + 3 and not trained.interrupted

    @pytest.mark.slow
    def test_a_probe_refined_first_is_nearer_to_the_true_one(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: refine_probe_first improves a wrong guess, and the model keeps the better probe."""
        from ..model_file.opening import open_model
        from ..model_file.probes import probe_likeness

        scan = jobs.scan()
        assert scan.probe is not None
        y, x = np.mgrid[:32, :32] - 15.5
        guess = scan.with_probe(scan.probe * np.exp(0.02j * (x**2 + 0.5 * y**2)))
        config = jobs.configuration(backend, training__refine_probe_first=10)
        model = train([guess], config, tmp_path).model
        assert guess.probe is not None
        before, after = (probe_likeness(probe, scan.probe) for probe in (guess.probe, open_model(model).probe))
        assert before < 0.95 and after > before + 0.02

    @pytest.mark.slow
    def test_positions_refined_first_are_nearer_to_the_true_ones(self, backend: Backend, tmp_path: Path) -> None:
        """SETTINGS: refine_positions_first takes back most of each displacement, and what it finds is trained on."""
        scan = jobs.scan(photons=1e6)
        off = np.random.default_rng(0).normal(size=scan.positions.shape)
        wrong = replace(scan, positions=scan.positions + off)
        config = jobs.configuration(backend, training__refine_positions_first=20)
        weights = [train([wrong], config, tmp_path / 'first').trained.weights]
        with np.load(tmp_path / 'first' / 'probe.npz') as found:
            better = replace(wrong, positions=found['positions'])
        left = better.positions - scan.positions
        assert np.sqrt((left**2).mean()) < 0.5 * np.sqrt((off**2).mean())
        plain = jobs.configuration(backend)
        for name, one in (('better', better), ('wrong', wrong)):
            weights.append(train([one], plain, tmp_path / name).trained.weights)
        assert jobs.distance(weights[0], weights[1]) == 0
        assert jobs.distance(weights[0], weights[2]) > 0
