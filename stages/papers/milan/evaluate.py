"""Stage: what few labels make of the students of all arms, and of the teacher itself."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.milan.settings import Common, Student, Transfer


@dataclass
class Config(Common):
    """Command line and parameters of the stage."""

    eval_split: str = MISSING
    student: Student = field(default_factory=Student)
    params: Transfer = field(default_factory=Transfer)


@stage(
    Config, paper="milan", section="{dataset}.transfer",
    files={"repeats": "milan/{scale}:repeats", "images": "milan/{scale}:{dataset}.images",
           "student": "milan/{scale}:{dataset}.student"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Probes and fine-tunes all students on labelled scenes and writes accuracies and foreground IoU on the evaluation split.

    Its original digits are those of the split, the labelled scenes' a part of the training split that no pre-training saw.
    """
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.milan import checkpoint, experiment, scenes
    from stages.papers.milan.arms import REFERENCE

    place = (cfg.scale, cfg.dataset, str(cfg.seed))
    students, teachers = (files.RUNS.joinpath("milan", kind, *place) for kind in ("students", "teachers"))
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    for folder in (teachers, students):
        artifacts.verify_manifest(folder / "manifest.json")
    labelled = scenes.divide(data.pixels("digits", "train"), cfg.images.originals)["labels"]
    tested = data.load("digits", cfg.eval_split)
    path = files.RUNS.joinpath("milan", "metrics", *place[:2], f"{cfg.seed}.json")
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        teacher = checkpoint.load(files.weights(teachers, "language", repetition, cfg.repeats))
        on = experiment.bench(labelled, tested, teacher, cfg.images, cfg.student, cfg.params, repetition, device)
        found = {REFERENCE: experiment.measure_teacher(on)}
        for name in cfg.student.arms:
            weights = files.weights(students, name, repetition, cfg.repeats)
            found[name] = experiment.measure(name, weights, on, files.scratch(path.with_suffix(""), repetition, name))
        rows += [row for arm, values in found.items() for row in files.metric_rows(cfg.dataset, arm, repetition, values)]
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
