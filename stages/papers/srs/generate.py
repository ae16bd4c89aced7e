"""Stage: invertible residual nets that differ in their activation, on a density in two dimensions."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.srs.settings import Generation


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="moons or gaussians: points that the stage draws")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Generation = field(default_factory=Generation)


@stage(Config, paper="srs", section="{dataset}", files={"repeats": "srs/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains all arms of a seed side by side; writes bits a dimension and the error of the inverse."""
    from stages.papers.srs.densities import find_density

    find_density(cfg.dataset)
    import torch

    from stages.lib import artifacts, files, runtime, trainee
    from stages.lib.data import Split
    from stages.papers.srs.generation import Flows

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    folder = files.RUNS / "srs" / "generate" / cfg.scale / cfg.dataset / str(cfg.seed)
    found = Flows(cfg.params, cfg.dataset, files.repetitions(cfg.seed, cfg.repeats)).to(device)
    positions = torch.arange(cfg.params.train)
    split = Split(positions, torch.zeros_like(positions), ("none",), (), (), "generated", cfg.dataset)
    trainee.fit(
        found, split, epochs=cfg.params.epochs, batch=cfg.params.batch, seed=0, device=device,
        loss=lambda model, x, y: model.loss(x), state=files.scratch(folder, cfg.seed, "run"), label=cfg.dataset,
    )  # fmt: skip
    values = found.measure(cfg.eval_split)
    rows = [row for (arm, one), figures in values.items() for row in files.metric_rows(cfg.dataset, arm, one, figures)]
    metrics = files.RUNS / "srs" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    artifacts.write_npz(folder / "curves.npz", loss=found.curves().numpy())
    files.seal(folder, [folder / "curves.npz", metrics], [], cfg)
    for (arm, one), figures in values.items():
        print(f"{arm} {one}: {figures['bits']:.3f} bits a dimension, inverse within {figures['inverse_error']:.1e}", flush=True)


if __name__ == "__main__":
    main()
