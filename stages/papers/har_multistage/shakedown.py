"""Stage: the full-size nets run for a few steps on noise of the true window shape."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, stage
from stages.lib.stage import field as parameter
from stages.papers.har_multistage.settings import Params, Schedule

if TYPE_CHECKING:
    import torch

    from stages.lib.sensors.windows import Windows

FACTS = Path("runs/shakedown/har_multistage.json")
GROUPS = 4


@dataclass
class Shape:
    """What a data set's windows are."""

    channels: int = MISSING
    window: int = MISSING
    classes: int = MISSING


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    windows: int = parameter(help="training windows of the noise")
    batch: int = parameter(help="windows a step")
    sets: dict[str, Shape] = field(default_factory=dict)


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = parameter(default="paper", help="params file of the full settings")
    threads: int = MISSING
    device: str = MISSING
    full: Params = field(default_factory=Params)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def noise(shape: Shape, count: int) -> "Windows":
    """Windows of Gaussian noise, every class in every one of GROUPS groups."""
    import numpy

    from stages.lib.sensors.windows import Windows

    random = numpy.random.RandomState(0)
    y = numpy.arange(count) % shape.classes
    group = numpy.arange(count) // shape.classes % GROUPS
    x = random.standard_normal((count, shape.channels, shape.window)).astype(numpy.float32)
    channels, classes = (tuple(map(str, range(number))) for number in (shape.channels, shape.classes))
    same = {name: group for name in ("subject", "group", "recording")}
    zero = numpy.zeros(count, numpy.int64)
    return Windows(x, y, **same, start=zero, split=zero, classes=classes, channels=channels, rate_hz=50.0, people={},
                   grouping="subject", source="noise", name="shakedown")  # fmt: skip


def shortened(full: Params, batch: int) -> Params:
    """The same settings with one pass a stage, in small batches."""
    schedules = {name: value for name, value in vars(full.stages).items() if isinstance(value, Schedule)}
    once = {name: dataclasses.replace(schedule, epochs=1) for name, schedule in schedules.items()}
    division = dataclasses.replace(full.division, folds=GROUPS, inner=GROUPS - 1)
    return dataclasses.replace(full, stages=dataclasses.replace(full.stages, **once), batch=batch, division=division)


def shake(shape: Shape, cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about one data set's nets: all branches trained, merged both ways, and checked against their parts."""
    import torch

    from stages.lib.macs import parameters
    from stages.papers.har_multistage import cost, individual, multistage, problem

    params = shortened(cfg.full, cfg.params.batch)
    count = max(cfg.params.windows, GROUPS * shape.classes)
    own = problem.make(noise(shape, count), params, "grouped", 0)
    branches = {name: individual.train_branch(name, own, params, 0, device, None, name) for name in params.transforms.names}
    run = multistage.Run(own, params, 0, device, lambda _: None, "shakedown")
    net = multistage.merge(list(branches.values()), params, own.classes, 0).to(device).eval()
    inputs = [x.to(device) for x in own.examples("test", *net.names).inputs]
    with torch.no_grad():
        apart = torch.cat([one.extractor(x) for one, x in zip(branches.values(), inputs, strict=True)], dim=1)
        if not torch.equal(net.features(inputs), apart):
            raise StageError("merged features differ from those of the single extractors; report this as a bug")
    both, one = multistage.combined(branches, run), multistage.sequential(branches, run)
    if parameters(both.tuned) != cost.merged_parameters(own.shapes, params.net, own.classes):
        raise StageError("the merged net has other parameters than its closed form; report this as a bug")
    return {
        "shapes": {name: list(found) for name, found in own.shapes.items()}, "parameters": parameters(both.tuned),
        "sequential": one.kept, "batch": params.batch, "batch_at_full_scale": cfg.full.batch,
    }  # fmt: skip


@stage(
    Config, paper="har_multistage", section="shakedown", files={"full": "har_multistage/{scale}:uci_har"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Train all branches at full size on noise, merge them both ways. Writes runs/shakedown/har_multistage.json.

    Shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = {}
    for name, shape in cfg.params.sets.items():
        facts[name] = shake(shape, cfg, device)
        print(f"{name}: {facts[name]['parameters']} parameters", flush=True)
    artifacts.write_json(FACTS, {"sets": facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
