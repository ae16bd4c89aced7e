"""Stage: all arms' supernets of one seed, and their scores of the table's architectures at every checkpoint."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.close.settings import ARMS, SAMPLED, Candidates, Division, Supernets
from stages.papers.close.shape import GateShape, Shape


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    net: Shape = field(default_factory=Shape)
    gate: GateShape = field(default_factory=GateShape)
    space: Candidates = field(default_factory=Candidates)
    data: Division = field(default_factory=Division)
    params: Supernets = field(default_factory=Supernets)


@stage(
    Config, paper="close", section="{dataset}.supernet",
    files={"repeats": "close/{scale}:repeats"}
    | {name: f"close/{{scale}}:{{dataset}}.{name}" for name in ("net", "gate", "space", "data")},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Train the supernet of every arm with the same images and architectures; write weights and scores.

    Scores are accuracies on the part of the training split that trains nothing.
    """
    import numpy
    import torch

    from stages.lib import artifacts, data, files, runtime
    from stages.papers.close import arms, division, scoring, space, training

    pool = space.searchable(cfg.space.operations)
    listed = space.sample(cfg.space.architectures, cfg.space.seed, cfg.space.operations)
    folder = files.RUNS / "close" / "supernets" / cfg.scale / cfg.dataset / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train, score = division.divide(data.pixels(cfg.dataset, "train"), cfg.data)
    scored, made, found, sizes = training.Scored(listed, score), [], {}, {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for arm in ARMS:
            image, classes = tuple(train.x.shape[1:]), len(train.classes)
            trainee = arms.build(arm, cfg.net, cfg.gate, cfg.params, image, classes, repetition)
            state, label = files.scratch(folder, repetition, arm), f"{arm} {repetition}"
            learner = training.train(trainee, train, pool, scored, cfg.params, repetition, device, state, label)
            made.append(files.weights(folder, arm, repetition, cfg.repeats))
            weights = {name: value for name, value in learner.state_dict().items() if name != "scores"}
            artifacts.save_tensors(made[-1], weights, {"arm": arm, "schedule": list(trainee.schedule)})
            found[f"{arm}/{repetition}"] = learner.scores.cpu().numpy()
            sizes[arm] = [sum(p.numel() for p in part.parameters()) for part in (learner.net, learner.gate)]
            if arm == "close":
                noise = torch.Generator().manual_seed(runtime.derive_seed(repetition, "sampled"))
                level = len(trainee.schedule)
                drawn = scoring.scores(learner.net, learner.gate, listed, score, level, device, noise)
                found[f"{SAMPLED}/{repetition}"] = numpy.array([drawn])
    artifacts.write_npz(folder / "scores.npz", **found)
    record = {"architectures": [space.text(item) for item in listed], "checkpoints": cfg.params.checkpoints}
    artifacts.write_json(folder / "supernets.json", {**record, "parameters": sizes, "extra": [SAMPLED]})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", "manifest.json")]
    files.seal(folder, [*made, folder / "scores.npz", folder / "supernets.json"], read, cfg)


if __name__ == "__main__":
    main()
