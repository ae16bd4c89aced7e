"""AdamW against torch's own."""

import torch
from torch import nn

from stages.lib.adamw import AdamW, decay_groups


def test_adamw_is_torchs_with_parameters_left_out_at_times():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    own = AdamW(decay_groups(nets[0], 0.1))
    groups = [{"params": held, "weight_decay": decay} for held, decay in decay_groups(nets[1], 0.1)]
    other = torch.optim.AdamW(groups, lr=0.01)
    x = torch.randn(8, 4)
    for step in range(6):
        for net in nets:
            (net(x) if step % 2 else net[:2](x)).square().sum().backward()
        own.step(0.01)
        other.step()
        other.zero_grad()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6) and a.grad is None
