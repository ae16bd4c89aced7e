"""Stage: every arm's net, from the pre-trained one or from scratch."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.ghostsr.settings import Backbone, Ghost, Recipe


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    net: Backbone = field(default_factory=Backbone)
    ghost: Ghost = field(default_factory=Ghost)
    pretrain: Recipe = field(default_factory=Recipe, help="the first training, which narrow nets have too")
    params: Recipe = field(default_factory=Recipe)
    arms: list[str] = field(default_factory=list, help="names of the arms to train")


@stage(
    Config, paper="ghostsr", section="finetune",
    files={"repeats": "ghostsr/{scale}:repeats", "net": "ghostsr/{scale}:net", "ghost": "ghostsr/{scale}:ghost",
           "pretrain": "ghostsr/{scale}:pretrain", "arms": "ghostsr/{scale}:arms"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Converts the pre-trained net as each arm says and trains it on; narrow nets have both trainings. Writes all weights."""
    from stages.papers.ghostsr import arms

    chosen = arms.chosen(cfg.arms)  # before torch is loaded: a wrong name answers at once
    from stages.lib import files, runtime
    from stages.papers.ghostsr import experiment, folders, saved, training

    forms = {name: experiment.form_of(arm, cfg.net, cfg.ghost) for name, arm in chosen.items()}
    source = folders.folder("pretrained", cfg.scale, cfg.seed)
    read = [folders.verified(source), *folders.read(folders.TRAIN_SET, "train")]
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    data = experiment.training_data(cfg.net.factor)
    folder, done = folders.folder("nets", cfg.scale, cfg.seed), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        path = folders.pretrained(cfg.scale, cfg.seed, repetition, cfg.repeats)
        for name, arm in chosen.items():
            trained = experiment.load_dense(path, cfg.net)
            net = experiment.start(arm, forms[name], trained, repetition).to(device)
            recipes = {"pretrain": cfg.pretrain, "finetune": cfg.params} if arm.scratch else {"finetune": cfg.params}
            for purpose, recipe in recipes.items():
                state = files.scratch(folder, repetition, f"{name}-{purpose}")
                label = f"{name} {repetition} {purpose}"
                training.fit(net, data, recipe, cfg.ghost, repetition, purpose, device, state, label)
            done.append((files.weights(folder, name, repetition, cfg.repeats), net, forms[name]))
    for path, net, form in done:
        saved.save(path, net, form)
    files.seal(folder, [path for path, *_ in done], read, cfg)


if __name__ == "__main__":
    main()
