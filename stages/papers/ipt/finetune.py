"""Stage: a pre-trained net fine-tuned to every target, and the figures of each."""

from dataclasses import dataclass

from stages.lib.stage import field, stage
from stages.papers.ipt.settings import TRANSFER_FILES, TransferConfig


@dataclass
class Config(TransferConfig):
    arm: str = field(help="an arm with a pre-training: ipt, ipt_plain, ipt_single, edsr_pretrained")


@stage(Config, paper="ipt", section="finetune", files=TRANSFER_FILES)
def main(cfg: Config) -> None:
    """Keeps of the pre-trained net what a target needs, trains all of it on the target set, and measures it.

    Writes the restored images of the first repetition, and PSNR and SSIM on luminance with the gain over the input.
    """
    from stages.papers.ipt.arms import find_pretrained

    arm = find_pretrained(cfg.arm)
    from stages.lib import artifacts, files
    from stages.papers.ipt import experiment
    from stages.papers.ipt.trials import Trials

    source = experiment.pretrained_folder(cfg.scale, cfg.arm, cfg.seed)
    artifacts.verify_manifest(source / "manifest.json")
    trials = Trials(cfg, files.RUNS / "ipt" / "finetune" / cfg.scale / cfg.arm / str(cfg.seed))
    expected = experiment.record(arm, cfg.pretrain.tasks, cfg.net, cfg.peers)
    trained = experiment.trained_tasks(arm, cfg.pretrain)
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        tensors = experiment.load(files.weights(source, "net", repetition, cfg.repeats), expected)
        net = experiment.build(arm, cfg.pretrain.tasks, cfg.net, cfg.peers)
        net.load_state_dict(tensors)
        trials.closeness(cfg.arm, net, trained[0], repetition)
        trials.arm(cfg.arm, arm, tensors, trained, repetition)
    trials.write([source / "manifest.json"])


if __name__ == "__main__":
    main()
