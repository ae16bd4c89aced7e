"""Stage: every arm's architecture for each budget, from the trained supernets of one seed, and its measurement."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage
from stages.papers.focusformer.settings import Params, Search

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from stages.lib.data import Split


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a prepared data set")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    supernet: Params = field(default_factory=Params)
    params: Search = field(default_factory=Search)


@stage(
    Config, paper="focusformer", section="{dataset}.search",
    files={"supernet": "focusformer/{scale}:{dataset}.supernet", "repeats": "focusformer/{scale}:repeats"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Searches by evolution, at random and by the sampler; writes architectures, the decoded nets, and all figures.

    Search sees held-out training images only; accuracies of the table are those of the evaluation split.
    """
    from stages.lib import artifacts, data, files, runtime, weights

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train, tested = data.load(cfg.dataset, "train"), data.load(cfg.dataset, cfg.eval_split)
    folder = files.RUNS / "focusformer" / "search" / cfg.scale / cfg.dataset / str(cfg.seed)
    rows, records, saved = [], [], []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        found, record, nets = _repetition(cfg, train, tested, repetition, device, folder)
        rows += [row for arm, values in found.items() for row in files.metric_rows(cfg.dataset, arm, repetition, values)]
        records.append({"seed": repetition, "arms": record})
        saved += [(files.weights(folder, f"decoded-{i}", repetition, cfg.repeats), net) for i, net in enumerate(nets, 1)]
        print(", ".join(f"{arm} {values['accuracy']:.3f}" for arm, values in found.items()), flush=True)
    for path, net in saved:
        weights.save_model(path, net)
    artifacts.write_json(folder / "architectures.json", {"repetitions": records})
    metrics = files.RUNS / "focusformer" / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    files.seal(folder, [*(path for path, _ in saved), folder / "architectures.json", metrics], read, cfg)


def _repetition(
    cfg: Config, train: "Split", tested: "Split", repetition: int, device: "torch.device", folder: "Path"
) -> tuple[dict[str, dict[str, float]], dict[str, list], list]:
    """(figures by arm, architectures by arm, the decoded stand-alone nets) of one repetition."""
    from stages.lib import files
    from stages.lib.training import evaluate
    from stages.papers.focusformer import cost, experiment
    from stages.papers.focusformer.arms import ARMS

    fitted, held_out = experiment.divide(train, cfg.supernet.held_out)
    nets, sampler, costs = _trained(cfg, train, repetition, device)
    chosen = experiment.choose_all(nets, sampler, held_out.to(device), cfg.supernet, cfg.params, repetition)
    canvas, steps, values, retrained = nets["focus"].canvas, -(-len(fitted) // cfg.supernet.recipe.batch), {}, {}
    budgets = cost.budgets(cfg.supernet.space, canvas, cfg.supernet.budgets)
    for name, found in chosen.items():
        net = nets[ARMS[name].supernet]
        values[name] = experiment.measure(net, found, tested, cfg.supernet, device)
        values[name]["search_images"] = experiment.search_images(name, found, cfg.supernet, steps, len(held_out))
        values[name]["end_share"] = experiment.end_share(costs[ARMS[name].supernet], budgets)
        again = found if ARMS[name].retrained and cfg.params.retrain_epochs else []
        for one in again:
            if one.architecture not in retrained:  # arms often agree
                state = files.scratch(folder, repetition, f"retrain-{len(retrained)}")
                own = experiment.retrain(
                    one.architecture, cfg.supernet, cfg.params.retrain_epochs, train, repetition, device, state
                )
                retrained[one.architecture] = evaluate(own, tested, device)
        if again:
            values[name]["retrained"] = sum(retrained[one.architecture] for one in again) / len(again)
    record = {name: [one.architecture.record() for one in found] for name, found in chosen.items()}
    return values, record, [nets["focus"].extract(one.architecture) for one in chosen["focus_decode"]]


def _trained(cfg: Config, train: "Split", repetition: int, device: "torch.device"):
    """Supernets by name, the sampler, and the MACs of every supernet's training steps."""
    import torch

    from stages.lib import artifacts, files
    from stages.papers.focusformer import experiment
    from stages.papers.focusformer.arms import SUPERNETS

    nets, costs = {}, {}
    for name in SUPERNETS:
        source = experiment.supernet_folder(cfg.scale, cfg.dataset, name, cfg.seed)
        path = files.weights(source, "supernet", repetition, cfg.repeats)
        nets[name] = experiment.load_supernet(path, cfg.supernet, train.x.shape[1:], len(train.classes), device)
        costs[name] = torch.from_numpy(artifacts.read_npz(source / "costs.npz", f"costs_{repetition}")[0])
    path = files.weights(source, "sampler", repetition, cfg.repeats)
    return nets, experiment.load_sampler(path, cfg.supernet, nets["focus"]), costs


if __name__ == "__main__":
    main()
