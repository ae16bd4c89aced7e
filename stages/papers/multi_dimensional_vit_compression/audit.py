"""FLOPs and parameters of DeiT and of the published policies, computed without training and set beside the figures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage

if TYPE_CHECKING:
    from stages.papers.multi_dimensional_vit_compression.cost import Shape

CSV = "runs/audit/multi_dimensional_vit_compression.csv"


@dataclass
class Dense:
    """A DeiT: its shape, FLOPs of the blocks and of the whole net, and its parameters by the formula and in truth."""

    embed: int = MISSING
    heads: int = MISSING
    hidden: int = MISSING
    block_flops: int = MISSING
    macs: int = MISSING
    formula_parameters: int = field(default=0, help="0 where no figure is told")
    parameters: int = MISSING
    read_from: str = MISSING


@dataclass
class Published:
    """A searched policy of the official code, its FLOPs and parameters by the formula, and the tokens that remain."""

    net: str = MISSING
    heads: list[int] = field(default_factory=list)
    neurons: list[int] = field(default_factory=list)
    sparsity: float = MISSING
    flops: int = MISSING
    parameters: int = MISSING
    tokens: list[int] = field(default_factory=list, help="that remain after each reduction; empty where no figure is told")
    formula_tokens: list[int] = field(default_factory=list)
    read_from: str = MISSING


@dataclass
class Printed:
    """A rounded figure: the share of FLOPs that a published policy removes."""

    policy: str = MISSING
    removed: float = MISSING
    tolerance: float = MISSING
    read_from: str = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/multi_dimensional_vit_compression/paper.yaml."""

    image: int = field(help="side of the images")
    patch: int = field(help="side of the patches")
    classes: int = field(help="classes of the data set")
    depth: int = field(help="blocks")
    reduce: list[int] = field(default_factory=list, help="blocks that reduce tokens")
    nets: dict[str, Dense] = field(default_factory=dict, help="dense nets by name")
    policies: dict[str, Published] = field(default_factory=dict, help="published policies by name")
    printed: list[Printed] = field(default_factory=list, help="rounded figures")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


def row(configuration: str, quantity: str, published: float, computed: float, tolerance: float, read_from: str) -> dict:
    """One row of this paper's audit."""
    from stages.lib.audit import audit_row

    return audit_row("multi_dimensional_vit_compression", configuration, quantity, published, computed, tolerance, read_from)


def record_of(net: Dense, params: AuditParams) -> dict[str, Any]:
    """The architecture record of a DeiT."""
    from stages.lib.vit.net import vit

    return vit(
        [3, params.image, params.image], params.classes, patch=params.patch, embed=net.embed, depth=params.depth,
        heads=net.heads, hidden=net.hidden,
    )  # fmt: skip


def shape_of(net: Dense, params: AuditParams) -> "Shape":
    """The same as policies see it."""
    from stages.papers.multi_dimensional_vit_compression.gated import dense_shape

    return dense_shape(record_of(net, params), params.reduce)


def net_rows(name: str, net: Dense, params: AuditParams) -> list[dict[str, Any]]:
    """FLOPs and parameters of a dense net; StageError if the counted MACs are not those of the closed form."""
    from stages.lib import macs
    from stages.papers.multi_dimensional_vit_compression import cost

    record, shape = record_of(net, params), shape_of(net, params)
    whole, full = macs.total(record), [1] * params.depth
    counted = macs.count_record(record)
    if counted != whole.macs:
        raise StageError(f"MACs of {name}: closed form {whole.macs}, counted {counted}; the closed form is wrong")
    by_formula = cost.formula_parameters(
        shape, [net.hidden * one for one in full], [net.heads * one for one in full], params.classes
    )
    found = [
        ("FLOPs of the blocks", net.block_flops, cost.dense_flops(shape)),
        ("MACs with patch map and classifier", net.macs, whole.macs),
        ("parameters of the formula", net.formula_parameters, by_formula),
        ("parameters", net.parameters, whole.params),
    ]
    return [row(name, what, told, own, 0.0, net.read_from) for what, told, own in found if told]


def policy_rows(name: str, found: Published, params: AuditParams) -> list[dict[str, Any]]:
    """FLOPs, parameters and token counts of a published policy."""
    from stages.papers.multi_dimensional_vit_compression import cost

    shape = shape_of(params.nets[known(found.net, params.nets, "nets")], params)
    own = int(cost.flops(shape, found.neurons, found.heads, found.sparsity, fused=False)[0])
    made = [
        ("FLOPs of the blocks", found.flops, own),
        ("parameters of the formula", found.parameters,
         cost.formula_parameters(shape, found.neurons, found.heads, params.classes)),
    ]  # fmt: skip
    for what, told, fused in (("tokens", found.tokens, True), ("tokens by the formula", found.formula_tokens, False)):
        counts = cost.token_counts(shape, found.sparsity, fused)[1][0].tolist()
        made += [(f"{what} after block {at}", one, counts[at - 1]) for at, one in zip(params.reduce, told)]
    return [row(name, what, told, value, 0.0, found.read_from) for what, told, value in made]


def printed_row(figure: Printed, params: AuditParams) -> dict[str, Any]:
    """The share of FLOPs removed, as the text gives it."""
    from stages.papers.multi_dimensional_vit_compression import cost

    found = params.policies[known(figure.policy, params.policies, "policies")]
    shape = shape_of(params.nets[found.net], params)
    own = int(cost.flops(shape, found.neurons, found.heads, found.sparsity, fused=False)[0])
    removed = 100.0 * (1.0 - own / cost.dense_flops(shape))
    tolerance = figure.tolerance / figure.removed
    return row(figure.policy, "FLOPs removed (%)", figure.removed, removed, tolerance, figure.read_from)


def known(name: str, there: dict, section: str) -> str:
    """The name itself; StageError where the section has no such entry."""
    if name not in there:
        raise StageError(
            f"params/multi_dimensional_vit_compression/paper.yaml: audit.{section}: {name} is none of {', '.join(there)}"
        )
    return name


@stage(Config, paper="multi_dimensional_vit_compression", section="audit")
def main(cfg: Config) -> None:
    """Compute the FLOPs of DeiT and of both published policies to the digit; write the audit's table.

    FLOPs are multiply-adds of the blocks' linear maps and attention products, as the official code counts them.
    """
    from stages.lib.audit import write_audit

    table = [line for name, net in cfg.params.nets.items() for line in net_rows(name, net, cfg.params)]
    table += [line for name, one in cfg.params.policies.items() for line in policy_rows(name, one, cfg.params)]
    table += [printed_row(one, cfg.params) for one in cfg.params.printed]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
