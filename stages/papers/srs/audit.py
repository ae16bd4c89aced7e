"""Stage: the figures about the function itself, and what replacing ReLUs adds to the paper's nets."""

from dataclasses import dataclass
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import StageError, field, stage

CSV = "runs/audit/srs.csv"


@dataclass
class Signal:
    """Figures of SRS for unit Gaussian inputs, as the specification's quadrature gave them."""

    alpha: float = field(help="of the pair")
    beta: float = field(help="of the pair")
    least_value: float = field(help="least value, at -beta")
    mean: float = field(help="E f(z)")
    variance: float = field(help="Var f(z)")
    square: float = field(help="E f(z)^2")
    slope_square: float = field(help="E f'(z)^2")
    greatest: float = field(help="greatest slope")
    greatest_at: float = field(help="where; 0 is not compared")
    least: float = field(help="least slope")


@dataclass
class Converted:
    """What an activation layer of its own at every call site adds to a net."""

    net: str = field(help="a net of shakedown.py")
    image: int = field(help="side of its images")
    classes: int = field(help="classes")
    parameters: int = field(help="parameters with ReLU")
    sites: int = field(help="call sites")
    layer: int = field(help="parameters added with one pair a layer: 2 a site")
    channel: int = field(help="parameters added with one pair a channel")
    read_from: str = field(help="where the figures were read")


@dataclass
class AuditParams:
    """The section `audit`."""

    error: float = field(help="absolute error that the printed digits of the signal table allow")
    place_error: float = field(help="the same for the place of the greatest slope, printed with fewer digits")
    signal: list[Signal] = field(default_factory=list, help="pairs")
    relu_mean: float = field(help="E f(z) of ReLU")
    relu_square: float = field(help="E f(z)^2 of ReLU")
    forward_variance: float = field(help="fan_in times the variance of weights that keeps signals at (5, 3): 1 / E f^2")
    backward_variance: float = field(help="the same for gradients: 1 / E f'^2")
    largest_norm: float = field(help="largest norm c of both matrices of a block at (5, 3): c^2 max |f'| = 1")
    rounded: float = field(help="relative error that the two or three digits of these allow")
    converted: list[Converted] = field(default_factory=list, help="nets")


@dataclass
class Config:
    """Parameters of the stage."""

    scale: str = field(default="paper", help="params file of the audited figures")
    params: AuditParams = field(default_factory=AuditParams)


def row(configuration: str, quantity: str, published: float, computed: float, tolerance: float, read_from: str) -> dict:
    """One row of the audit."""
    return audit_row("srs", configuration, quantity, published, computed, tolerance, read_from)


def signal_rows(told: Signal, params: AuditParams) -> list[dict[str, Any]]:
    """Extrema by bisection and moments by quadrature, beside the specification's."""
    import torch

    from stages.papers.srs.activation import srs
    from stages.papers.srs.slopes import extrema, moments

    pair = [torch.tensor(one, dtype=torch.float64) for one in (told.alpha, told.beta)]
    found = {**vars(extrema(told.alpha, told.beta)), **vars(moments(lambda z: srs(z, *pair)))}
    names = {
        "least_value": "least value", "mean": "mean of f(z)", "variance": "variance of f(z)", "square": "mean of f(z)^2",
        "slope_square": "mean of f'(z)^2", "greatest": "greatest slope", "greatest_at": "where the slope is greatest",
        "least": "least slope",
    }  # fmt: skip
    title, read = f"SRS({told.alpha:g}, {told.beta:g}), z ~ N(0, 1)", "specification, quadrature [computed]"
    rows = []
    for name, what in names.items():
        if published := getattr(told, name):
            error = params.place_error if name == "greatest_at" else params.error
            rows.append(row(title, what, published, found[name], error / abs(published), read))
    return rows


def rule_rows(params: AuditParams) -> list[dict[str, Any]]:
    """ReLU's moments, and the rules for weights that follow from SRS's at (5, 3)."""
    import torch

    from stages.papers.srs.activation import srs
    from stages.papers.srs.slopes import extrema, moments

    relu = moments(torch.relu)
    own = moments(lambda z: srs(z, torch.tensor(5.0, dtype=z.dtype), torch.tensor(3.0, dtype=z.dtype)))
    steep, close, read = extrema(5.0, 3.0).greatest, params.rounded, "specification [computed]"
    return [
        row("ReLU, z ~ N(0, 1)", "mean of f(z)", params.relu_mean, relu.mean, params.error / params.relu_mean, read),
        row("ReLU, z ~ N(0, 1)", "mean of f(z)^2", params.relu_square, relu.square, params.error / params.relu_square, read),
        row("SRS(5, 3), weights", "fan_in Var w, forward", params.forward_variance, 1 / own.square, close, read),
        row("SRS(5, 3), weights", "fan_in Var w, backward", params.backward_variance, 1 / own.slope_square, close, read),
        row("SRS(5, 3), i-ResNet", "largest norm c", params.largest_norm, steep**-0.5, close, read),
    ]


def converted_rows(told: Converted) -> list[dict[str, Any]]:
    """Call sites of a net and the parameters that SRS adds there, all counted on the converted net."""
    import torch

    from stages.lib import macs
    from stages.papers.srs.nets import paper_net
    from stages.papers.srs.replace import replace

    with torch.device("meta"):  # shapes only
        net, example = paper_net(told.net, told.classes, told.image), torch.zeros(1, 3, told.image, told.image)
        counts = {"parameters with ReLU": (told.parameters, macs.parameters(net))}
        for kind, expected in (("layer", told.layer), ("channel", told.channel)):
            found, sites = replace(net, _layer(kind), example)
            counts["call sites of ReLU"] = (told.sites, len(sites))
            counts[f"parameters that SRS adds, one pair a {kind}"] = (expected, macs.parameters(found) - macs.parameters(net))
            _check_sum(sites, kind, counts[f"parameters that SRS adds, one pair a {kind}"][1])
    return [row(told.net, what, one, two, 0.0, told.read_from) for what, (one, two) in counts.items()]


def _layer(kind: str):
    from stages.papers.srs.layer import SRS

    return lambda site: SRS((site.channels,) if kind == "channel" else ())


def _check_sum(sites: list, kind: str, added: int) -> None:
    """StageError if the closed form 2 A or 2 sum C_l does not give what was counted."""
    closed = 2 * sum(site.channels if kind == "channel" else 1 for site in sites)
    if closed != added:
        raise StageError(f"parameters of SRS, one pair a {kind}: closed form {closed}, counted {added}; report this as a bug")


@stage(Config, paper="srs", section="audit")
def main(cfg: Config) -> None:
    """Compute what the function's definition decides, and what replacing adds to nets; write runs/audit/srs.csv."""
    params = cfg.params
    table = [line for one in params.signal for line in signal_rows(one, params)]
    table += rule_rows(params)
    table += [line for one in params.converted for line in converted_rows(one)]
    write_audit(CSV, table)


if __name__ == "__main__":
    main()
