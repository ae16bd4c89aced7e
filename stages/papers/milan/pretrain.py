"""Stage: the student, pre-trained by every arm from the same weights in the same order of the data."""

from dataclasses import dataclass

from stages.lib.stage import field, stage
from stages.papers.milan.settings import Common, Student, Teacher


@dataclass
class Config(Common):
    """Command line and parameters of the stage."""

    teacher: Teacher = field(default_factory=Teacher)
    params: Student = field(default_factory=Student)


@stage(
    Config, paper="milan", section="{dataset}.student",
    files={"repeats": "milan/{scale}:repeats", "images": "milan/{scale}:{dataset}.images",
           "teacher": "milan/{scale}:{dataset}.teacher"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Pre-trains the student's encoder by all arms; writes the encoders, and the losses of all passes."""
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.milan import checkpoint, pretraining, scenes
    from stages.papers.milan.arms import find

    place = (cfg.scale, cfg.dataset, str(cfg.seed))
    folder, teachers = (files.RUNS.joinpath("milan", kind, *place) for kind in ("students", "teachers"))
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    artifacts.verify_manifest(teachers / "manifest.json")
    originals = scenes.divide(data.pixels("digits", "train"), cfg.images.originals)["student"]
    done, losses = {}, {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        shown = scenes.compose(originals, cfg.params.scenes, cfg.images, repetition, "student")
        towers = {
            kind: checkpoint.load(files.weights(teachers, kind, repetition, cfg.repeats)) for kind in ("language", "image")
        }
        towers["untrained"] = pretraining.untrained(towers["language"], repetition)
        extra = pretraining.extra_epochs(cfg.params, cfg.teacher, shown.x.shape[1:], towers["language"])
        targets = {kind: pretraining.look(tower, shown.x, cfg.params, device) for kind, tower in towers.items()}
        for name in cfg.params.arms:
            arm = find(name)
            state = files.scratch(folder, repetition, name)
            found = pretraining.pretrain(
                arm, cfg.params, shown, targets.get(arm.target), extra, repetition, device, state, f"{name} {repetition}"
            )
            done[files.weights(folder, name, repetition, cfg.repeats)] = found[0]
            losses.setdefault(str(repetition), {})[name] = found[1]
    for path, encoder in done.items():
        artifacts.save_tensors(path, encoder.state_dict(), encoder.record())
    artifacts.write_json(folder / "losses.json", losses)
    read = [data.PREPARED / "digits" / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [*done, folder / "losses.json"], [*read, teachers / "manifest.json"], cfg)


if __name__ == "__main__":
    main()
