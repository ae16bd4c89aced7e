"""Stage: every arm without a pre-training, trained from random weights on each target, and the figures of each."""

from stages.lib.stage import stage
from stages.papers.ipt.settings import TRANSFER_FILES, TransferConfig


@stage(TransferConfig, paper="ipt", section="finetune", files=TRANSFER_FILES)
def main(cfg: TransferConfig) -> None:
    """Trains the transformer (as long as fine-tuning, and longer), EDSR and, longer, DnCNN on the target set; measures them.

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
