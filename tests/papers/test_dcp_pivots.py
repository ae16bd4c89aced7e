"""Where the auxiliary losses stand and how they are weighed."""

import pytest

from stages.papers.dcp import pivots


@pytest.mark.parametrize(
    ("blocks", "losses", "expected"),
    [(27, 3, [7, 14, 21]), (16, 3, [5, 10, 15]), (8, 2, [3, 6]), (6, 0, []), (4, 3, [2, 3, 3])],
)
def test_the_releases_rule(blocks, losses, expected):
    assert pivots.pivot_blocks(blocks, losses) == expected


@pytest.mark.parametrize(("blocks", "losses"), [(1, 0), (6, 6), (6, -1)])
def test_impossible_numbers_of_losses_are_refused(blocks, losses):
    with pytest.raises(ValueError, match="do not fit"):
        pivots.pivot_blocks(blocks, losses)


def test_given_pivots_win_and_the_end_of_the_net_is_the_last():
    assert pivots.resolve(6, 2) == [3, 5, 6]
    assert pivots.resolve(6, 2, [2, 4]) == [2, 4, 6]


@pytest.mark.parametrize("given", [[0, 3], [3, 3], [4, 2], [2, 6], [2, 7]])
def test_pivots_that_do_not_rise_inside_the_net_are_refused(given):
    with pytest.raises(ValueError, match="rise strictly"):
        pivots.resolve(6, 2, given)


def test_two_losses_on_one_block_are_refused():
    with pytest.raises(ValueError, match="rise strictly"):
        pivots.resolve(4, 3)  # the rule gives [2, 3, 3]


def test_every_block_belongs_to_the_first_pivot_behind_it():
    assert [pivots.stage_of(b, [2, 4, 6]) for b in range(6)] == [0, 0, 1, 1, 2, 2]


def test_gammas_of_resnet56():
    weights = pivots.gammas([7, 14, 21, 27], convs_per_block=2)
    assert weights == pytest.approx([(15 / 55) ** 2, (29 / 55) ** 2, (43 / 55) ** 2, 1.0])


def test_gammas_have_a_floor():
    assert pivots.gammas([1, 100], convs_per_block=2)[0] == 0.01


def test_a_stages_rate_is_divided_by_all_losses_that_reach_it():
    assert pivots.stage_rates([0.25, 0.75, 1.0]) == pytest.approx([1 / 2, 1 / 1.75, 1.0])
