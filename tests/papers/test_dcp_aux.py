"""Auxiliary heads and the two ways of training with them."""

import copy

import pytest
import torch
import torch.nn.functional as F

from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import preresnet, vgg
from stages.lib.optim import Sgd
from stages.papers.dcp import aux_training, pivots, saved
from stages.papers.dcp.heads import attach
from stages.papers.dcp.kernels import freeze_zero_kernels

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture
def model():
    torch.manual_seed(3)
    net = preresnet([1, 1, 1], [4, 6, 8], classes=3, in_channels=2, image=8)
    return attach(net, [1, 2, 3], 3, (2, 8, 8))


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(24, 2, 8, 8, generator=generator)
    return Split(x, torch.arange(24) % 3, ("a", "b", "c"), (0.0, 0.0), (1.0, 1.0), "sample")


def settings(**more):
    return {"epochs": 1, "lr": 0.1, "batch": 24, "seed": 0, "schedule": "constant", **more}


def test_heads_have_the_width_of_their_pivot_and_no_bias_at_first(model):
    assert [head.linear.weight.shape for head in model.heads] == [(3, 4), (3, 6)]
    assert all(not head.linear.bias.any() for head in model.heads)


def test_attaching_heads_leaves_the_net_alone():
    net = preresnet([1, 1], [4, 8], classes=3, in_channels=2, image=8).train()
    before = copy.deepcopy(net.state_dict())
    attach(net, [1, 2], 3, (2, 8, 8))
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_each_loss_sees_the_net_up_to_its_pivot(model, split):
    model.eval()
    together = model(split.x)
    for p, logits in enumerate(together):
        assert torch.allclose(model.up_to(split.x, p), logits)
    assert torch.allclose(together[-1], model.net(split.x))
    with torch.no_grad():
        model.net.blocks[1].conv2.weight.mul_(2)
    assert torch.equal(model(split.x)[0], together[0])
    assert not torch.allclose(model(split.x)[1], together[1])


def test_joint_step_is_the_releases(model, split):
    """One step without decay: per-stage rates lr / sum gamma on gamma-weighted gradients, heads at the plain rate."""
    weights = [0.2, 0.5, 1.0]
    expected = _release_step(copy.deepcopy(model), split, weights, lr=0.1)
    aux_training.train_jointly(model, split, weights, **settings())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, expected[name], atol=1e-6), name


def _release_step(model, split, weights, lr):
    """The same by separate backward passes and explicit rates."""
    model.train()
    names = [name for name, _ in model.named_parameters()]
    order = torch.randperm(24, generator=torch.Generator().manual_seed(aux_training.derive_seed(0, "train")))
    x, y = split.x[order], split.y[order]
    gradients = [
        torch.autograd.grad(F.cross_entropy(logits, y), list(model.parameters()), allow_unused=True)
        for logits in _fresh(model, x)
    ]
    expected = {}
    for position, (name, parameter) in enumerate(model.named_parameters()):
        own = [g[position] for g in gradients]
        if name.startswith("heads."):
            step = own[int(name.split(".")[1])]
        else:
            step = sum(w * g for w, g in zip(weights, own) if g is not None)
            stage = int(name.split(".")[2]) if ".blocks." in name else (0 if ".stem" in name else 2)
            step = step / sum(weights[stage:]) if ".blocks." in name or ".stem" in name else step
        # the first Nesterov step with a fresh velocity: g + .9 g
        expected[name] = parameter.detach() - lr * 1.9 * step
    assert len(expected) == len(names)
    return expected


def _fresh(model, x):
    """Logits of each loss from a forward pass of its own."""
    for p in range(3):
        yield model(x)[p]


def test_scaling_ends_with_the_context(model, split):
    with aux_training.release_scaling(model, [0.2, 0.5, 1.0]):
        pass
    parameter = model.heads[0].linear.weight
    loss = 0.2 * F.cross_entropy(model(split.x)[0], split.y)
    (plain,) = torch.autograd.grad(loss, [parameter], retain_graph=True)
    loss.backward()
    assert torch.equal(parameter.grad, plain)


def test_second_step_takes_its_gradient_at_the_updated_weights(model, split):
    manual = copy.deepcopy(model)
    optimiser = Sgd(model.parameters(), 0.1, 0.0, 0.0)
    aux_training.two_steps(model, 0, split.x, split.y, optimiser, lambda: None)
    for p in (0, 2):
        grads = torch.autograd.grad(
            F.cross_entropy(manual.up_to(split.x, p), split.y), list(manual.parameters()), allow_unused=True
        )
        with torch.no_grad():
            for parameter, grad in zip(manual.parameters(), grads):
                if grad is not None:
                    parameter -= 0.1 * grad
    for ours, theirs in zip(model.parameters(), manual.parameters()):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_final_loss_takes_one_step(model, split):
    calls = []
    optimiser = Sgd(model.parameters(), 0.1)
    aux_training.two_steps(model, 2, split.x, split.y, optimiser, lambda: calls.append(1))
    aux_training.two_steps(model, 1, split.x, split.y, optimiser, lambda: calls.append(2))
    assert calls == [1, 2, 2]


def test_pruned_columns_stay_zero_in_stagewise_fine_tuning(model, split):
    layer = model.net.blocks[0].conv2
    layer.weight.data[:, [0, 2]] = 0
    before = layer.weight.detach().clone()
    aux_training.fine_tune_stage(
        model, 1, split, freeze_zero_kernels([layer]), epochs=2, lr=0.05, batch=8, weight_decay=1e-3, seed=0, label="t"
    )
    assert not layer.weight[:, [0, 2]].any()
    assert not torch.equal(layer.weight[:, 1], before[:, 1])


def test_diverging_stagewise_training_is_told(model, split):
    with pytest.raises(StageError, match="stagewise.lr"):
        aux_training.fine_tune_stage(
            model, 0, split, lambda: None, epochs=4, lr=1e38, batch=4, weight_decay=0.0, seed=0, label="t"
        )


def test_weights_follow_the_kind_of_block(model):
    assert aux_training.weights_of(model) == pytest.approx(pivots.gammas([1, 2, 3], 2))
    bottleneck = preresnet([1, 1], [4, 8], classes=3, in_channels=2, image=8, bottleneck=True)
    assert aux_training.weights_of(attach(bottleneck, [1, 2], 3, (2, 8, 8))) == pytest.approx(pivots.gammas([1, 2], 3))
    plain = vgg([4, "M", 6, 8], classes=3, in_channels=2, image=8)
    assert aux_training.weights_of(attach(plain, [2, 3], 3, (2, 8, 8))) == pytest.approx(pivots.gammas([2, 3], 1))


def test_net_and_heads_survive_the_disk(model, split, tmp_path):
    path = tmp_path / "aux.safetensors"
    saved.save_supervised(path, model.eval())
    again = saved.load_supervised(path)
    assert again.ends == model.ends
    for ours, theirs in zip(model(split.x), again(split.x)):
        assert torch.equal(ours, theirs)


def test_other_files_are_refused(tmp_path, model):
    from stages.lib import weights

    weights.save_model(tmp_path / "net.safetensors", model.net)
    with pytest.raises(StageError, match="not a net with auxiliary heads"):
        saved.load_supervised(tmp_path / "net.safetensors")
