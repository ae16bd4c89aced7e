"""Extractors, merged nets and their training: sizes, frozen parts, the stages' invariants."""

import dataclasses

import numpy
import pytest
import torch

from stages.lib import macs
from stages.lib.errors import StageError
from stages.papers.har_multistage import baselines, cost, individual, learning, multistage, problem
from stages.papers.har_multistage.extractor import Extractor, FusionHead
from stages.papers.har_multistage.learning import Examples
from stages.papers.har_multistage.merged import Merged, features_of
from stages.papers.har_multistage.settings import Division, Net, Params, Schedule, Stages, Transforms
from stages.papers.har_multistage.shakedown import Shape, noise

torch.set_num_threads(1)
CPU = torch.device("cpu")
PAPER = Net(32, [32, 64, 128], [3, 5, 7], 7, 3, 64, 64, 0.3)
TINY = Net(4, [4, 8], [3], 3, 3, 6, 5, 0.3)
ONCE = Schedule(1, 1e-2, 1, 0.5, 5)


def params(*names: str, **more) -> Params:
    found = Params(
        [],
        Transforms(list(names), 8, 1, 1, None, 4, 8, 4),
        TINY,
        Stages(ONCE, ONCE, ONCE, ONCE, ONCE, 1e-2),
        Division(4, 3),
        16,
    )
    return dataclasses.replace(found, **more)


@pytest.fixture(scope="module")
def run() -> multistage.Run:
    """Four groups of noise, three branches."""
    chosen = params("raw", "gasf", "rp")
    own = problem.make(noise(Shape(3, 32, 3), 48), chosen, "grouped", 0)
    return multistage.Run(own, chosen, 0, CPU, lambda _: None, "test")


@pytest.fixture(scope="module")
def branches(run) -> dict[str, individual.Branch]:
    return {
        name: individual.train_branch(name, run.problem, run.params, 0, CPU, None, name) for name in run.params.transforms.names
    }


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((9, 128), (102336, 4120576)), ((30, 32, 32), (124192, 26198016)), ((6, 32, 32), (117280, 19120128))],
)
def test_sizes_are_the_specifications(shape, wanted):
    with torch.device("meta"):
        net = Extractor(shape, PAPER)
        assert (macs.parameters(net), macs.count(net, torch.empty(1, *shape))) == wanted == cost.extractor_cost(shape, PAPER)
    assert [cost.fusion_head(PAPER, 5, classes) for classes in (6, 12, 10)] == [20934, 21324, 21194]
    assert cost.extractor_cost((9, 65), PAPER)[0] == cost.extractor_cost((9, 128), PAPER)[0]  # the spectrum's branch


def test_merged_features_are_those_of_the_single_extractors(run, branches):
    net = multistage.merge(list(branches.values()), run.params, run.problem.classes, 0).eval()
    inputs = run.problem.examples("test", *net.names).inputs
    apart = [features_of(one.extractor, x) for one, x in zip(branches.values(), inputs, strict=True)]
    assert torch.equal(net.features(inputs), torch.cat(apart, dim=1))
    assert macs.parameters(net) == cost.merged_parameters(run.problem.shapes, run.params.net, run.problem.classes)


def test_the_head_stage_leaves_extractors_and_their_statistics_alone(run, branches):
    before = {name: one.extractor.state_dict() for name, one in branches.items()}
    both = multistage.combined(branches, run)
    for name, state in before.items():
        frozen = both.frozen.branches[name].state_dict()
        assert all(torch.equal(value, frozen[key]) for key, value in state.items())


def test_tuning_changes_weights_and_statistics(run, branches):
    net = multistage.merge(list(branches.values()), run.params, run.problem.classes, 0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run.learn(net, run.parts(*net.names), ONCE, "tune", stay=False)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert any("running_mean" in name for name in changed) and any("units" in name and "weight" in name for name in changed)


def test_sequential_with_one_branch_is_stage_1(run, branches):
    one = {"gasf": branches["gasf"]}
    found = multistage.sequential(one, run)
    examples = run.problem.examples("test", "gasf")
    assert torch.equal(learning.predict(found.net, examples), learning.predict(branches["gasf"].net, examples))
    assert found.kept == ["gasf"] and found.passes == branches["gasf"].trained.passes


def test_sequential_keeps_no_branch_that_lowers_validation_accuracy(run, branches):
    found = multistage.sequential(branches, run)
    assert sorted(found.kept + found.dropped) == sorted(branches)
    assert found.kept[0] == individual.ordered(branches)[0]
    reached = learning.score(found.net, run.problem.examples("val", *found.kept))[0]
    assert reached >= branches[found.kept[0]].trained.accuracy


def test_a_branch_with_fusion_weights_of_zero_changes_nothing(run, branches):
    two = multistage.merge([branches["raw"], branches["rp"]], run.params, run.problem.classes, 0).eval()
    three = multistage.merge(list(branches.values()), run.params, run.problem.classes, 0).eval()
    size = run.params.net.feature
    with torch.no_grad():
        three.head[3].load_state_dict(two.head[3].state_dict())
        three.head[0].bias.copy_(two.head[0].bias)
        three.head[0].weight.zero_()
        three.head[0].weight[:, :size] = two.head[0].weight[:, :size]
        three.head[0].weight[:, 2 * size :] = two.head[0].weight[:, size:]
    answers = [learning.predict(net, run.problem.examples("test", *net.names)) for net in (two, three)]
    assert torch.allclose(*answers, atol=1e-6)


def test_ties_of_validation_accuracy_follow_the_registry(branches):
    same = learning.Trained(0.5, 1, 1, [0.5])
    shuffled = {name: dataclasses.replace(branches[name], trained=same) for name in ("rp", "raw", "gasf")}
    assert individual.ordered(shuffled) == ["raw", "gasf", "rp"]


def test_the_best_epoch_is_kept_and_training_stops():
    torch.manual_seed(0)
    x, y = torch.randn(40, 4), torch.arange(40) % 2
    net = Merged({}, FusionHead(Net(1, [1], [1], 1, 1, 4, 4, 0.0), 1, 2))
    net.features = lambda inputs: inputs[0]
    told = learning.learn(
        net, Examples((x,), y), Examples((x[:0].new_zeros(6, 4),), y[:6]), Schedule(30, 0.0, 1, 0.5, 2), batch=20, seed=1,
        label="stop",
    )  # fmt: skip
    assert told.passes == 3 and told.epoch == 1 and told.curve == [0.5] * 3
    assert told.accuracy == 0.5 and learning.score(net, Examples((torch.zeros(6, 4),), y[:6]))[0] == 0.5


def test_equal_passes_and_equal_size_of_the_baselines(run):
    whole = baselines.whole_schedule(Stages(*(Schedule(n, 1e-2, 1, 0.5, 9) for n in (10, 4, 3, 2, 2)), 3e-3))
    assert whole.epochs == 17 and whole.lr == 3e-3
    wanted = cost.merged_parameters(run.problem.shapes, run.params.net, run.problem.classes)
    net, _ = baselines.widened(run)
    assert abs(macs.parameters(net) / wanted - 1) < 0.15
    joint, told = baselines.joint(run)
    assert macs.parameters(joint) == wanted and told.passes == 3


def test_late_average_is_the_mean_of_probabilities():
    one, two = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    found = baselines.late_average([one, two]).exp()
    assert torch.allclose(found, (one.softmax(1) + two.softmax(1)) / 2)


def test_normalisation_is_that_of_the_training_fold():
    windows = noise(Shape(3, 32, 3), 48)
    before = problem.make(windows, params("raw"), "grouped", 0)
    changed = windows.x.copy()
    changed[before.places["test"]] += 100
    after = problem.make(dataclasses.replace(windows, x=changed), params("raw"), "grouped", 0)
    for part in ("train", "val"):
        assert torch.equal(before.spaces[part]["raw"], after.spaces[part]["raw"])
    scaled = before.spaces["train"]["raw"].double()
    assert scaled.mean((0, 2)).abs().max() < 1e-5 and (scaled.std((0, 2)) - 1).abs().max() < 1e-2


def test_repetitions_are_the_folds_of_one_division():
    windows = noise(Shape(3, 32, 3), 48)
    tested = [problem.make(windows, params("raw"), "grouped", repetition).places["test"] for repetition in range(4)]
    assert sorted(numpy.concatenate(tested).tolist()) == list(range(48))


def test_windows_shorter_than_a_kernel_are_refused():
    for shape in ((3, 6), (3, 6, 6)):
        with pytest.raises(StageError, match="shorter than a kernel"):
            Extractor(shape, PAPER)


def test_a_killed_training_goes_on_to_the_same_weights(run, tmp_path, monkeypatch):
    """The schedule's memory is in the state: best epoch, rate and clock."""
    from stages.lib import training

    few = dataclasses.replace(
        run.params, stages=dataclasses.replace(run.params.stages, single=dataclasses.replace(ONCE, epochs=4))
    )
    whole = individual.train_branch("raw", run.problem, few, 3, CPU, None, "whole")
    own, kept = training._keep, []

    def stop_once(state, plan, keeper, stop):
        if state.step == 2 * plan.steps and not kept:
            kept.append(1)
            stop.set()
        own(state, plan, keeper, stop)

    monkeypatch.setattr(training, "_keep", stop_once)
    path = tmp_path / "x.state"
    with pytest.raises(StageError):
        individual.train_branch("raw", run.problem, few, 3, CPU, path, "whole")
    again = individual.train_branch("raw", run.problem, few, 3, CPU, path, "whole")
    assert again.trained == whole.trained
    assert all(torch.equal(value, again.net.state_dict()[name]) for name, value in whole.net.state_dict().items())
