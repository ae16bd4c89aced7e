"""The trials of one stage: arms fine-tuned to all targets for each repetition, scored, and written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from torch import Tensor, nn

from stages.lib import artifacts, data, files, runtime
from stages.lib.errors import StageError
from stages.lib.restoration import sets
from stages.papers.ipt import closeness, experiment, photographs, training
from stages.papers.ipt.arms import INPUT, Arm
from stages.papers.ipt.network import MultiTask
from stages.papers.ipt.peers import DnCNN
from stages.papers.ipt.tasks import task

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Target

Rows = dict[str, dict[str, list[dict]]]  # metric rows by data set and arm


class Trials:
    """One stage's run: its test images, and what it has found so far."""

    def __init__(self, cfg: Any, folder: Path) -> None:
        if cfg.eval_split not in ("val", "test"):
            raise StageError(f"eval_split={cfg.eval_split}: expected val or test")
        experiment.check_disjoint(cfg.pretrain, cfg.params)
        self.cfg, self.folder = cfg, folder
        self.device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
        for dataset, split in splits_read(cfg.eval_split):
            sets.load(dataset, split)  # damaged ones answer before anything is trained
        self.read = read_files(cfg.eval_split)
        self.hashes = [artifacts.sha256(path) for path in self.read]
        self.tests = {t.task: experiment.test_images(t.task, cfg.eval_split, cfg.measure) for t in cfg.params.targets}
        # Also the first to meet images that cannot be measured, before anything is trained.
        self.plain = {name: self._scores(name, experiment.inputs(tests, task(name))) for name, tests in self.tests.items()}
        self.rows: Rows = {}
        self.images: dict[str, numpy.ndarray] = {}

    def arm(self, name: str, arm: Arm, tensors: dict[str, Tensor], trained: Sequence[str], repetition: int) -> None:
        """An arm's nets of all targets: fine-tuned, scored, dropped. `trained` are the tasks that the tensors have learnt."""
        cfg = self.cfg
        recipe = experiment.target_recipe(arm, cfg.pretrain, cfg.params)
        for target in cfg.params.targets:
            if not arm.scaled and task(target.task).scale > 1:
                continue
            net = self._start(arm, target, tensors, trained, repetition)
            batches = experiment.finetuning_batches(cfg.params, target.task, cfg.net.image, repetition)
            state = files.scratch(self.folder, repetition, f"{name}-{target.task}")
            training.fit(net, batches, recipe, experiment.rate(arm, recipe), None, repetition, self.device, state,
                         f"{name} {target.task} {repetition}", self.hashes)  # fmt: skip
            wanted, tests = task(target.task), self.tests[target.task]
            self.note(name, target.task, repetition,
                      experiment.restored_images(net, tests, wanted, cfg.measure, self.device))  # fmt: skip

    def _start(
        self, arm: Arm, target: "Target", tensors: dict[str, Tensor], trained: Sequence[str], repetition: int
    ) -> nn.Module:
        cfg = self.cfg
        if arm.net != "dncnn":
            return experiment.one_task(arm, target, tensors, trained, cfg.net, cfg.peers)
        runtime.seed_everything(runtime.derive_seed(repetition, "init"))
        return DnCNN(cfg.peers, cfg.net)

    def _scores(self, name: str, restored: Sequence[Tensor]) -> dict[str, float]:
        return experiment.scores(restored, self.tests[name], task(name))

    def note(self, arm: str, name: str, repetition: int, restored: Sequence[Tensor]) -> None:
        """The figures of one arm's restored images of a task; the first images of the first repetition are kept."""
        tests, dataset = self.tests[name], experiment.dataset_of(name)
        found = self._scores(name, restored)
        found[f"gain_{name}"] = found[f"psnr_{name}"] - self.plain[name][f"psnr_{name}"]
        self.add(dataset, arm, repetition, found)
        print(f"{arm} {repetition}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
        if repetition == self.cfg.seed * self.cfg.repeats:
            for (title, _, clean), image in list(zip(tests, restored, strict=True))[: self.cfg.measure.kept]:
                self.images[f"{arm} {name} {title}"] = sets.pixels(image)
                if arm == INPUT:
                    self.images[f"clean {name} {title}"] = sets.pixels(clean)

    def add(self, dataset: str, arm: str, repetition: int, values: dict[str, float]) -> None:
        """Further figures of an arm."""
        self.rows.setdefault(dataset, {}).setdefault(arm, []).extend(files.metric_rows(dataset, arm, repetition, values))

    def closeness(self, arm: str, net: MultiTask, name: str, repetition: int) -> None:
        """How near the tokens of one image are to each other after pre-training, before any fine-tuning."""
        corrupted = [image.to(self.device) for _, image, _ in self.tests[self.cfg.params.targets[0].task]]
        found = closeness.of_net(net.to(self.device), name, corrupted)
        self.add(photographs.BENCHMARKS, arm, repetition, {"closeness": found})

    def inputs(self, repetition: int) -> None:
        """The corrupted images themselves as an arm."""
        for name, tests in self.tests.items():
            self.note(INPUT, name, repetition, experiment.inputs(tests, task(name)))

    def write(self, read: Sequence[Path] = ()) -> None:
        """Metrics by data set and arm, the kept images, the manifest."""
        made = []
        for dataset, arms in self.rows.items():
            for arm, rows in arms.items():
                made.append(metrics_path(self.cfg.scale, dataset, arm, self.cfg.seed))
                artifacts.write_json(made[-1], {"rows": rows, "layers": []})
        artifacts.write_npz(self.folder / "images.npz", **self.images)
        files.seal(self.folder, [*made, self.folder / "images.npz"], [*self.read, *read], self.cfg)


def splits_read(split: str) -> list[tuple[str, str]]:
    """(data set, split) of what trials read: training photographs and rain, and the images that are measured."""
    measured = photographs.BENCHMARKS if split == "test" else photographs.PHOTOGRAPHS
    trained = {(photographs.PHOTOGRAPHS, "train"), (photographs.RAIN, "train")}
    return sorted({*trained, (photographs.RAIN, split), (measured, split)})


def read_files(split: str) -> list[Path]:
    """The files of `splits_read`, and their manifests."""
    splits = splits_read(split)
    names = sorted({dataset for dataset, _ in splits})
    return [data.PREPARED / dataset / f"{name}.npy" for dataset, name in splits] + photographs.manifests(*names)


def metrics_path(scale: str, dataset: str, arm: str, seed: int) -> Path:
    """An arm's metrics on a data set."""
    return files.RUNS / "ipt" / "metrics" / scale / dataset / arm / f"{seed}.json"
