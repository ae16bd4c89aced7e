"""Stage: one arm's pre-training on corrupted copies of photographs."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.ipt.settings import Finetune, Net, Peers, Pretrain


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    arm: str = field(help="an arm with a pre-training: ipt, ipt_plain, ipt_single, edsr_pretrained")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    net: Net = field(default_factory=Net)
    peers: Peers = field(default_factory=Peers)
    finetune: Finetune = field(default_factory=Finetune, help="its photographs must be others")
    params: Pretrain = field(default_factory=Pretrain)


@stage(
    Config, paper="ipt", section="pretrain",
    files={"net": "ipt/{scale}:net", "peers": "ipt/{scale}:peers", "finetune": "ipt/{scale}:finetune",
           "repeats": "ipt/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Trains the net of all tasks with a random task a step; writes its weights.

    Pairs are made while training: bicubic reduction, streaks of rain, noise. Only the drawn task's head, tail and query
    are updated, and the body.
    """
    from stages.papers.ipt.arms import find_pretrained

    arm = find_pretrained(cfg.arm)  # before torch is loaded: a wrong name answers at once
    from stages.lib import artifacts, files, runtime
    from stages.papers.ipt import experiment, photographs, training

    experiment.check_disjoint(cfg.params, cfg.finetune)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    folder = experiment.pretrained_folder(cfg.scale, cfg.arm, cfg.seed)
    recipe, every, tasks = cfg.params.recipe, cfg.params.tasks, experiment.trained_tasks(arm, cfg.params)
    read = photographs.manifests(cfg.params.source, photographs.RAIN)
    contrast = cfg.params.contrastive if arm.contrastive else None
    about, done = experiment.record(arm, every, cfg.net, cfg.peers), []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        net = experiment.fresh(arm, every, cfg.net, cfg.peers, repetition)
        batches = experiment.pretraining_batches(cfg.params, tasks, cfg.net.image, repetition)
        training.fit(
            net, batches, recipe, experiment.rate(arm, recipe), contrast, repetition, device,
            files.scratch(folder, repetition, "run"), f"{cfg.arm} {repetition}", [artifacts.sha256(path) for path in read],
        )  # fmt: skip
        done.append((files.weights(folder, "net", repetition, cfg.repeats), net))
    for path, net in done:
        artifacts.save_tensors(path, net.state_dict(), about)
    files.seal(folder, [path for path, _ in done], read, cfg)


if __name__ == "__main__":
    main()
