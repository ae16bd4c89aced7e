"""The generated net: what it is, and which loss keeps what."""

import pytest
import torch

from stages.lib.errors import StageError
from stages.papers.dcp.nuisance import NuisanceParams
from stages.papers.dcp.nuisance_arms import recalls
from stages.papers.dcp.nuisance_net import generate, train_head

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
SHAPE = {"channels": 12, "outputs": 12, "classes": 4, "images": 200, "side": 4, "signal": 0.5, "noise": 0.3, "nuisance": 2.0}


def params(**more) -> NuisanceParams:
    fit = {"head_steps": 40, "head_lr": 0.1, "head_batch": 100, "lr": 0.01, "batch": 100, "passes": 1}
    return NuisanceParams(**{**SHAPE, **fit, **more})


def test_half_of_the_channels_carry_the_class_and_the_others_do_not():
    net = generate(3, **SHAPE)
    assert int(net.signal.sum()) == 6
    means = torch.stack([net.features[net.labels == c].mean((0, 2, 3)) for c in range(4)])
    spread = means.std(0)
    assert spread[net.signal].mean() > 4 * spread[~net.signal].mean()
    deviation = net.features.std((0, 2, 3))
    assert deviation[~net.signal].min() > 2 * deviation[net.signal].max()


def test_training_the_head_helps_and_leaves_the_convolution():
    net = generate(3, **SHAPE)
    before, weight = net.accuracy(), net.layer.weight.detach().clone()
    train_head(net, 40, 0.1, 100)
    assert net.accuracy() > max(before, 0.8)
    assert torch.equal(net.layer.weight.detach(), weight)
    assert not net.head.training


def test_discrimination_keeps_the_signal_and_reconstruction_the_nuisance():
    found = [recalls(params(), repetition) for repetition in (1000, 1001, 1002)]
    mean = {arm: sum(f[arm]["signal_recall"] for f in found) / 3 for arm in found[0]}
    assert mean["cross_entropy"] > 0.8
    assert mean["reconstruction"] < 0.2
    assert mean["reconstruction"] <= mean["dcp"] <= mean["cross_entropy"]
    assert all(f["cross_entropy"]["accuracy"] > f["reconstruction"]["accuracy"] for f in found)


def test_without_nuisance_reconstruction_finds_the_signal():
    """The effect comes from the nuisance: with weak noise in the other channels, rebuilding needs the signal."""
    found = recalls(params(nuisance=0.02, signal=2.0), 1000)
    assert found["reconstruction"]["signal_recall"] == 1.0


def test_same_repetition_same_result_and_another_differs():
    assert recalls(params(), 1000) == recalls(params(), 1000)
    assert recalls(params(), 1000) != recalls(params(), 1001)


@pytest.mark.parametrize("channels", [0, 1, 7])
def test_an_odd_number_of_channels_is_refused(channels):
    with pytest.raises(StageError, match="channels"):
        recalls(params(channels=channels), 0)
