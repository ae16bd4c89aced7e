"""Self-training as a whole: quotas, membership, stopping, the options; backbones and augmentation."""

import dataclasses

import numpy
import pytest
import torch

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.models import build
from stages.papers.dependency_maximization_fsl import augmentation, backbone, experiment
from stages.papers.dependency_maximization_fsl.arms import ARMS, find_arm
from stages.papers.dependency_maximization_fsl.selftraining import Solver
from stages.papers.dependency_maximization_fsl.settings import Fit, Net, Recipe, Rounds, Setting, Tasks

torch.set_num_threads(1)
FIT = Fit(lr=1e-2, steps=10, dm=0.01, mi=1.0, conditional=0.1, sigma_x=0.5, sigma_y=0.5)
ROUNDS = Rounds(rounds=4, increment=2, components=4, rho=1e-3)
TASKS = Tasks(ways=3, tasks=6, at_once=6, fit=FIT, rounds=ROUNDS)
SETTING = Setting(shots=1, temperature=4.0, arms=list(ARMS), queries=6)
POOL = dataclasses.replace(SETTING, unlabelled="pool", pool=8)


@pytest.fixture(scope="module")
def world() -> tuple[torch.Tensor, numpy.ndarray]:
    """Features of six overlapping classes of 40 images, and the labels."""
    draws = torch.Generator().manual_seed(0)
    y = numpy.repeat(numpy.arange(6), 40)
    centres = 1.2 * torch.randn(6, 10, generator=draws)
    return centres[torch.from_numpy(y)] + torch.randn(240, 10, generator=draws), y


def solver(world, params: Tasks = TASKS, setting: Setting = SETTING) -> Solver:
    features, y = world
    drawn = experiment.draw(setting, params, y, 0, "here")
    batch = experiment.batch(features, drawn, slice(0, params.tasks), setting, params, 0)
    return Solver(batch, params, setting.temperature, setting.unlabelled == "query")


@pytest.mark.parametrize("setting", [SETTING, POOL])
@pytest.mark.parametrize("name", ["dm_ida", "dm_random", "dm_confidence", "hybrid_ida", "ce_ida"])
def test_selected_points_grow_within_quotas(world, name, setting):
    outcome = solver(world, setting=setting).run(find_arm(name))
    each = setting.pool or setting.queries
    before = torch.zeros_like(outcome.chosen[0])
    for number, chosen in enumerate(outcome.chosen):
        quota = min(2 * (number + 1), each)
        assert bool((chosen >= before).all()) and int(chosen.sum(1).max()) <= 3 * quota
        before = chosen
    first = torch.nn.functional.one_hot(outcome.labels[0], 3) * outcome.chosen[0].unsqueeze(2)
    assert int(first.sum(1).max()) <= 2 and outcome.predicted.shape == (6, 18)


def test_every_fit_takes_the_selected_points_with_their_latest_labels(world, monkeypatch):
    one, seen = solver(world), []
    original = one._fit

    def noted(name, points, labelled, steps=None):
        seen.append(labelled)
        return original(name, points, labelled, steps)

    monkeypatch.setattr(one, "_fit", noted)
    outcome = one.run(find_arm("dm_random"))
    assert len(seen) == len(outcome.labels) + 1 and seen[0].labels.shape == (6, 3)
    for labelled, labels, chosen in zip(seen[1:], outcome.labels, outcome.chosen, strict=True):
        assert torch.equal(labelled.labels[:, 3:], labels) and torch.equal(labelled.weights[:, 3:] == 1, chosen)


def test_a_task_at_rest_stays_as_it_is_and_the_quota_ends_the_rounds(world):
    rounds = dataclasses.replace(ROUNDS, rounds=9, increment=3)
    outcome = solver(world, dataclasses.replace(TASKS, rounds=rounds)).run(find_arm("dm_ida"))
    assert len(outcome.chosen) < 9
    for earlier, later, a, b in zip(outcome.chosen, outcome.chosen[1:], outcome.labels, outcome.labels[1:], strict=False):
        rest = (earlier == later).all(1) & (earlier.sum(1) == 18)
        assert torch.equal(a[rest], b[rest])


@pytest.mark.parametrize("stop", ["grow", "stable_labels", "either"])
def test_rules_for_stopping(world, stop):
    rounds = dataclasses.replace(ROUNDS, rounds=9, increment=1, stop=stop)
    outcome = solver(world, dataclasses.replace(TASKS, rounds=rounds)).run(find_arm("dm_ida"))
    moved = [bool((a != b).any()) for a, b in zip(outcome.chosen, outcome.chosen[1:], strict=False)]
    assert len(outcome.chosen) <= 9 and (stop != "grow" or all(moved[:-1]))


def test_arms_share_their_first_fit_and_a_single_fit_is_that_fit(world):
    one = solver(world)
    outcome = one.run(find_arm("dm_ida"))
    assert torch.equal(one.run(find_arm("dm")).predicted, outcome.labels[0])
    assert torch.equal(solver(world).run(find_arm("dm")).predicted, outcome.labels[0])


def test_options_of_the_official_code_and_of_the_kernel_change_something(world):
    base = solver(world, setting=POOL).run(find_arm("dm_ida"))
    limited = dataclasses.replace(TASKS, rounds=dataclasses.replace(ROUNDS, kernel_limit=20))
    assert not torch.equal(solver(world, limited, POOL).run(find_arm("dm_ida")).chosen[-1], base.chosen[-1])
    inductive = dataclasses.replace(TASKS, rounds=dataclasses.replace(ROUNDS, final_unlabelled="none"))
    found = solver(world, inductive, POOL)
    assert torch.equal(found.run(find_arm("dm_ida")).chosen[-1], base.chosen[-1])
    assert found.run(find_arm("mi")).predicted.shape == base.predicted.shape
    for change in ({"sigma_x": 0.0}, {"feature_norm": "l2"}, {"feature_norm": "zscore"}, {"normalise": "n2", "dm": 100.0}):
        params = dataclasses.replace(TASKS, fit=dataclasses.replace(FIT, **change))
        assert solver(world, params).run(find_arm("dm")).predicted.shape == (6, 18)


def test_unlabelled_images_help_and_batches_do_not_matter(world):
    features, y = world
    params = dataclasses.replace(TASKS, tasks=40, at_once=40, fit=dataclasses.replace(FIT, steps=40, lr=2e-2))
    drawn = experiment.draw(SETTING, params, y, 0, "here")
    found = experiment.measure(features, drawn, SETTING, params, 0)
    assert found["dm_ida"].accuracy.mean() > found["ce"].accuracy.mean() > 0.5
    assert found["mi"].accuracy.mean() > found["ce"].accuracy.mean()
    some = experiment.measure(features, drawn, SETTING, dataclasses.replace(params, at_once=16), 0)
    for arm in ARMS:
        assert abs(some[arm].accuracy - found[arm].accuracy).mean() < 0.01
        assert len(some[arm].selected) == len(found[arm].selected) == len(found[arm].pseudo)


def test_figures_are_means_over_tasks_with_their_interval():
    scores = experiment.Scores(numpy.array([0.2, 0.4, 0.6]), [numpy.array([1.0, 0.5, 0.0])], [numpy.array([0.3, 0.3, 0.3])])
    found = experiment.figures("here", scores, experiment.Scores(numpy.array([0.1, 0.3, 0.5])), 3)
    assert found["accuracy_here"] == pytest.approx(0.4) and found["gain_here"] == pytest.approx(0.1)
    assert found["interval_here"] == pytest.approx(1.96 * 0.2 / 3**0.5) and found["gain_interval_here"] == pytest.approx(0)
    assert found["selected_here_round_3"] == found["selected_here"] == 0.5 and found["pseudo_here_round_1"] == pytest.approx(
        0.3
    )


# --- backbones ------------------------------------------------------------------------------------

NETS = [
    Net(kind="conv", widths=[4, 6, 8], side=9, pool=2),
    Net(kind="wide_residual", widths=[4, 8, 12, 16], side=9, blocks=2),
]


@pytest.mark.parametrize("params", NETS, ids=lambda net: net.kind)
def test_closed_form_is_what_is_counted_and_features_leave_the_net_alone(params):
    net = build(backbone.record_of(params, 3, 7)).train()
    x = torch.randn(5, 3, 9, 9)
    net(x)
    assert macs.count(net, x[:1]) == macs.total(net.record()).macs
    assert macs.parameters(net) == macs.total(net.record()).params
    before = {key: value.clone() for key, value in net.state_dict().items()}
    features = backbone.extract(net, x, batch=2)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.allclose(net.fc(features), net(x), atol=1e-5) and bool((features >= 0).all())
    again = build(net.record())
    again.load_state_dict(net.state_dict())
    assert torch.equal(backbone.extract(again, x, batch=2), features)


def test_records_that_describe_no_net_are_refused():
    good = backbone.record_of(NETS[0], 3, 7)
    for change in ({"classes": 1}, {"widths": [4] * 9}, {"pool": 0}, {"input": [3, 9]}):
        with pytest.raises(StageError):
            build(good | change)
    with pytest.raises(StageError):
        build(backbone.record_of(NETS[1], 3, 7) | {"widths": [4, 8]})


def test_augmentation_keeps_what_it_is_told_to_keep():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 12, 12, generator=draws)
    plain = Recipe("adam", 1, 8, 1e-3, 0.0, 0.0)
    assert augmentation.augmentation(plain, 12, (0.5,) * 3, (0.2,) * 3) is None
    mirrored = augmentation.resized_crop(x, 12, 1.0, True, draws)
    same = [
        torch.allclose(a, b, atol=1e-5) or torch.allclose(a.flip(2), b, atol=1e-5) for a, b in zip(x, mirrored, strict=True)
    ]
    assert all(same) and not torch.allclose(mirrored, x, atol=1e-5)
    assert augmentation.resized_crop(x, 8, 0.2, False, draws).shape == (6, 3, 8, 8)
    assert torch.allclose(
        augmentation.resized_crop(torch.ones(2, 3, 12, 12), 8, 0.2, True, draws), torch.ones(2, 3, 8, 8), atol=1e-6
    )
    pixels = torch.rand(6, 3, 12, 12, generator=draws)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)
    moments = [torch.tensor(value).view(1, 3, 1, 1) for value in (mean, std)]
    normal = (pixels - moments[0]) / moments[1]
    back = augmentation.jittered(normal, 0.4, mean, std, draws) * moments[1] + moments[0]
    assert float(back.min()) > -1e-5 and float(back.max()) < 1 + 1e-5 and not torch.allclose(back, pixels, atol=0.01)
    assert torch.allclose(augmentation.jittered(normal, 0.0, mean, std, draws), normal, atol=1e-5)
    assert augmentation.centre(x, 8).shape == (6, 3, 8, 8)


def test_a_loop_over_tasks_with_automatic_differentiation_agrees():
    from tests.bench import episodes as bench

    batch, params, temperature = bench.tasks_batch()
    few = dataclasses.replace(params, fit=dataclasses.replace(params.fit, steps=5))
    some = dataclasses.replace(
        batch, **{name: getattr(batch, name)[:3] for name in ("support", "labels", "query", "unlabelled", "noise")}
    )
    ours = Solver(some, few, temperature, True).run(find_arm("dm")).predicted
    assert float((ours == bench.loop(some, few, temperature)).float().mean()) > 0.98
