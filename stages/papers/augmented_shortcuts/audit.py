"""Parameters and multiply-adds of the paper's nets, computed without training and set beside the figures."""

from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage

CSV = "runs/audit/augmented_shortcuts.csv"


@dataclass
class Base:
    """A DeiT of the paper's table."""

    image: int = MISSING
    embed: int = MISSING
    depth: int = MISSING
    heads: int = MISSING
    patch: int = MISSING


@dataclass
class Figure:
    """A figure of a base net with `paths` paths of `blocks` x `blocks` circulant blocks, 0 for dense ones."""

    base: str = MISSING
    quantity: str = MISSING  # one of those of `quantities`
    value: float = MISSING
    paths: int = 0
    blocks: int = 4
    tolerance: float = 0.0  # in units of the value
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/augmented_shortcuts/paper.yaml."""

    classes: int = field(help="classes of the data set")
    bases: dict[str, Base] = field(help="plain nets by name")
    figures: list[Figure] = field(help="published and verified figures")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


def record_of(base: Base, classes: int, paths: int, blocks: int) -> dict:
    """The record of a net of the table."""
    from stages.papers.augmented_shortcuts.arms import Arm
    from stages.papers.augmented_shortcuts.net import augvit

    arm = Arm(paths=paths, circulant=blocks > 0)
    return augvit(
        [3, base.image, base.image], classes, arm, patch=base.patch, embed=base.embed, depth=base.depth, heads=base.heads,
        hidden=4 * base.embed, blocks=blocks or 1,
    )  # fmt: skip


def quantities(base: Base, classes: int, paths: int, blocks: int) -> dict[str, float]:
    """Every quantity of a net; StageError if the counter of real operations disagrees with the closed form."""
    import torch

    from stages.lib import macs
    from stages.papers.augmented_shortcuts.fourier import extra_multiplications
    from stages.papers.augmented_shortcuts.net import AugVit

    record = record_of(base, classes, paths, blocks)
    plain, whole = macs.total(record_of(base, classes, 0, 0)), macs.total(record)
    with torch.device("meta"):  # shapes only
        net = AugVit(record, form="dense")
        counted = macs.count(net, torch.empty(1, *record["input"])), macs.parameters(net)
    if counted != (whole.macs, whole.params):
        raise StageError(f"closed form {whole.macs}, {whole.params}; counted {counted}; the closed form is wrong")
    tokens = (base.image // base.patch) ** 2 + 1
    products = 2 * base.depth * tokens * tokens * base.embed
    fourier = extra_multiplications(base.embed, blocks, paths, base.depth, tokens) if blocks else whole.macs - plain.macs
    return {
        "parameters": whole.params, "parameters (millions)": whole.params / 1e6,
        "parameters of the paths": whole.params - plain.params,
        "MACs": plain.macs + fourier, "MACs of linear maps": plain.macs - products,
        "GFLOPs, paths by FFT": (plain.macs + fourier) / 1e9,
        "10^9 MACs of the paths, computed densely": (whole.macs - plain.macs) / 1e9,
    }  # fmt: skip


def configuration(figure: Figure) -> str:
    """The net as a reader meets it."""
    if not figure.paths:
        return figure.base
    return f"{figure.base}, T={figure.paths}, " + (f"b={figure.blocks}" if figure.blocks else "dense")


def row(figure: Figure, params: AuditParams, known: dict[tuple, dict[str, float]]) -> dict[str, Any]:
    """One row of the audit, in the columns of reports/audit.csv; `known` keeps the quantities of nets."""
    if figure.base not in params.bases:
        raise StageError(
            f"params/augmented_shortcuts/paper.yaml: audit.figures: {figure.base} is none of {', '.join(params.bases)}"
        )
    net = (figure.base, figure.paths, figure.blocks)
    if net not in known:
        known[net] = quantities(params.bases[figure.base], params.classes, figure.paths, figure.blocks)
    found = known[net]
    if figure.quantity not in found:
        raise StageError(
            f"params/augmented_shortcuts/paper.yaml: audit.figures: {figure.quantity!r} is not one of {', '.join(found)}"
        )
    return audit_row(
        "augmented_shortcuts", configuration(figure), figure.quantity, figure.value, found[figure.quantity],
        figure.tolerance / figure.value, figure.read_from,
    )  # fmt: skip


@stage(Config, paper="augmented_shortcuts", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes of the paper's nets to the digit; write runs/audit/augmented_shortcuts.csv.

    One MAC is one multiply-add of a linear map or an attention product; FFTs by their textbook count.
    """
    known: dict[tuple, dict[str, float]] = {}
    write_audit(CSV, [row(figure, cfg.params, known) for figure in cfg.params.figures])


if __name__ == "__main__":
    main()
