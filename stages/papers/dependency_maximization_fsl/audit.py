"""Sizes of the backbone, the tasks and the published divisions into classes, computed without training."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.dependency_maximization_fsl.settings import Net, Tasks

CSV = "runs/audit/dependency_maximization_fsl.csv"
SPLITS = ("train", "val", "test")
CUB = 200  # classes of CUB-200-2011
EACH = 600  # images a class of mini-ImageNet and CIFAR-FS
row = partial(audit_row, "dependency_maximization_fsl")


@dataclass
class AuditParams:
    """The section `audit` of params/dependency_maximization_fsl/paper.yaml."""

    classes: int = field(help="base classes of the audited head")
    parameters: int = field(help="the backbone's, without its head")
    parameters_head: int = field(help="the same with the head")
    macs: dict[int, int] = field(help="multiply-adds with the head, by side of the image")
    query: int = field(help="query images of a task")
    equivalent_weight: float = field(help="weight of the dependence divided by (n - 1)^2 that equals the plain trace's")
    splits: dict[str, list[int]] = field(help="images of base, validation and novel classes by data set")
    class_counts: dict[str, list[int]] = field(help="their classes by data set")
    read_from: str = MISSING
    read_from_splits: str = MISSING


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    net: Net = field(default_factory=Net)
    tasks: Tasks = field(default_factory=Tasks)
    mini_imagenet: dict[str, Any] = field(default_factory=dict, help="params/dataset/mini_imagenet.yaml")
    cifar_fs: dict[str, Any] = field(default_factory=dict, help="params/dataset/cifar_fs.yaml")
    cub: dict[str, Any] = field(default_factory=dict, help="params/dataset/cub.yaml")
    params: AuditParams = field(default_factory=AuditParams)


def net_rows(net: Net, params: AuditParams) -> list[dict[str, Any]]:
    """Parameters and MACs in closed form; StageError if what is counted in a forward pass differs."""
    from dataclasses import replace

    from stages.lib import macs
    from stages.papers.dependency_maximization_fsl import backbone

    record = backbone.record_of(net, 3, params.classes)
    total = macs.total(record)
    head = next(layer.params for layer in macs.closed_form(record) if layer.name == "fc")
    rows = [
        row(
            "WRN-28-10, convolutions with biases",
            "parameters without head",
            params.parameters,
            total.params - head,
            0.0,
            params.read_from,
        ),
        row("WRN-28-10, convolutions with biases", "parameters", params.parameters_head, total.params, 0.0, params.read_from),
    ]
    for side, published in params.macs.items():
        record = backbone.record_of(replace(net, side=side), 3, params.classes)
        own, counted = macs.total(record).macs, macs.count_record(record)
        if own != counted:
            raise StageError(f"MACs at {side} pixels: closed form {own}, counted {counted}; the closed form is wrong")
        rows.append(row(f"WRN-28-10 at {side} x {side}", "MACs", published, own, 0.0, params.read_from))
    return rows


def task_rows(tasks: Tasks, params: AuditParams) -> list[dict[str, Any]]:
    """Sizes of a task of the one-shot setting, and the weight of the normalised dependence."""
    one, where = tasks.settings["one_shot"], params.read_from
    queries = tasks.ways * one.queries
    weight = tasks.fit.dm * (queries - 1) ** 2
    return [
        row("task of one shot", "query images", params.query, queries, 0.0, where),
        row("task of one shot", "(n - 1)^2 of the dependence", (params.query - 1) ** 2, (queries - 1) ** 2, 0.0, where),
        row("task of one shot", "weight of the normalised dependence", params.equivalent_weight, weight, 1e-12, where),
    ]


def split_rows(cfg: Config) -> list[dict[str, Any]]:
    """Classes and images of the divisions as the data sets' own parameters have them."""
    divided = {
        "mini_imagenet": [len(cfg.mini_imagenet["classes"][part]) for part in SPLITS],
        "cifar_fs": [len(cfg.cifar_fs["classes"]["publisher"][part]) for part in SPLITS],
        "cub": [len(range(first, CUB + 1, step)) for first, step in (cfg.cub["every"][part] for part in SPLITS)],
    }
    rows = []
    for name, published in cfg.params.class_counts.items():
        rows += [row(f"{name}, {part}", "classes", told, own, 0.0, cfg.params.read_from_splits)
                 for part, told, own in zip(SPLITS, published, divided[name], strict=True)]  # fmt: skip
    for name, published in cfg.params.splits.items():
        rows += [row(f"{name}, {part}", "images", told, own * EACH, 0.0, cfg.params.read_from_splits)
                 for part, told, own in zip(SPLITS, published, divided[name], strict=True)]  # fmt: skip
    return rows


@stage(
    Config, paper="dependency_maximization_fsl", section="audit",
    files={"net": "dependency_maximization_fsl/{scale}:mini_imagenet.training.net",
           "tasks": "dependency_maximization_fsl/{scale}:mini_imagenet.tasks",
           "mini_imagenet": "dataset/mini_imagenet", "cifar_fs": "dataset/cifar_fs", "cub": "dataset/cub"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Compute sizes of the backbone, the tasks and the divisions; write runs/audit/dependency_maximization_fsl.csv.

    One MAC is one multiply-add of a convolution or linear map, in closed form and counted in a forward pass.
    """
    write_audit(CSV, [*net_rows(cfg.net, cfg.params), *task_rows(cfg.tasks, cfg.params), *split_rows(cfg)])


if __name__ == "__main__":
    main()
