"""The entangled supernet: slices equal the stand-alone net, share storage and gradients; relative positions."""

import random

import pytest
import torch

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.models import build, rebuild
from stages.lib.vit.parts import drop_rates, dropped
from stages.papers.focusformer import cost
from stages.papers.focusformer import space as spaces
from stages.papers.focusformer.relative import RelativePositions, attend, indices
from stages.papers.focusformer.settings import Space
from stages.papers.focusformer.settings import Supernet as Shape
from stages.papers.focusformer.space import Architecture
from stages.papers.focusformer.supernet import Supernet
from stages.papers.focusformer.transformer import record_of

SPACE = Space([16, 24, 32], [1, 2, 4], [1, 2, 4], [2, 3, 4])
CANVAS = cost.Canvas(8, 1, 10, 2, 8, 3)
torch.set_num_threads(1)


def supernet(bias: str = "interleaved", drop: float = 0.0, seed: int = 0) -> Supernet:
    """A supernet all of whose tensors are random, biases and norms too."""
    torch.manual_seed(seed)
    net = Supernet(Shape(32, 4, 4, 4, 8, 2, 3, bias, 0.1, drop), CANVAS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def architectures(count: int) -> list[Architecture]:
    draw = random.Random(0)
    return [spaces.smallest(SPACE), spaces.largest(SPACE), *(spaces.uniform(SPACE, draw) for _ in range(count))]


@pytest.mark.parametrize("bias", ["interleaved", "prefix"])
def test_an_extracted_net_answers_as_its_slice(bias):
    net, x = supernet(bias), torch.randn(3, 1, 8, 8)
    for found in architectures(12):
        alone = net.extract(found)
        assert torch.allclose(alone(x), net(x, found), atol=1e-6)
        assert macs.parameters(alone) == cost.parameters(found, CANVAS) == macs.total(alone.record()).params
        assert macs.count(alone, x) == cost.macs(found, CANVAS) == macs.total(alone.record()).macs


def test_a_record_rebuilds_the_net():
    alone, x = supernet().extract(architectures(1)[-1]), torch.randn(2, 1, 8, 8)
    again = rebuild(alone.record(), alone.state_dict()).eval()
    assert torch.equal(again(x), alone(x))


@pytest.mark.parametrize(
    ("key", "value"),
    [("heads", [1]), ("ratios", []), ("embed", 0), ("ratios", [0.01, 1]), ("patch", 3), ("heads", [1, 0]), ("clip", "3")],
)
def test_records_that_are_no_net(key, value):
    record = record_of(spaces.smallest(SPACE), CANVAS)
    with pytest.raises(StageError):
        build({**record, key: value})


def test_gradients_stay_in_the_prefix_and_in_the_first_blocks():
    net, found = supernet().train(), Architecture(16, (2, 1), (1, 2))
    net(torch.randn(4, 1, 8, 8), found).square().sum().backward()
    first = net.blocks[0]
    assert first.fc1.weight.grad[:32, :16].abs().min() > 0 and first.fc1.weight.grad[32:].abs().max() == 0
    assert first.fc1.weight.grad[:, 16:].abs().max() == 0 and first.proj.weight.grad[:, 8:].abs().max() == 0
    rows = first.qkv.weight.grad.view(-1, 3, 32)
    assert rows[:8, :, :16].abs().sum(2).min() > 0 and rows[8:].abs().max() == 0 and rows[:, :, 16:].abs().max() == 0
    assert net.stem.positions.grad[..., 16:].abs().max() == 0 and net.norm.weight.grad[16:].abs().max() == 0
    assert all(parameter.grad is None for block in net.blocks[2:] for parameter in block.parameters())


def test_training_a_small_net_changes_the_large_ones_prefix():
    net, x = supernet(), torch.randn(3, 1, 8, 8)
    small, large = spaces.smallest(SPACE), spaces.largest(SPACE)
    before, kept = net(x, large), net.blocks[0].fc1.weight.detach().clone()
    net(x, small).square().sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert not torch.allclose(net(x, large), before)
    changed = net.blocks[0].fc1.weight != kept
    assert changed[:16, :16].all() and not changed[16:].any() and not changed[:, 16:].any()


def test_biases_of_q_k_and_v_are_their_own_or_the_plain_prefix():
    block = supernet().blocks[0]
    weight, bias = block.qkv_slice(2, 24)
    assert torch.equal(weight[:16], block.qkv.weight[0:48:3, :24]) and torch.equal(weight[32:], block.qkv.weight[2:48:3, :24])
    assert torch.equal(bias[16:32], block.qkv.bias[1:48:3])
    quirk = supernet("prefix").blocks[0]
    assert torch.equal(quirk.qkv_slice(2, 24)[1], quirk.qkv.bias[:48])


def test_relative_positions_by_brute_force():
    rows, columns = indices(17, 3)
    for table in (rows, columns):
        assert table.shape == (17, 17) and table[0].eq(0).all() and table[:, 0].eq(0).all()
        assert table.diagonal()[1:].eq(4).all()  # clip + 1
    for i in range(16):
        for j in range(16):
            assert rows[i + 1, j + 1] == max(-3, min(3, j // 4 - i // 4)) + 4
            assert columns[i + 1, j + 1] == max(-3, min(3, j % 4 - i % 4)) + 4
    rows, columns = indices(197, 14)
    assert int(rows[1, 1]) == int(columns[1, 1]) == 15 and int(rows.max()) == 28 and int(rows[1:, 1:].min()) == 2
    assert int(indices(1 + 20 * 20, 14)[0].max()) == 29


def test_tables_made_on_the_meta_device_are_real():
    with torch.device("meta"):
        rows, _ = indices(26, 2)
    assert rows.device.type == "cpu" and int(rows[1, 1]) == 3


def test_attention_by_brute_force():
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 2, 3, 5, 8, dtype=torch.float64)
    table = RelativePositions(3, 8).double()
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.normal_()
    keys, values = table(5), 2 * table(5)
    out = attend(q, k, v, keys, values).view(2, 5, 3, 8)
    for b in range(2):
        for head in range(3):
            for i in range(5):
                logits = torch.stack([q[b, head, i] @ (k[b, head, j] + keys[i, j]) for j in range(5)]) / 8**0.5
                weights = torch.softmax(logits, 0)
                wanted = sum(weights[j] * (v[b, head, j] + values[i, j]) for j in range(5))
                assert torch.allclose(out[b, i, head], wanted)


def test_stochastic_depth_follows_the_supernets_depth():
    rates = drop_rates(0.1, 14)
    assert rates[0] == 0.0 and rates[-1] == pytest.approx(0.1) and rates == sorted(rates)
    net = supernet(drop=0.3)
    alone = net.extract(Architecture(16, (1, 1), (1, 1)))
    assert [block.drop_path for block in alone.blocks] == [block.drop_path for block in net.blocks][:2]
    torch.manual_seed(0)
    branch = torch.ones(4000, 2, 3)
    kept = dropped(branch, 0.25, training=True)
    assert sorted(set(kept.flatten().tolist())) == pytest.approx([0.0, 4 / 3]) and abs(float(kept.mean()) - 1) < 0.05
    assert torch.equal(dropped(branch, 0.25, training=False), branch)


def test_an_architecture_that_does_not_fit():
    with pytest.raises(StageError, match="does not fit"):
        supernet().extract(Architecture(16, (1,) * 5, (1,) * 5))
