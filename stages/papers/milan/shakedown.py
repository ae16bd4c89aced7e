"""Stage: the paper-scale configuration run for a few steps on noise of the true image shape."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.milan.audit import AuditParams
from stages.papers.milan.settings import Student, Teacher, Transfer

if TYPE_CHECKING:
    import torch

FACTS = Path("runs/shakedown/milan.json")


@dataclass
class ShakedownParams:
    """The section `shakedown`: how much less is done than at full scale."""

    batch: int = field(help="images a step")
    steps: int = field(help="steps of pre-training and of fine-tuning")
    classes: int = field(help="classes of the fine-tuned head")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    threads: int = MISSING
    device: str = MISSING
    teacher: Teacher = field(default_factory=Teacher)
    student: Student = field(default_factory=Student)
    transfer: Transfer = field(default_factory=Transfer)
    audit: AuditParams = field(default_factory=AuditParams)
    params: ShakedownParams = field(default_factory=ShakedownParams)


def shake(cfg: Config, device: "torch.device") -> dict[str, Any]:
    """Facts about the full-size nets: teacher asked, student pre-trained by MILAN, its encoder fine-tuned."""
    import torch

    from stages.lib import data, macs
    from stages.papers.milan import pretraining
    from stages.papers.milan.arms import ARMS
    from stages.papers.milan.scenes import Scenes
    from stages.papers.milan.tower import Shape, Tower, entropy

    net, little = cfg.teacher.net, cfg.params
    noise = data.noise([3, cfg.audit.image, cfg.audit.image], little.classes, little.batch * little.steps)
    nothing = torch.zeros(len(noise), 2, dtype=torch.int64)
    images = Scenes(noise.x, noise.y, nothing, nothing, noise.y)
    tower = Tower(Shape(cfg.audit.image, 3, net.patch, net.width, net.depth, net.heads, cfg.teacher.joint)).requires_grad_(
        False
    )
    targets = pretraining.look(tower, images.x, cfg.student, device)
    descent = dataclasses.replace(cfg.student.descent, epochs=1, warmup=0.0, batch=little.batch)
    settings = dataclasses.replace(cfg.student, descent=descent)
    encoder, losses = pretraining.pretrain(ARMS["milan"], settings, images, targets, 0, 0, device, None, "milan")
    if not 0.0 <= losses[0] <= 4.0:
        raise StageError(f"the loss is {losses[0]:g}; expected 0 to 4, report this as a bug")
    return {
        "teacher_parameters": macs.parameters(tower), "targets": list(targets.features.shape),
        "attention_entropy_below_1": entropy(targets.importance) < 1.0, "encoder_parameters": macs.parameters(encoder),
        "fine_tuned": tuned(cfg, encoder, noise, device), "batch": little.batch,
        "batch_at_full_scale": cfg.student.descent.batch,
    }  # fmt: skip


def tuned(cfg: Config, encoder: "torch.nn.Module", noise, device: "torch.device") -> dict[str, Any]:
    """The classifier's size and the shape of its answers after as many steps of fine-tuning."""
    from stages.lib import macs
    from stages.papers.milan import transfer
    from stages.papers.milan.encoder import restored

    recipe = dataclasses.replace(cfg.transfer.recipe, epochs=1, warmup=0, batch=cfg.params.batch)
    params = dataclasses.replace(cfg.transfer, recipe=recipe)
    found = restored(
        encoder.state_dict(), encoder.record(), cfg.student.net, noise.x.shape[1:], "pre-trained", params.drop_path
    )
    net = transfer.fine_tune(found.train(), params, noise, cfg.params.classes, 0, device, None, "fine-tune")
    return {"parameters": macs.parameters(net), "logits": list(net(noise.x[:1]).shape)}


@stage(
    Config, paper="milan", section="shakedown",
    files={"teacher": "milan/{scale}:imagenet.teacher", "student": "milan/{scale}:imagenet.student",
           "transfer": "milan/{scale}:imagenet.transfer", "audit": "milan/{scale}:audit"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Run the paper's own configuration briefly, on noise of the true image shape.

    Teacher (random weights, CLIP's shape), student and prompting decoder are built at full size; two steps of pre-training
    and two of fine-tuning follow. Writes runs/shakedown/milan.json: shapes and sizes, no measurement.
    """
    from stages.lib import artifacts, runtime

    device = runtime.prepare(cfg.threads, cfg.device, 0)
    facts = shake(cfg, device)
    print(f"teacher {facts['teacher_parameters']}, encoder {facts['encoder_parameters']} parameters", flush=True)
    artifacts.write_json(FACTS, {**facts, "scale": cfg.scale})


if __name__ == "__main__":
    main()
