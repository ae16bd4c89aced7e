"""Stage: every arm's net cut out, fine-tuned and measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, field, stage
from stages.lib.vit.settings import Recipe
from stages.papers.multi_dimensional_vit_compression.settings import Compress, SearchConfig

if TYPE_CHECKING:
    import torch

    from stages.lib.data import Split
    from stages.lib.vit.net import VisionTransformer
    from stages.papers.multi_dimensional_vit_compression.compressed import CompressedTransformer

SAVED = ("joint", "dense")  # nets that are kept, for the benchmark of latency


@dataclass
class Config(SearchConfig):
    eval_split: str = MISSING
    compress: Compress = field(default_factory=Compress)
    params: Recipe = field(default_factory=Recipe)


def one_arm(
    name: str, found: dict[str, Any], places: "torch.Tensor", net: "VisionTransformer", cfg: Config, repetition: int,
    splits: "tuple[Split, Split]", device: "torch.device", state: Path,
) -> "tuple[CompressedTransformer, dict[str, float]]":  # fmt: skip
    """(the fine-tuned net, its figures) of one arm from the record of its policy."""
    from stages.lib.training import evaluate
    from stages.lib.vit.training import train
    from stages.papers.multi_dimensional_vit_compression import measure, surgery
    from stages.papers.multi_dimensional_vit_compression.arms import ARMS
    from stages.papers.multi_dimensional_vit_compression.gated import Gated
    from stages.papers.multi_dimensional_vit_compression.ranking import Kept

    split, tested = splits
    options, sparsity = cfg.compress.search, found["policy"]["sparsity"]
    kept = Kept(*(tuple(map(tuple, found["kept"][key])) for key in ("heads", "neurons")))
    own = places if ARMS[name].token_score == "hsic_x_attention" else None
    made = surgery.cut(net, kept, sparsity, tuple(options.reduce), cfg.train.net.drop_path, own)
    gap = 0.0
    if own is None:
        gated = Gated(net, options.reduce)
        gated.set(kept, sparsity)
        gap = surgery.difference(gated, made, split.x[: cfg.compress.ranking.batch].to(device))
    before = evaluate(made, tested, device)
    train(made, split, cfg.params, repetition, device, state, f"{name} {repetition}")
    figures = measure.values(made, net, found["trials"], options)
    return made, {**figures, "accuracy_before": before, "accuracy_after": evaluate(made, tested, device), "gap": gap}


@stage(
    Config, paper="multi_dimensional_vit_compression", section="{dataset}.finetune",
    files={"train": "multi_dimensional_vit_compression/{scale}:{dataset}.train",
           "compress": "multi_dimensional_vit_compression/{scale}:{dataset}.compress",
           "repeats": "multi_dimensional_vit_compression/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Cuts every arm's net out of the dense one, trains it with the token reduction at work, and writes all figures.

    The dense net has as many passes more. Training a cut net equals training it gated: what is off has no gradient.
    """
    from stages.lib import artifacts, data, files, runtime, weights
    from stages.papers.multi_dimensional_vit_compression import experiment, images, saved

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    folder = experiment.folder_of("finetune", cfg.scale, cfg.dataset, cfg.seed)
    split, _ = experiment.training_images(cfg.dataset, cfg.train)
    tested = images.placed(data.load(cfg.dataset, cfg.eval_split), cfg.train.images, cfg.eval_split)
    found, dense = saved.policies(cfg.scale, cfg.dataset, cfg.seed, cfg.repeats), saved.dense(cfg, split, device)
    places, rows, layers, nets = saved.places(cfg), [], [], []
    for i, repetition in enumerate(files.repetitions(cfg.seed, cfg.repeats)):
        for name, record in found[i].items():
            state = files.scratch(folder, repetition, name)
            made, values = one_arm(name, record, places[i], dense[i], cfg, repetition, (split, tested), device, state)
            rows += files.metric_rows(cfg.dataset, name, repetition, values)
            layers += saved.layer_rows(cfg.dataset, name, repetition, record, dense[i].record())
            if name in SAVED:
                nets.append((files.weights(folder, name, repetition, cfg.repeats), made))
            told = f"{values['accuracy_before']:.3f} -> {values['accuracy_after']:.3f}, {values['macs']} MACs"
            print(f"{name} {repetition}: {told}", flush=True)
    for path, net in nets:
        weights.save_model(path, net)
    metrics = experiment.ROOT / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": layers})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    sources = [experiment.folder_of(what, cfg.scale, cfg.dataset, cfg.seed) / "manifest.json" for what in ("dense", "search")]
    files.seal(folder, [*(path for path, _ in nets), metrics], [*read, *sources], cfg)


if __name__ == "__main__":
    main()
