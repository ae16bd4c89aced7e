"""Stage: the nets of all arms of a seed, trained from the same initial weights, and what they turned into."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.augmented_shortcuts.settings import Params

if TYPE_CHECKING:
    import torch

    from stages.lib.data import Split

NETS, METRICS = Path("runs/augmented_shortcuts/nets"), Path("runs/augmented_shortcuts/metrics")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Params = field(default_factory=Params)


@stage(
    Config, paper="augmented_shortcuts", section="{dataset}", files={"repeats": "augmented_shortcuts/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Trains the arms and measures them before and after; writes weights, profiles of diversity over depth, and metrics."""
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.lib.dense import limited

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    split = limited(data.pixels(cfg.dataset, "train"), cfg.params.limit, 0)
    tested = data.load(cfg.dataset, cfg.eval_split)
    folder = NETS / cfg.scale / cfg.dataset / str(cfg.seed)
    rows, profiles, saved = [], {}, []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for arm in [*cfg.params.arms, *cfg.params.untrained]:
            net, values, profile = _arm(cfg, arm, split, tested, repetition, device, folder)
            rows += files.metric_rows(cfg.dataset, arm, repetition, values)
            profiles[f"{arm}_{repetition}"] = profile.numpy()
            saved.append((files.weights(folder, arm, repetition, cfg.repeats), net))
    for path, net in saved:
        weights.save_model(path, net)
    artifacts.write_npz(folder / "profiles.npz", **profiles)
    metrics = METRICS / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [*(path for path, _ in saved), folder / "profiles.npz", metrics], read, cfg)


def _arm(
    cfg: Config, arm: str, split: "Split", tested: "Split", repetition: int, device: "torch.device", folder: Path
) -> tuple["torch.nn.Module", dict[str, float], "torch.Tensor"]:
    """(the net, its figures, profiles [before and after, measures, L + 1]) of one arm and repetition."""
    import torch

    from stages.lib import files
    from stages.papers.augmented_shortcuts import measure, training
    from stages.papers.augmented_shortcuts.arms import find_arm

    net = training.fresh(find_arm(arm), cfg.params, split, repetition).to(device)
    probe = measure.Probe(tested, cfg.params.probe, device)
    values, before = probe(net, "initial")
    after = before
    if arm not in cfg.params.untrained:
        state = files.scratch(folder, repetition, arm)
        net = training.train(net, cfg.params, split, repetition, device, state, f"{arm} {repetition}")
        trained, after = probe(net, "trained")
        values |= trained | measure.accuracies(net, split, tested, device)
        print(f"{arm} {repetition}: {values['accuracy']:.4f}, diversity {values['trained_relative']:.3f}", flush=True)
    return net, {**values, **measure.sizes(net)}, torch.stack([before, after])


if __name__ == "__main__":
    main()
