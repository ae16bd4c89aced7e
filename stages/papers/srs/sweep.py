"""Many fully connected nets of one depth and width trained at once: every arm, repetition and initialisation side by side.

Features of K nets are [K, units, examples], so that linear maps are one batched product and BN is one fused call on
[1, K * units, examples]. The nets of an arm lie together, within it those of a repetition, within that the initialisations.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.optim import schedule
from stages.lib.runtime import derive_seed
from stages.papers.srs import layer
from stages.papers.srs.peers import SideBySide, activation
from stages.papers.srs.settings import Activation, Sweep
from stages.papers.srs.slopes import moments

EPS, MOMENTUM = 1e-5, 0.1  # of BN


class Matrices(nn.Module):
    """K linear maps; no bias where BN follows."""

    def __init__(self, weight: Tensor, bias: bool) -> None:
        """weight [K, outputs, inputs]."""
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(weight.new_zeros(*weight.shape[:2], 1)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[K, outputs, examples] of [K, inputs, examples]."""
        return self.weight @ x if self.bias is None else torch.baddbmm(self.bias, self.weight, x)


class Normalisation(nn.Module):
    """BN of K nets."""

    def __init__(self, nets: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(nets, units))
        self.bias = nn.Parameter(torch.zeros(nets, units))
        self.register_buffer("mean", torch.zeros(nets * units))
        self.register_buffer("variance", torch.ones(nets * units))

    def forward(self, x: Tensor) -> Tensor:
        """x [K, units, examples], each unit of each net by its own statistics."""
        flat = x.reshape(1, -1, x.shape[2])
        weight, bias = self.weight.view(-1), self.bias.view(-1)
        return F.batch_norm(flat, self.mean, self.variance, weight, bias, self.training, MOMENTUM, EPS).view(x.shape)


class Nets(nn.Module):
    """Nets of an input layer, `depth` hidden layers linear - (BN) - activation, and a linear map to the classes."""

    coupled = True  # the rows of what it takes are nets, not examples: nothing to share out to processes

    def __init__(self, weights: Sequence[Tensor], arms: Sequence[str], options: Activation, normalised: bool) -> None:
        """weights: of every layer [K, outputs, inputs], the last one's outputs the classes."""
        super().__init__()
        nets, units = weights[0].shape[:2]
        self.linear = nn.ModuleList(Matrices(one, not normalised) for one in weights[:-1])
        self.norms = nn.ModuleList(Normalisation(nets, units) for _ in weights[:-1]) if normalised else None
        self.acts = nn.ModuleList(SideBySide(arms, nets // len(arms), options, units) for _ in weights[:-1])
        self.head = Matrices(weights[-1], True)

    def features(self, x: Tensor) -> list[Tensor]:
        """What every activation answers, [K, units, examples] each, for x [K, inputs, examples]."""
        found = []
        for i, (linear, act) in enumerate(zip(self.linear, self.acts, strict=True)):
            x = linear(x)
            found.append(x := act(x if self.norms is None else self.norms[i](x)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits [K, classes, examples]."""
        return self.head(self.features(x)[-1])


def preserving(name: str, options: Activation) -> float:
    """s with which an activation keeps the second moment of unit Gaussian inputs: 1 / sqrt E f(z)^2; sqrt 2 for ReLU (He)."""
    act = activation(name, 1, options, 1).double()
    return moments(lambda z: act(z.view(1, 1, -1)).flatten()).square ** -0.5


def initial(params: Sweep, inputs: int, classes: int, repetitions: Sequence[int]) -> list[Tensor]:
    """Weights of every layer [K, outputs, inputs]: of a repetition one draw of unit normals, scaled for each initialisation."""
    scale = torch.tensor([[*params.scales, preserving(arm, params.activation)] for arm in params.arms])
    sizes = [inputs, *[params.width] * params.depth]
    generators = [torch.Generator().manual_seed(derive_seed(one, "init")) for one in repetitions]
    weights = []
    for fan_in, outputs in zip(sizes, [*sizes[1:], classes], strict=True):
        drawn = torch.stack([torch.randn(outputs, fan_in, generator=one) for one in generators]) / math.sqrt(fan_in)
        head = len(weights) == params.depth
        factor = torch.ones_like(scale) if head else scale
        weights.append((factor[:, None, :, None, None] * drawn[None, :, None]).flatten(0, 2))
    return weights


class Trainee(nn.Module):
    """Nets with their SGD, gradient limits and curves, for `stages.lib.training`, which gives each step's positions.

    A repetition has its own order of the data: its own permutation, through which it reads the positions. Velocities, clock and
    curves are buffers, so that a stopped run goes on with the same.
    """

    losses: Tensor
    accuracies: Tensor
    clock: Tensor

    def __init__(self, net: Nets, params: Sweep, train: Split, tested: Split, repetitions: Sequence[int]) -> None:
        """train, tested: x [N, inputs]."""
        super().__init__()
        self.net, self.params, self.repetitions = net, params, len(repetitions)
        count = len(net.head.weight)
        self.steps = -(-len(train) // params.batch)
        if len(train) % params.batch == 1:
            raise StageError(f"params.batch={params.batch}: leaves a last batch of one image, which BN cannot take")
        self.rate = schedule(params.schedule, params.lr, params.epochs * self.steps, params.milestones)
        orders = [
            torch.randperm(len(train), generator=torch.Generator().manual_seed(derive_seed(r, "order"))) for r in repetitions
        ]
        self.register_buffer("orders", torch.stack(orders))
        self.register_buffer("losses", torch.zeros(params.epochs, count))
        self.register_buffer("accuracies", torch.zeros(params.epochs, count, dtype=torch.float64))
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))
        told = hashlib.sha256(repr((params, list(repetitions), net.norms is None)).encode()).digest()
        self.register_buffer("told", torch.tensor(list(told), dtype=torch.uint8))
        self.held = list(net.parameters())
        own = {id(one): act.slots(i) for act in net.acts for i, each in enumerate(act.each) for one in each.parameters()}
        self.slots = [own.get(id(one), slice(0, count)) for one in self.held]  # which nets a parameter's rows belong to
        for i, one in enumerate(self.held):
            self.register_buffer(f"velocity{i}", torch.zeros_like(one, requires_grad=False))
        matrices = {id(module.weight) for module in net.modules() if isinstance(module, Matrices)}
        self.decayed = [one for one in self.held if id(one) in matrices]
        self.register_buffer("x", train.x.t().contiguous(), persistent=False)
        self.register_buffer("y", train.y, persistent=False)
        self.register_buffer("tested_x", tested.x.t().contiguous(), persistent=False)
        self.register_buffer("tested_y", tested.y, persistent=False)

    def _spread(self, each: Tensor) -> Tensor:
        """[K, ...] of [repetitions, ...]: every repetition's for all its initialisations, in all arms."""
        inits = len(self.net.head.weight) // len(self.params.arms) // self.repetitions
        return each.repeat_interleave(inits, 0).repeat(len(self.params.arms), *[1] * (each.dim() - 1))

    def loss(self, positions: Tensor) -> Tensor:
        """Sum over the nets of their mean cross-entropies; every net's own is noted for the curve of its epoch."""
        chosen = self.orders[:, positions]
        x, y = self.x[:, chosen].transpose(0, 1), self.y[chosen]
        found = F.log_softmax(self.net(self._spread(x)), 1)
        each = -found.gather(1, self._spread(y).unsqueeze(1)).mean((1, 2))
        self.losses[int(self.clock) // self.steps] += each.detach() / self.steps
        return each.sum()

    @torch.no_grad()
    def after_step(self) -> None:
        """SGD with momentum, each net's gradient limited on its own; at the end of an epoch all nets are tested."""
        rate = self.rate(int(self.clock))
        torch._foreach_add_([one.grad for one in self.decayed], self.decayed, alpha=self.params.weight_decay)
        gradients = [one.grad for one in self.held]
        squares = gradients[0].new_zeros(len(self.net.head.weight))
        for one, slots in zip(gradients, self.slots, strict=True):
            squares[slots] += one.reshape(len(one), -1).square().sum(1)
        limit = (self.params.clip / squares.sqrt()).clamp(max=1.0)
        limits = [limit[slots].view(-1, *[1] * (one.dim() - 1)) for one, slots in zip(gradients, self.slots, strict=True)]
        torch._foreach_mul_(gradients, limits)
        velocities = [getattr(self, f"velocity{i}") for i in range(len(self.held))]
        torch._foreach_mul_(velocities, self.params.momentum)
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(self.held, velocities, alpha=-rate)
        layer.project(self.net)
        for one in self.held:
            one.grad = None
        self.clock += 1
        if int(self.clock) % self.steps == 0:
            self.accuracies[int(self.clock) // self.steps - 1] = self.tested()[0]

    @torch.no_grad()
    def tested(self) -> tuple[Tensor, Tensor]:
        """(accuracy, mean over hidden layers of |mean activation|) of every net on the held-out images, in eval mode."""
        self.net.eval()
        features = self.net.features(self.tested_x.expand(len(self.net.head.weight), -1, -1))
        right = (self.net.head(features[-1]).argmax(1) == self.tested_y).double().mean(1)
        self.net.train()
        return right, torch.stack([one.mean((1, 2)).abs() for one in features]).mean(0)
