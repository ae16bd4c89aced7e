"""Many nets as one module: the same outcome as one after another."""

import pytest
import torch
from torch import nn

from stages.lib import batched, training
from stages.lib.data import Split
from stages.lib.errors import StageError

torch.set_num_threads(1)


class Net(nn.Module):
    """Convolutions with and without bias, BN, a residual sum, pooling, a linear map."""

    classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(8, affine=False)
        )
        self.pool = nn.AvgPool2d(2)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.stem(x)
        return self.classifier(self.pool(h + self.body(h)).mean((2, 3)))


@pytest.fixture
def nets() -> list[Net]:
    made = []
    for seed in range(5):
        torch.manual_seed(seed)
        made.append(Net())
    return made


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn(60, 2, 6, 6, generator=generator) + y.view(-1, 1, 1, 1)
    return Split(x, y, ("a", "b", "c"), (0.0, 0.0), (1.0, 1.0), "sample")


def test_outputs_are_those_of_the_single_nets(nets, split):
    together = batched.stack(nets, shared=True)
    for mode in (True, False):
        alone = torch.cat([net.train(mode)(split.x) for net in nets], 1)
        torch.testing.assert_close(together.train(mode)(split.x), alone)


def test_own_inputs_stand_side_by_side(nets, split):
    together = batched.stack(nets)
    inputs = [split.x + shift for shift in range(len(nets))]
    alone = torch.cat([net(x) for net, x in zip(nets, inputs)], 1)
    torch.testing.assert_close(together(torch.cat(inputs, 1)), alone)


def test_training_together_ends_where_the_loop_ends(nets, split):
    together = batched.stack(nets, shared=True)
    amounts = {"epochs": 3, "lr": 0.05, "batch": 16, "seed": 7, "weight_decay": 1e-3, "loss": batched.cross_entropy}
    training.train(together, split, **amounts)
    for net in nets:
        training.train(net, split, **amounts)
    for index, net in enumerate(nets):
        share = batched.unstack(together, index, len(nets))
        assert set(share) == set(net.state_dict())
        for name, value in net.state_dict().items():
            torch.testing.assert_close(share[name], value, rtol=1e-3, atol=1e-4)
    found = batched.accuracies(together, split, len(nets))
    assert found == [training.evaluate(net, split) for net in nets] and max(found) > 0.5


def test_unstack_gives_back_what_was_stacked(nets):
    together = batched.stack(nets)
    for index, net in enumerate(nets):
        for name, value in net.state_dict().items():
            assert torch.equal(batched.unstack(together, index, len(nets))[name], value)


def test_stacked_nets_are_copies(nets, split):
    before = nets[0].classifier.weight.clone()
    together = batched.stack(nets, shared=True)
    batched.cross_entropy(together, split.x, split.y).backward()
    with torch.no_grad():
        together.classifier.weight.add_(1)
    assert torch.equal(nets[0].classifier.weight, before) and nets[0].classifier.weight.grad is None


def test_the_summed_loss_gives_each_net_its_own_gradient(nets, split):
    together = batched.stack(nets, shared=True)
    batched.cross_entropy(together, split.x, split.y).backward()
    for index, net in enumerate(nets):
        nn.functional.cross_entropy(net(split.x), split.y).backward()
        torch.testing.assert_close(together.classifier.weight.grad[index], net.classifier.weight.grad)
        torch.testing.assert_close(together.stem[0].weight.grad.chunk(5)[index], net.stem[0].weight.grad)


def test_routes_are_indexing_by_net_and_each_others_gradients():
    members, places = [2, 0, 2, 2], 4  # a place may have several parts, or none
    routes = batched.Routes(members, places)
    x, parts = (torch.randn(2, count * 3, 5, 5, requires_grad=True) for count in (places, len(members)))
    picked, spread = routes.pick(x), routes.spread(parts)
    assert torch.equal(picked.view(2, 4, 3, 5, 5), x.view(2, 4, 3, 5, 5)[:, members])
    expected = torch.zeros(2, places, 3, 5, 5).index_add(1, torch.tensor(members), parts.view(2, 4, 3, 5, 5))
    torch.testing.assert_close(spread.view(2, 4, 3, 5, 5), expected)
    torch.testing.assert_close((picked * parts).sum(), (x * spread).sum())  # adjoint maps
    (gradient,) = torch.autograd.grad((picked * parts.detach()).sum(), x)
    torch.testing.assert_close(gradient, spread.detach())
    (gradient,) = torch.autograd.grad((spread * x.detach()).sum(), parts)
    torch.testing.assert_close(gradient, picked.detach())


def test_what_cannot_be_stacked():
    with pytest.raises(StageError, match="one net or more"):
        batched.stack([])
    with pytest.raises(StageError, match="differ in structure"):
        batched.stack([nn.ReLU(), nn.Linear(2, 2)])
    with pytest.raises(StageError, match="differ in width"):
        batched.stack([nn.Linear(2, 2), nn.Linear(3, 2)])
    with pytest.raises(StageError, match="weights of its own"):
        batched.stack([nn.PReLU(), nn.PReLU()])
    with pytest.raises(StageError, match="share its input"):
        batched.stack([nn.Conv2d(4, 4, 1, groups=2)] * 2, shared=True)


def test_a_net_that_answers_nan_is_refused(nets, split):
    with torch.no_grad():
        nets[3].classifier.weight.fill_(float("nan"))
    with pytest.raises(StageError, match="NaN"):
        batched.accuracies(batched.stack(nets, shared=True), split, len(nets))
