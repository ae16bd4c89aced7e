"""Stage: the paper-scale nets run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.augmented_shortcuts.audit import AuditParams
from stages.papers.augmented_shortcuts.settings import Params

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/augmented_shortcuts.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images a step")
    steps: int = field(help="steps of training")
    bases: list[str] = field(default_factory=list, help="names of audit.bases to shake down")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    full: Params = field(default_factory=Params)
    audit: AuditParams = field(default_factory=AuditParams)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shake(name: str, cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about one net: every arm of the full settings stepped, probed, and its forms compared, and rebuilt."""
    import torch

    from stages.lib import macs
    from stages.lib.data import noise
    from stages.lib.models import rebuild
    from stages.papers.augmented_shortcuts import measure, training
    from stages.papers.augmented_shortcuts.arms import find_arm

    if name not in cfg.audit.bases:
        raise StageError(f"params.bases: {name} is none of {', '.join(cfg.audit.bases)}")
    base, little = cfg.audit.bases[name], cfg.params
    shape = {"patch": base.patch, "embed": base.embed, "depth": base.depth, "heads": base.heads, "hidden": 4 * base.embed}
    params = dataclasses.replace(
        cfg.full, net=dataclasses.replace(cfg.full.net, **shape),
        recipe=dataclasses.replace(cfg.full.recipe, epochs=1, warmup=0, batch=little.batch),
    )  # fmt: skip
    split = noise([3, base.image, base.image], cfg.audit.classes, little.steps * little.batch)
    facts = {}
    for arm in params.arms:
        net = training.fresh(find_arm(arm), params, split, 0)
        net = training.train(net, params, split, 0, device, None, f"{name} {arm}").eval()
        values, _ = measure.Probe(split, 1, device)(net, "trained")
        image = split.x[:1].to(device)
        check_forms(net, image)
        with torch.no_grad():
            same = bool((rebuild(net.record(), net.state_dict()).eval()(image) == net(image)).all())
        if not same:
            raise StageError(f"{name}, {arm}: rebuilt from its record it answers otherwise; report this as a bug")
        if not all(abs(value) < float("inf") for value in values.values()):
            raise StageError(f"{name}, {arm}: diversity is not finite; expected numbers, report this as a bug")
        facts[arm] = macs.parameters(net)
    return {"image": [3, base.image, base.image], "batch": little.batch, "parameters": facts}


def check_forms(net: "torch.nn.Module", x: "torch.Tensor") -> None:
    """StageError unless the net answers the same where its circulant maps run densely and by FFT."""
    import torch

    from stages.papers.augmented_shortcuts.circulant import BlockCirculant

    maps = [module for module in net.modules() if isinstance(module, BlockCirculant)]
    with torch.no_grad():
        first = net(x)
        for form in ("dense", "fft"):
            for module in maps:
                module.form = form
            gap = float((net(x) - first).abs().max())
            if not gap < 1e-3:
                raise StageError(
                    f"circulant maps by form {form} differ by {gap:.2g}; expected rounding only, report this as a bug"
                )
    for module in maps:
        module.form = "auto"


@stage(
    Config, paper="augmented_shortcuts", section="shakedown",
    files={"full": "augmented_shortcuts/{scale}:imagenet", "audit": "augmented_shortcuts/{scale}:audit"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own nets briefly, on noise of the true image shape.

    Each is built at full size, stepped, probed for diversity, and its three forms of circulant products compared. Writes
    runs/shakedown/augmented_shortcuts.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name in cfg.params.bases:
        facts[name] = shake(name, cfg, device)
        print(f"{name}: {facts[name]['parameters']}", flush=True)
    artifacts.write_json(FACTS, {"nets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
