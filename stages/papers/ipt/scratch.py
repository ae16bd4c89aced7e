"""Stage: every arm without a pre-training, trained from random weights on each target, and the figures of each."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.ipt.settings import Finetune, Measurement, Net, Peers, Pretrain


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    net: Net = field(default_factory=Net)
    peers: Peers = field(default_factory=Peers)
    pretrain: Pretrain = field(default_factory=Pretrain)
    measure: Measurement = field(default_factory=Measurement)
    params: Finetune = field(default_factory=Finetune)


@stage(
    Config, paper="ipt", section="finetune",
    files={"net": "ipt/{scale}:net", "peers": "ipt/{scale}:peers", "pretrain": "ipt/{scale}:pretrain",
           "measure": "ipt/{scale}:measure", "repeats": "ipt/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Trains the transformer (as long as fine-tuning, and longer), EDSR and DnCNN on the target set; measures them.

    The transformer starts from the very weights from which a repetition's pre-training starts.
    """
    from stages.lib import files
    from stages.papers.ipt import experiment
    from stages.papers.ipt.arms import SCRATCH
    from stages.papers.ipt.trials import Trials

    trials = Trials(cfg, files.RUNS / "ipt" / "scratch" / cfg.scale / str(cfg.seed))
    tasks = cfg.pretrain.tasks
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for name, arm in SCRATCH.items():
            tensors = experiment.fresh(arm, tasks, cfg.net, cfg.peers, repetition).state_dict()
            trials.arm(name, arm, tensors, tasks, repetition)
        trials.inputs(repetition)
    trials.write()


if __name__ == "__main__":
    main()
