"""What is measured of a run: accuracy, sizes, how much was explored, how unequal the layers became."""

from statistics import fmean
from typing import Any

import torch
from torch import nn

from stages.lib import training
from stages.lib.data import Split


def values(net: nn.Module, record: dict[str, Any], held_out: Split, device: torch.device) -> dict[str, float]:
    """Metrics of one repetition.

    coverage: share of the prunable channels that were ever active. width_spread: standard deviation over the layers of
    the share kept. residual_first: ||w - P w||^2 / ||w||^2 at the first exploration step, mean over the layers; up to
    there arms that differ in the score alone have the same weights. residual_mean and entropy: over all steps.
    """
    layers, events = record["layers"], record["events"]
    whole = sum(layer["channels"] for layer in layers)
    shares = torch.tensor([len(layer["kept"]) / layer["channels"] for layer in layers], dtype=torch.float64)
    found = {
        "accuracy": training.evaluate(net, held_out, device),
        "macs": record["macs"],
        "parameters": record["parameters"],
        "macs_share": record["macs"] / record["dense_macs"],
        "kept_share": sum(len(layer["kept"]) for layer in layers) / whole,
        "coverage": sum(layer["ever"] for layer in layers) / whole,
        "width_spread": float(shares.std(correction=0)),
    }
    if events:
        found["residual_first"] = fmean(events[0]["residual"])
        for metric, key in (("residual_mean", "residual"), ("entropy", "entropy")):
            found[metric] = fmean(value for event in events for value in event[key])
    return found
