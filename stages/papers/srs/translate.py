"""Stage: Transformers that differ in their feed-forward activation, on generated sentence pairs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.srs.settings import Translation

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from stages.papers.srs.translation import Translators


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="grammar: sentence pairs that the stage generates")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Translation = field(default_factory=Translation)


def trained(cfg: Config, device: "torch.device", state: "Path") -> "Translators":
    """The nets of all arms and repetitions after training."""
    import torch

    from stages.lib import files, trainee
    from stages.lib.data import Split
    from stages.papers.srs import translation

    found = translation.Translators(cfg.params, files.repetitions(cfg.seed, cfg.repeats)).to(device)
    # The loop deals positions in the training set; every repetition has sentences of its own there.
    positions = torch.arange(cfg.params.grammar.train)
    split = Split(positions, torch.zeros_like(positions), ("none",), (), (), "generated", "grammar")
    trainee.fit(
        found, split, epochs=cfg.params.epochs, batch=cfg.params.batch, seed=0, device=device, state=state,
        loss=lambda model, x, y: model.loss(x), label="translation",
    )  # fmt: skip
    return found


@stage(Config, paper="srs", section="{dataset}", files={"repeats": "srs/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains all arms of a seed side by side, decodes greedily; writes BLEU, exact matches and accuracy of tokens."""
    from stages.lib import artifacts, files, runtime

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    folder = files.RUNS / "srs" / "translate" / cfg.scale / cfg.dataset / str(cfg.seed)
    found = trained(cfg, device, files.scratch(folder, cfg.seed, "run"))
    values = found.measure(cfg.eval_split)
    rows = [row for (arm, one), figures in values.items() for row in files.metric_rows(cfg.dataset, arm, one, figures)]
    metrics = files.RUNS / "srs" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    artifacts.write_npz(folder / "curves.npz", loss=found.curves().numpy())
    files.seal(folder, [folder / "curves.npz", metrics], [], cfg)
    for (arm, one), figures in values.items():
        print(f"{arm} {one}: BLEU {figures['bleu']:.3f}, exact {figures['exact']:.3f}", flush=True)


if __name__ == "__main__":
    main()
