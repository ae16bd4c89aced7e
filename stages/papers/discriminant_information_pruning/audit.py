"""What the paper prints and can be checked without training: sizes of its nets, budgets, shares of MACs removed."""

import functools
import json
from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.discriminant_information_pruning.train import SLUG, Net

CSV = f"runs/audit/{SLUG}.csv"


@dataclass
class Figure:
    """A printed figure of a net.

    `quantity` says what it is: parameters; macs; macs_and_bias (the additions of the last layer's bias counted, as by
    the authors); budget (MACs that stay when `share` of them is removed); structure (MACs of the widest uniform
    structure within that budget); removed (share of MACs removed when `left` stay).
    """

    net: str = MISSING
    quantity: str = MISSING
    published: float = MISSING
    unit: float = 0.0  # of the last printed digit; 0 for a figure known to the digit
    share: float = 0.0
    left: float = 0.0
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of paper.yaml."""

    nets: dict[str, Net] = field(help="constructor and options of each net, by name")
    figures: list[Figure] = field(help="printed figures: net, quantity, value, unit of the last digit, where they were read")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


@functools.cache  # several figures share a net
def _dense(text: str) -> tuple[dict, dict[str, int]]:
    """(record, sizes of its prunable layers) of a net on the meta device: shapes only."""
    import torch

    from stages.lib import macs, models, surgery

    spec = json.loads(text)
    with torch.device("meta"):
        net = models.construct(spec["name"], **spec["options"])
    record = net.record()
    if macs.count_record(record) != macs.total(record).macs:
        raise StageError(f"MACs of {record['kind']}: closed form and count differ; the closed form of that family is wrong")
    return record, {site.name: surgery.channels(net, site) for site in net.sites()}


def computed(figure: Figure, nets: dict[str, Net]) -> tuple[float, float]:
    """(value, what it may differ by for reasons that are known) of a figure; StageError for an unknown net or quantity."""
    from stages.lib import macs
    from stages.papers.discriminant_information_pruning import structure

    if figure.net not in nets:
        raise StageError(f"audit.figures: net {figure.net!r} is not in audit.nets; expected one of {', '.join(nets)}")
    spec = nets[figure.net]
    record, channels = _dense(json.dumps({"name": spec.name, "options": dict(spec.options)}, sort_keys=True))
    total = macs.total(record)
    rounding = figure.unit / 2
    if figure.quantity == "parameters":
        return total.params, rounding
    if figure.quantity in ("macs", "macs_and_bias"):
        return total.macs + record["classes"] * (figure.quantity == "macs_and_bias"), rounding
    if figure.quantity == "removed":
        return 1 - figure.left / total.macs, rounding
    if figure.quantity not in ("budget", "structure"):
        raise StageError(
            f"audit.figures: quantity {figure.quantity!r}: expected parameters, macs, macs_and_bias, budget, structure "
            "or removed"
        )
    budget = structure.budget_of(record, 1 - figure.share)
    if figure.quantity == "budget":
        return budget, rounding
    widths = structure.scaled(record, channels, dict.fromkeys(channels, 1.0), budget)
    found = structure.cost(record, widths)
    narrower = [structure.cost(record, widths | {name: width - 1}) for name, width in widths.items()]
    return found, rounding + found - min(narrower)  # one channel


def row(figure: Figure, nets: dict[str, Net]) -> dict[str, Any]:
    """The audit row (columns of reports/audit.csv) of one figure."""
    value, allowed = computed(figure, nets)
    names = {
        "macs": "MACs", "macs_and_bias": "MACs, with the additions of the last bias", "removed": "share of MACs removed",
        "budget": f"MACs when {figure.share:.0%} are removed",
        "structure": f"MACs of the widest uniform structure, {figure.share:.0%} removed",
    }  # fmt: skip
    name = figure.net + (f", {figure.left / 1e9:g}G" if figure.left else "")
    tolerance = allowed / figure.published + 1e-12
    return audit_row(
        SLUG, name, names.get(figure.quantity, figure.quantity), figure.published, value, tolerance, figure.read_from
    )


@stage(Config, paper=SLUG, section="audit")
def main(cfg: Config) -> None:
    """Compute what can be checked without training and set it beside what is printed; writes runs/audit/<paper>.csv.

    One MAC is one multiply-add of a convolution or linear map (the paper's FLOPs).
    """
    table = [row(figure, cfg.params.nets) for figure in cfg.params.figures]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
