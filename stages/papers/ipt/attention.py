"""Multi-head attention as the official code uses it: no biases, and queries, keys and values from different inputs."""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d / heads)) v for all heads, then one linear map; 4 d^2 weights and no biases.

    The products are written out, so that a counter of multiply-adds sees them on every device.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Parameter(torch.empty(3 * width, width))  # rows: queries, keys, values
        self.out_proj = nn.Linear(width, width, bias=False)
        nn.init.xavier_uniform_(self.in_proj)  # over the joint matrix, as torch.nn.MultiheadAttention does

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [B, N, d], key and value [B, M, d] -> [B, N, d]. Inputs that are the same tensor are projected together."""
        if query is key and key is value:
            q, k, v = nn.functional.linear(query, self.in_proj).chunk(3, 2)
        elif query is key:
            both, last = self.in_proj.split((2 * query.shape[2], query.shape[2]))
            (q, k), v = nn.functional.linear(query, both).chunk(2, 2), nn.functional.linear(value, last)
        else:
            wq, wk, wv = self.in_proj.chunk(3)
            q, k, v = (nn.functional.linear(x, w) for x, w in ((query, wq), (key, wk), (value, wv)))
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))
