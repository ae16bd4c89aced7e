"""Stage: deep nets of every activation from a range of initialisations, with BN and without, on one data set."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.srs.settings import Sweep

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from stages.lib.data import Split
    from stages.papers.srs.sweep import Trainee

BN = {"": True, "plain_": False}  # prefix of a metric: whether there is BN


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Sweep = field(default_factory=Sweep)


def standardised(train: "Split", tested: "Split") -> tuple["Split", "Split"]:
    """Both with x [N, pixels], every pixel by mean and deviation of the training images."""
    import dataclasses

    flat = train.x.flatten(1)
    mean, deviation = flat.mean(0), flat.std(0).clamp(min=1e-3)
    return tuple(dataclasses.replace(one, x=(one.x.flatten(1) - mean) / deviation) for one in (train, tested))


def trained(cfg: Config, train: "Split", tested: "Split", normalised: bool, device: "torch.device", state: "Path") -> "Trainee":
    """All nets with BN, or all without, after training."""
    import dataclasses
    from operator import methodcaller

    import torch

    from stages.lib import files, training
    from stages.papers.srs import sweep

    repetitions = files.repetitions(cfg.seed, cfg.repeats)
    weights = sweep.initial(cfg.params, train.x.shape[1], len(train.classes), repetitions)
    net = sweep.Nets(weights, cfg.params.arms, cfg.params.activation, normalised)
    trainee = sweep.Trainee(net, cfg.params, train, tested, repetitions).to(device)
    positions = dataclasses.replace(train, x=torch.arange(len(train)))
    training.train(
        trainee, positions, epochs=cfg.params.epochs, lr=cfg.params.lr, batch=cfg.params.batch, seed=0, schedule="constant",
        device=device, loss=lambda model, x, y: model.loss(x), mask_hook=methodcaller("after_step"), parameters=(), state=state,
        label="with BN" if normalised else "without BN",
    )  # fmt: skip
    return trainee


def figures(curve: "Tensor", first: "Tensor", shift: "Tensor", scales: list[float], prefix: str) -> dict[str, float]:
    """Metrics of one arm and repetition from accuracies [epochs, inits], first losses [inits] and mean activations [inits].

    The last initialisation is the variance-preserving one; means and spreads are those of the others.
    """
    final, area = curve[-1], curve.mean(0)
    swept = slice(0, len(scales))
    values = {
        "accuracy": final[swept].mean(),
        "area": area[swept].mean(),
        "first_loss": first[swept].mean(),
        "sensitivity": final[swept].std(),
        "area_sensitivity": area[swept].std(),
        "mean_activation": shift[swept].mean(),
        "preserving_accuracy": final[-1],
        "preserving_area": area[-1],
    }
    for i, scale in enumerate(scales):
        values |= {f"accuracy_{scale:g}": final[i], f"first_loss_{scale:g}": first[i]}
    return {prefix + name: float(value) for name, value in values.items()}


@stage(Config, paper="srs", section="{dataset}.sweep", files={"repeats": "srs/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains all nets of a seed at once; writes their learning curves, SRS's parameters and the figures of every arm."""
    from stages.lib import artifacts, data, files, runtime

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train, tested = standardised(data.load(cfg.dataset, "train"), data.load(cfg.dataset, cfg.eval_split))
    folder = files.RUNS / "srs" / "classify" / cfg.scale / cfg.dataset / str(cfg.seed)
    repetitions, arms, arrays = files.repetitions(cfg.seed, cfg.repeats), list(cfg.params.arms), {}
    found: dict[tuple[str, int], dict[str, float]] = {(arm, one): {} for arm in arms for one in repetitions}
    for prefix, normalised in BN.items():
        state = files.scratch(folder, cfg.seed, "bn" if normalised else "plain")
        trainee = trained(cfg, train, tested, normalised, device, state)
        shape = (cfg.params.epochs, len(arms), len(repetitions), -1)
        accuracy, losses = (one.cpu().double().view(shape) for one in (trainee.accuracies, trainee.losses))
        shift = trainee.tested()[1].cpu().double().view(shape[1:])
        arrays |= {f"{prefix}accuracy": accuracy.numpy(), f"{prefix}loss": losses.numpy()}
        arrays |= {f"{prefix}{name}": value for name, value in parameters(trainee).items()}
        for a, arm in enumerate(arms):
            for r, one in enumerate(repetitions):
                found[arm, one] |= figures(accuracy[:, a, r], losses[0, a, r], shift[a, r], list(cfg.params.scales), prefix)
    rows = [row for (arm, one), values in found.items() for row in files.metric_rows(cfg.dataset, arm, one, values)]
    metrics = files.RUNS / "srs" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    artifacts.write_npz(folder / "curves.npz", **arrays)
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [folder / "curves.npz", metrics], read, cfg)
    for arm in arms:
        values = found[arm, repetitions[0]]
        print(f"{arm}: with BN {values['accuracy']:.3f}, without {values['plain_accuracy']:.3f}", flush=True)


def parameters(trainee: "Trainee") -> dict:
    """alpha and beta of arm srs after training, [layers, repetitions, inits]; nothing where that arm is absent."""
    import torch

    if "srs" not in trainee.params.arms:
        return {}
    own = [act.each[act.arms.index("srs")] for act in trainee.net.acts]
    shape = (len(own), trainee.repetitions, -1)
    return {
        name: torch.stack([getattr(one, name).detach().cpu() for one in own]).view(shape).numpy() for name in ("alpha", "beta")
    }


if __name__ == "__main__":
    main()
