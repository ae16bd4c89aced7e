"""Stage: the frozen teachers of a repetition, shared by all arms."""

from dataclasses import dataclass
from pathlib import Path

from stages.lib.stage import field, stage
from stages.papers.milan.settings import Common, Teacher


@dataclass
class Config(Common):
    """Command line and parameters of the stage."""

    params: Teacher = field(default_factory=Teacher)


@stage(
    Config, paper="milan", section="{dataset}.teacher",
    files={"repeats": "milan/{scale}:repeats", "images": "milan/{scale}:{dataset}.images"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Trains a teacher on captioned scenes and one on the same scenes without captions; writes both.

    Where `teacher.weights` names a folder, the first is CLIP's image tower from there instead.
    """
    from stages.lib import data, files, runtime
    from stages.papers.milan import checkpoint, contrast, scenes
    from stages.papers.milan.arms import TEACHERS

    folder = files.RUNS / "milan" / "teachers" / cfg.scale / cfg.dataset / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    originals = scenes.divide(data.pixels("digits", "train"), cfg.images.originals)["teacher"]
    given = None
    if cfg.params.weights:
        given = checkpoint.read_converted(Path(cfg.params.weights), cfg.params.source_sha256)
        checkpoint.check_shape(given, contrast.tower_shape(cfg.params, cfg.images), cfg.params.weights)
    done = {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        shown = scenes.compose(originals, cfg.params.pairs, cfg.images, repetition, "teacher")
        for kind in TEACHERS:
            state, path = files.scratch(folder, repetition, kind), files.weights(folder, kind, repetition, cfg.repeats)
            if kind == "language" and given is not None:
                done[path] = given
            else:
                done[path] = contrast.teach(kind, cfg.params, cfg.images, shown, repetition, device, state)
    for path, tower in done.items():
        checkpoint.save(path, tower)
    read = [data.PREPARED / "digits" / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, list(done), read, cfg)


if __name__ == "__main__":
    main()
