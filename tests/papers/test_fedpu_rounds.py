"""FedPU's rounds: averages with buffers, pairing, FedProx, momentum by client, resuming, and order of clients."""

import dataclasses

import numpy
import pytest
import torch

from stages.lib.data import noise
from stages.lib.errors import StageError
from stages.lib.training import evaluate
from stages.papers.fedpu import experiment, local, nets, rounds, saved, server
from stages.papers.fedpu.local import Job, Member
from stages.papers.fedpu.settings import Federation, Net, Prox, Risk, Scene

torch.set_num_threads(1)
CPU = torch.device("cpu")
SPLIT = noise([1, 8, 8], 10, 200)
PROX = Prox(mu=0.0, form="squared", partial=0.0)


def job(arm: str = "fedpu", net: str = "mlp", **changes: object) -> Job:
    scene = Scene(classes_per_client=10, positives=[4, 3, 2, 1], label_rate=0.5)
    risk = Risk(weight=1.0, eps=0.01, eps_shipped=1e-6, nonnegative=False, threshold=0.95)
    settings = {"net": Net(net, 4, 0.0), "risk": risk, "prox": PROX, "images": 200, "pool": None, "clients": 4,
                "participation": 1.0, "rounds": 3, "early": 1, "epochs": 2, "batch": 20, "momentum": 0.9, "decay": 0.9,
                "lr": {arm: 0.05}, "scenes": {"iid": scene}, **changes}  # fmt: skip
    return experiment.make_job(SPLIT, Federation(**settings), "iid", arm, 0, CPU)


def run(one: Job, keeper: saved.Keeper | None = None) -> saved.Progress:
    return rounds.run(one, lambda net: evaluate(net, SPLIT), keeper)[1]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- averages -------------------------------------------------------------------------------------


def states(count: int) -> list[dict[str, torch.Tensor]]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        state = nets.build({"kind": "fedpu resnet9", "input": [3, 8, 8], "classes": 10, "width": 2}).state_dict()
        made.append(
            {name: torch.rand_like(value) if value.is_floating_point() else value + seed for name, value in state.items()}
        )
    return made


def test_one_state_and_equal_states_give_themselves_back():
    (one,) = states(1)
    assert same(server.average([one]), one) and same(server.average([one] * 7), one)


def test_averages_are_linear_and_include_running_statistics_and_counters():
    many = states(4)
    mean = server.average(many)
    for name, value in mean.items():
        assert value.dtype == many[0][name].dtype
        if name.endswith("num_batches_tracked"):
            assert int(value) == 1  # of 0, 1, 2, 3: rounded down
        else:
            assert torch.allclose(value, sum(own[name] for own in many) / 4)
    assert any(name.endswith("running_var") for name in mean)
    doubled = server.average([{name: 2 * value for name, value in own.items()} for own in many])
    assert all(torch.allclose(doubled[name], 2 * value) for name, value in mean.items() if value.is_floating_point())
    shuffled = server.average(many[::-1])
    assert all(torch.allclose(shuffled[name].double(), mean[name].double()) for name in mean)


def test_nothing_and_different_nets_are_refused():
    with pytest.raises(StageError, match="at least one participant"):
        server.average([])
    with pytest.raises(StageError, match="different nets"):
        server.average([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])


def test_bytes_are_those_of_the_tensors():
    one = job(net="resnet9")
    _, state = server.initial(one)
    every = sum(len(value.detach().contiguous().numpy().tobytes()) for value in state.values())
    assert server.exchanged(state, 3) == 6 * every == 6 * nets.state_bytes(nets.meta(one.about))
    assert run(one).exchanged == [8 * every] * 3


# --- who takes part -------------------------------------------------------------------------------


def test_participants_are_drawn_without_replacement_and_at_least_one():
    for turn in range(5):
        drawn = server.participants(10, 0.34, 1, turn)
        assert len(drawn) == len(set(drawn)) == 3 and set(drawn) <= set(range(10))
    assert len(server.participants(10, 0.01, 1, 0)) == 1
    assert len({tuple(server.participants(10, 0.3, 1, turn)) for turn in range(20)}) > 10


def test_fedprox_lets_a_share_of_the_clients_run_fewer_epochs():
    one = job("fedpu_prox", epochs=5, prox=Prox(0.0, "squared", 0.5))
    plans = [server.drawn(one, turn) for turn in range(30)]
    assert all(sorted(plan.values())[2:] == [5, 5] for plan in plans)
    assert {count for plan in plans for count in plan.values()} == {1, 2, 3, 4, 5}
    assert set(server.drawn(job("fedpu", epochs=5, prox=Prox(0.0, "squared", 0.5)), 1).values()) == {5}


# --- local updates --------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bits_and_arms_share_what_they_can():
    one = job()
    assert same(run(one).state, run(one).state)
    other = job("positives_only")
    assert same(server.initial(one)[1], server.initial(other)[1])
    assert all(torch.equal(a.target, b.target) and torch.equal(a.x, b.x) for a, b in zip(one.clients, other.clients))


def test_an_update_does_not_depend_on_what_ran_before_it():
    one = job()
    net, start = server.initial(one)
    forward = {k: local.update(net, one, k, 1, 2, start, Member())[0] for k in range(4)}
    torch.manual_seed(99)
    backward = {k: local.update(net, one, k, 1, 2, start, Member())[0] for k in reversed(range(4))}
    assert all(same(forward[k], backward[k]) for k in range(4))


def test_momentum_and_rate_belong_to_the_client():
    one = job(participation=0.5, rounds=4)
    progress = run(one)
    taken = {k: sum(k in server.drawn(one, turn) for turn in range(1, 5)) for k in range(4)}
    assert {k: member.taken for k, member in progress.members.items()} == {k: count for k, count in taken.items() if count}
    net, start = server.initial(one)
    first = local.update(net, one, 0, 1, 1, start, Member())
    again = local.update(net, one, 0, 2, 1, start, first[1])
    fresh = local.update(net, one, 0, 2, 1, start, Member())
    assert not same(again[0], fresh[0]) and first[1].velocity[0].data_ptr() != again[1].velocity[0].data_ptr()
    still = job(momentum=0.0, decay=1.0)
    assert same(
        local.update(net, still, 0, 2, 1, start, Member([], 5))[0], local.update(net, still, 0, 2, 1, start, Member())[0]
    )


def test_fedprox_without_weight_is_fedavg_and_with_much_stays_near():
    plain = run(job("fedpu")).state
    assert same(run(job("fedpu_prox")).state, plain)
    _, start = server.initial(job())

    def moved(mu: float, form: str = "squared") -> float:
        one = job("fedpu_prox", rounds=1, lr={"fedpu_prox": 0.01}, prox=Prox(mu, form, 0.0))
        state = run(one).state
        return float(sum(((state[name] - start[name]) ** 2).sum() for name in start))

    assert moved(30.0) < 0.2 * moved(0.0) and moved(0.5, "norm") < moved(0.0)


def test_the_norm_has_no_gradient_at_the_anchor():
    weight = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(local.proximal([weight], [torch.zeros(3)], Prox(1.0, "norm", 0.0)), weight)
    assert torch.equal(gradient, torch.zeros(3))


def test_batches_without_a_label_are_a_step_like_any_other():
    assert all(numpy.isfinite(run(job("positives_only", batch=3, rounds=1)).accuracies))


def test_a_loss_that_is_not_finite_names_the_client():
    with pytest.raises(StageError, match="client 0 is not finite in round 1"):
        run(job(lr={"fedpu": 1e30}))


def test_learning_needs_labels_of_every_class_somewhere():
    """Classes that only other clients label are learnt: the average knows what no client could alone."""
    pattern = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    split = dataclasses.replace(SPLIT, x=pattern[SPLIT.y] + 0.3 * SPLIT.x)
    one = job(epochs=3, rounds=8, net="mlp")
    scene = Scene(classes_per_client=10, positives=[3], label_rate=0.5)
    params = dataclasses.replace(one.params, net=Net("mlp", 32, 0.0), scenes={"iid": scene})
    made = experiment.make_job(split, params, "iid", "fedpu", 0, CPU)
    net, progress = rounds.run(made, lambda own: evaluate(own, split))
    assert all(client.known.count == 3 for client in made.clients) and progress.accuracies[-1] > 0.9


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "resnet9"])
def test_a_stopped_federation_goes_on_to_the_same_bits(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(saved, "PAUSE", 0.0)
    one = job("fedpu_prox", kind, participation=0.5, rounds=4, prox=Prox(0.1, "squared", 0.5))
    whole, path = run(one), tmp_path / "run.state"
    calls = []

    def stop(net: torch.nn.Module) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(net, SPLIT)

    with pytest.raises(KeyboardInterrupt):
        rounds.run(one, stop, saved.Keeper(path, "this"))
    assert path.is_file()
    other = saved.Keeper(path, "another").restore(CPU)
    again = run(one, saved.Keeper(path, "this"))
    assert other is None and same(again.state, whole.state)
    assert (again.accuracies, again.exchanged) == (whole.accuracies, whole.exchanged)
    assert all(same(dict(enumerate(again.members[k].velocity)), dict(enumerate(m.velocity))) for k, m in whole.members.items())
    path.write_bytes(path.read_bytes()[:-10])
    assert saved.Keeper(path, "this").restore(CPU) is None


def test_bytes_up_to_a_goal():
    found = {
        "positives_only": saved.Progress({}, {}, [0.1, 0.5, 0.4], [100] * 3),
        "fedpu": saved.Progress({}, {}, [0.45, 0.6, 0.7], [100] * 3),
        "risk": saved.Progress({}, {}, [0.1, 0.1, 0.1], [100] * 3),
    }
    values = experiment.figures("iid", found, 2)
    assert [values[arm]["kilobytes_to_iid"] for arm in found] == [0.2, 0.1, 0.3]
    assert values["fedpu"] == {"accuracy_iid": 0.7, "accuracy_iid_early": 0.6, "kilobytes_iid": 0.3, "kilobytes_to_iid": 0.1}
