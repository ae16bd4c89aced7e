"""Stage: sizes and constants that need no training, set beside the published ones."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage

CSV = "runs/audit/privacy_adversarial_features.csv"


@dataclass
class Map:
    """A linear map on a device and its published multiply-adds."""

    features: int = MISSING
    dims: int = MISSING
    macs: int = MISSING
    read_from: str = MISSING


@dataclass
class Labels:
    """A data set's label, whose balanced and centred matrix has the squared norm C - 1."""

    classes: int = MISSING
    squared_norm: int = MISSING
    read_from: str = MISSING


@dataclass
class Total:
    """Two parts and their published sum."""

    parts: list[int] = field(default_factory=list)
    total: int = MISSING
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/privacy_adversarial_features/paper.yaml."""

    maps: dict[str, Map] = field(default_factory=dict, help="linear maps by name")
    labels: dict[str, Labels] = field(default_factory=dict, help="labels by name")
    totals: dict[str, Total] = field(default_factory=dict, help="sums by name")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


row = partial(audit_row, "privacy_adversarial_features")


def map_row(name: str, figures: Map) -> dict[str, Any]:
    """MACs of a linear map by the closed form; StageError if those counted in a forward pass differ."""
    import torch

    from stages.lib import macs
    from stages.papers.privacy_adversarial_features import maps

    closed = maps.cost([figures.features, figures.dims])["macs"]
    with torch.device("meta"):  # shapes only
        counted = macs.count(torch.nn.Linear(figures.features, figures.dims), torch.empty(1, figures.features))
    if counted != closed:
        raise StageError(f"MACs of {name}: closed form {closed}, counted {counted}; the closed form is wrong")
    return row(name, "MACs on the device", figures.macs, closed, 0.0, figures.read_from)


def label_row(name: str, figures: Labels) -> dict[str, Any]:
    """|Yc|^2 of labels with classes of different size; rounding is tolerated."""
    import torch

    from stages.lib.dependence import balanced_labels

    y = torch.repeat_interleave(torch.arange(figures.classes), torch.arange(1, figures.classes + 1))
    found = float(balanced_labels(y, figures.classes).square().sum())
    return row(name, "squared norm of the balanced labels", figures.squared_norm, found, 1e-12, figures.read_from)


@stage(Config, paper="privacy_adversarial_features", section="audit")
def main(cfg: Config) -> None:
    """Compute device costs, the bound of discriminant information and sizes of UCI HAR, and write them as CSV."""
    table = [map_row(name, one) for name, one in cfg.params.maps.items()]
    table += [label_row(name, one) for name, one in cfg.params.labels.items()]
    table += [row(name, "total", one.total, sum(one.parts), 0.0, one.read_from) for name, one in cfg.params.totals.items()]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
