"""FLOPs of policies, the published ones among them, and the policies that meet a budget."""

import itertools

import numpy
import pytest

from stages.lib.errors import StageError
from stages.papers.multi_dimensional_vit_compression import cost
from stages.papers.multi_dimensional_vit_compression import space as spaces
from stages.papers.multi_dimensional_vit_compression.cost import Shape
from stages.papers.multi_dimensional_vit_compression.settings import Search

SMALL = Shape(26, 24, 4, 6, 72, 4, (2, 3))


def deit(width: int) -> Shape:
    return Shape(197, width, 64, width // 64, 4 * width, 12, (4, 7, 10))


def options(**changes: object) -> Search:
    standard = {
        "budget": 0.6, "tight": 0.4, "tolerance": 0.02, "bound": 0.5, "bound_alone": 0.9, "reduce": [2, 3], "tokens": "real",
        "rounding": "round", "initial": 8, "steps": 8, "pool": 100, "near": 0.3, "spread": 0.2, "restarts": 1,
        "jitter": 1e-2, "normalise": True, "draws": 20000,
    }  # fmt: skip
    return Search(**{**standard, **changes})


# --- FLOPs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "flops"), [(192, 1224589824), (384, 4540695552), (768, 17447454720)])
def test_dense_deits(width, flops):
    assert cost.dense_flops(deit(width)) == flops


def test_both_published_policies():
    heads, neurons = (
        [5, 5, 5, 4, 5, 5, 5, 5, 4, 5, 5, 5],
        [1348, 1533, 1517, 782, 1376, 1032, 1505, 1130, 1498, 964, 1016, 1037],
    )
    assert cost.flops(deit(384), neurons, heads, 0.4880722732779675, fused=False).tolist() == [1862782336]
    assert cost.formula_parameters(deit(384), neurons, heads, 1000) == 17405416
    heads, neurons = (
        [9, 6, 7, 6, 10, 11, 9, 11, 10, 10, 11, 7],
        [1560, 1769, 1986, 2249, 2697, 2879, 1646, 2815, 2847, 3061, 2985, 2541],
    )
    assert cost.flops(deit(768), neurons, heads, 0.4007155969109451, fused=False).tolist() == [6938086912]
    assert cost.formula_parameters(deit(768), neurons, heads, 1000) == 66403816


def test_tokens_with_and_without_the_fused_one():
    attention, mlp = cost.token_counts(deit(384), 0.48807, fused=True)
    assert mlp[0, [3, 6, 9]].tolist() == [101, 52, 27]
    assert attention[0].tolist() == [197] * 4 + [101] * 3 + [52] * 3 + [27] * 2
    assert cost.token_counts(deit(384), 0.48807, fused=False)[1][0, [3, 6, 9]].tolist() == [100, 51, 26]
    for fused in (True, False):
        assert (numpy.stack(cost.token_counts(deit(384), 0.0, fused)) == 197).all()


def test_the_extremes_of_token_reduction():
    assert cost.kept([26, 26, 26, 2], [1e-12, 0.5, 0.99, 0.9]).tolist() == [25, 13, 1, 1]
    assert cost.token_counts(SMALL, 0.8, fused=True)[1].tolist() == [[26, 6, 2, 2]]


def test_rounding_down_has_slack():
    assert cost.floor([12 * (1 - 0.25), 10 * (1 - 0.9), 7.999]).tolist() == [9, 1, 7]


@pytest.mark.parametrize("fused", [True, False])
def test_flops_never_rise_with_a_sparsity(fused):
    random = numpy.random.RandomState(0)
    space = spaces.Space(SMALL, (0.9,) * 9, 1.0, 0.0, fused, "round")
    for _ in range(50):
        x = space.draw(random, 1)
        for i in range(9):
            more = x.copy()
            more[0, i] = min(0.9, more[0, i] + random.uniform(0, 0.3))
            assert space.flops(more)[0] <= space.flops(x)[0]
    assert space.flops(numpy.zeros((1, 9)))[0] == cost.dense_flops(SMALL)


# --- policies -------------------------------------------------------------------------------------


def test_samples_meet_the_budget_and_the_bounds():
    space = spaces.make(SMALL, options(), 0.6)
    x = space.sample(numpy.random.RandomState(0), 200, 20000)
    assert x.shape == (200, 9) and x.max() <= 0.5
    for row in x[:30]:
        found = space.policy(row)
        flops = cost.flops(SMALL, found.neurons, found.heads, found.sparsity, fused=True)[0]
        assert abs(flops / cost.dense_flops(SMALL) - 0.6) <= 0.02 * 0.6
        assert spaces.from_record(found.record()) == found


@pytest.mark.parametrize("name", spaces.DIMENSIONS)
def test_a_single_dimension_leaves_the_others_whole(name):
    space = spaces.make(SMALL, options(tolerance=0.03), 0.6, (name,))
    found = space.policy(space.sample(numpy.random.RandomState(0), 1, 20000)[0])
    assert (found.neurons == (72,) * 4) == (name != "neurons")
    assert (found.heads == (6,) * 4) == (name != "heads")
    assert (found.sparsity == 0.0) == (name != "tokens")


def test_rounding_of_heads():
    x = numpy.array([[0.0] * 4 + [0.0, 0.01, 0.25, 0.5] + [0.0]])
    for rounding, wanted in (("floor", [6, 5, 4, 3]), ("round", [6, 6, 5, 3])):
        assert spaces.Space(SMALL, (0.5,) * 9, 1.0, 0.0, True, rounding).counts(x)[1].tolist() == [wanted]


def test_something_is_always_left():
    neurons, heads, _ = spaces.Space(SMALL, (1.0,) * 9, 1.0, 0.0, True, "floor").counts(numpy.full((1, 9), 0.999))
    assert neurons.min() == 1 and heads.min() == 1


@pytest.mark.parametrize("budget", [0.4, 0.5, 0.6, 0.8])
def test_one_ratio_for_all(budget):
    space = spaces.make(SMALL, options(bound=0.7), budget)
    point = spaces.uniform(space)
    found = space.policy(point)
    assert len(set(found.neurons)) == len(set(found.heads)) == 1
    assert 0.93 <= space.flops(point[None])[0] / space.budget <= 1.0
    assert spaces.dense(SMALL) == spaces.Policy((72,) * 4, (6,) * 4, 0.0)


def test_the_same_net_has_the_same_key():
    space = spaces.make(SMALL, options(), 0.6)
    x = numpy.full(9, 0.3)
    near, far = x.copy(), x.copy()
    near[8] += 1e-6
    far[8] += 0.1
    keys = space.keys(numpy.stack([x, near, far]))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("budget", [0.05, 0.29])
def test_a_budget_out_of_reach(budget):
    with pytest.raises(StageError, match="out of reach: policies reach from 0.3"):
        spaces.make(SMALL, options(), budget)


def test_a_budget_that_random_policies_miss():
    with pytest.raises(StageError, match="none of 10 random policies"):
        spaces.make(SMALL, options(tolerance=1e-4), 0.6).sample(numpy.random.RandomState(0), 5, 10)


def test_reducing_blocks_that_are_not_there():
    with pytest.raises(StageError, match="the net has 4 blocks"):
        spaces.make(SMALL, options(reduce=[2, 5]), 0.6)


def test_bounds_of_neighbours():
    space = spaces.make(SMALL, options(), 0.6, ("neurons",))
    x = space.near(numpy.random.RandomState(0), numpy.full(9, 0.0), 0.5, 200)
    assert x.min() >= 0.0 and (x.max(0) <= numpy.array(space.high)).all() and not x[:, 4:].any()
    assert all(len(set(pair)) == 2 for pair in itertools.pairwise(x[:, 0].round(6)) if pair[0] and pair[1])
