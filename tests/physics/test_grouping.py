"""Regions of overlapping patterns (contracts GROUPING, COVERAGE)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.physics import grouping

# A coarse grid: positions that coincide and neighbors at equal distance are the rule here.
TIED = hnp.arrays(np.float64, st.tuples(st.integers(9, 40), st.just(2)), elements=st.integers(0, 4).map(float))


def scattered(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(np.random.default_rng(seed).uniform(0, 10 * np.sqrt(n), (n, 2)))


@pytest.mark.parametrize(('gridsize', 'neighbors', 'k'), [(1, 7, 8), (1, 0, 1), (2, 2, 4), (2, 7, 8), (3, 7, 9)])
def test_region_size(gridsize: int, neighbors: int, k: int) -> None:
    """GROUPING: K = max(gridsize^2, neighbor_count + 1)."""
    assert grouping.region_size(gridsize, neighbors) == k


@settings(max_examples=80)
@given(TIED, st.integers(1, 9))
def test_a_group_holds_its_seed_first_and_its_nearest_neighbors(positions: NDArray[np.float64], size: int) -> None:
    """GROUPING: also where positions coincide; no pattern twice; nobody outside is nearer than a member."""
    seeds = np.arange(len(positions))
    groups = grouping.nearest_neighbors(positions, seeds, size)
    assert groups.shape == (len(positions), size)
    np.testing.assert_array_equal(groups[:, 0], seeds)
    for group in groups:
        assert len(set(group.tolist())) == size
        distance = np.linalg.norm(positions - positions[group[0]], axis=1)
        outside = np.setdiff1d(seeds, group)
        assert not len(outside) or distance[group].max() <= distance[outside].min()


@settings(max_examples=20)
@given(TIED)
def test_groups_are_deterministic(positions: NDArray[np.float64]) -> None:
    """GROUPING, OFFSETS: the same positions give the same groups, ties included; another seed draws other ones."""
    members = np.arange(len(positions))
    draws = [
        grouping.epoch_regions(positions + shift, members, 3, n_groups=None, seed=4, epoch=2) for shift in (0, 0, 1024)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], draws[2])


def test_epochs_and_seeds_draw_other_regions() -> None:
    """GROUPING: not the same batch again and again."""
    positions, members = scattered(96), np.arange(96)

    def draw(seed: int, epoch: int) -> list[int]:
        regions = grouping.epoch_regions(positions, members, 8, n_groups=None, seed=seed, epoch=epoch)
        return [int(seed) for seed in regions[:, 0]]

    assert len(draw(0, 0)) == 12
    assert sorted(draw(0, 0)) != sorted(draw(0, 1))
    assert draw(0, 0) != draw(1, 0)


@pytest.mark.parametrize(('n', 'size', 'n_groups'), [(96, 8, None), (101, 8, None), (50, 4, 7), (30, 1, None)])
def test_every_pattern_is_a_seed_equally_often(n: int, size: int, n_groups: int | None) -> None:
    """COVERAGE: over epochs that draw n seeds, each once; in between the numbers differ by one at most."""
    members = np.arange(1000, 1000 + n)
    positions = np.zeros((1000 + n, 2))
    positions[members] = scattered(n)
    count = n_groups or n // size
    tally = np.zeros(n, dtype=int)
    for epoch in range(n):
        regions = grouping.epoch_regions(positions, members, size, n_groups=n_groups, seed=3, epoch=epoch)
        assert regions.shape == (count, size)
        assert np.isin(regions, members).all()
        np.add.at(tally, regions[:, 0] - 1000, 1)
        assert tally.max() - tally.min() <= 1
    np.testing.assert_array_equal(tally, count)


@pytest.mark.parametrize(('n', 'fraction', 'size', 'held'), [(1024, 0.05, 8, 51), (100, 0.05, 8, 8), (100, 0.3, 4, 30)])
def test_the_held_out_part_is_contiguous_and_shares_no_pattern(n: int, fraction: float, size: int, held: int) -> None:
    """GROUPING: 5 % of the patterns, at least one region; nearer to their center than any pattern of the training."""
    positions = scattered(n)
    split = grouping.hold_out(positions, fraction, size, seed=1)
    assert len(split.validation) == held
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(n))
    reach = [np.linalg.norm(positions - positions[anchor], axis=1) for anchor in split.validation]
    assert any(r[split.validation].max() < r[split.training].min() for r in reach)
    again, other = grouping.hold_out(positions, fraction, size, seed=1), grouping.hold_out(positions, fraction, size, 2)
    np.testing.assert_array_equal(split.validation, again.validation)
    assert not np.array_equal(split.validation, other.validation)


def test_regions_of_training_and_validation_share_no_pattern() -> None:
    """GROUPING: regions are drawn among their own members only, at the border of the held-out part too."""
    positions = scattered(200)
    split = grouping.hold_out(positions, 0.1, 8, seed=0)
    training = [
        grouping.epoch_regions(positions, split.training, 8, n_groups=None, seed=0, epoch=epoch) for epoch in range(8)
    ]
    validation = grouping.covering_regions(positions, split.validation, 8)
    assert validation.shape == (len(split.validation) // 8, 8)
    assert set(np.unique(validation)) <= set(split.validation.tolist())
    assert not np.intersect1d(np.concatenate(training), split.validation).size


@pytest.mark.parametrize(('n', 'fraction', 'size'), [(100, 0.0, 8), (31, 0.05, 8), (4, 0.05, 2), (2, 0.4, 1)])
def test_nothing_is_held_out_of_a_small_scan(n: int, fraction: float, size: int) -> None:
    """GROUPING: three regions must remain to train on."""
    split = grouping.hold_out(scattered(n), fraction, size, seed=0)
    np.testing.assert_array_equal(split.training, np.arange(n))
    assert len(split.validation) == 0


@pytest.mark.parametrize(
    ('n_groups', 'gridsize', 'neighbors', 'fine'),
    [(None, 1, 7, True), (64, 1, 7, True), (65, 1, 7, False), (65, 2, 3, False), (65, 2, 4, True), (500, 3, 9, True)],
)
def test_oversampling_only_when_it_can_give_other_groups(
    n_groups: int | None, gridsize: int, neighbors: int, fine: bool
) -> None:
    """GROUPING: more groups than patterns only for gridsize > 1 and neighbor_count >= gridsize^2."""
    if fine:
        grouping.check_oversampling(n_groups, 64, gridsize, neighbors)
        return
    with pytest.raises(ConfigError, match=rf'n_groups is {n_groups} but the scan has 64 patterns'):
        grouping.check_oversampling(n_groups, 64, gridsize, neighbors)


@pytest.mark.parametrize('members', [3, 7])
def test_too_few_patterns_for_a_region_are_refused(members: int) -> None:
    """GROUPING: one sentence with both numbers, from every function that makes regions."""
    positions = scattered(20)
    with pytest.raises(ConfigError, match=rf'needs 8 patterns but only {members} are there; lower gridsize'):
        grouping.epoch_regions(positions, np.arange(members), 8, n_groups=None, seed=0, epoch=0)
    with pytest.raises(ConfigError, match='needs 8 patterns'):
        grouping.covering_regions(positions, np.arange(members), 8)
