"""Stage: all arms of a seed trained from scratch at equal MACs, and their measurement."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.greedy_network_enlarging.settings import FILES, Random, Recipe, SearchConfig, Uniform

OWN = {key: f"greedy_network_enlarging/{{scale}}:{{dataset}}.{key}" for key in ("uniform", "random", "final")}


@dataclass
class Config(SearchConfig):
    eval_split: str = MISSING
    uniform: Uniform = field(default_factory=Uniform)
    random: Random = field(default_factory=Random)
    final: Recipe = field(default_factory=Recipe)


@stage(Config, files={**FILES, **OWN})
def main(cfg: Config) -> None:
    """Trains the greedy net and its rivals with the full schedule and the same data order; writes weights and metrics.

    These trainings have seeds of their own; nothing of the search is left in them but the sizes of the nets.
    """
    from stages.lib import artifacts, data, files, runtime, training, weights
    from stages.lib.dense import limited
    from stages.papers.greedy_network_enlarging import arms, ladder
    from stages.papers.greedy_network_enlarging.recipe import fit
    from stages.papers.greedy_network_enlarging.space import space_of

    device, repetitions = runtime.prepare(cfg.threads, cfg.device, cfg.seed), files.repetitions(cfg.seed, cfg.repeats)
    whole, held_out = data.pixels(cfg.dataset, "train"), data.load(cfg.dataset, cfg.eval_split)
    split, space = limited(whole, cfg.final.limit, 0), space_of(cfg.net, whole.x.shape[1], len(whole.classes))
    searches = ladder.finished(space, cfg, repetitions)
    samples = ladder.read(ladder.sampled(cfg.scale, cfg.dataset, cfg.seed), repetitions)
    folder = ladder.trained(cfg.scale, cfg.dataset, cfg.seed)
    models, rows, records = [], [], []
    for repetition, search, sample in zip(repetitions, searches, samples, strict=True):
        values: dict[str, dict[str, float]] = arms.search_values(search, sample)
        nets = arms.nets(space, search, sample, cfg.uniform, cfg.random)
        for arm, several in nets.items():
            found = []
            for i, allocation in enumerate(several):
                runtime.seed_everything(runtime.derive_seed(repetition, "final"))
                label = f"{arm}{i or ''}"
                state = files.scratch(folder, repetition, label)
                order = runtime.derive_seed(repetition, "final order")
                net = fit(space.build(allocation), split, cfg.final, order, device, state, f"{label} {repetition}")
                found.append(training.evaluate(net, held_out, device))
                models.append((files.weights(folder, label, repetition, cfg.repeats), net))
            accuracy = sum(found) / len(found)
            values[arm] = {**values.get(arm, {}), **arms.sizes(space, several), "accuracy": accuracy}
            print(f"{arm} {repetition}: {values[arm]['macs']:.0f} MACs, {accuracy:.4f}", flush=True)
        rows += [row for arm, found in values.items() for row in files.metric_rows(cfg.dataset, arm, repetition, found)]
        records.append({"seed": repetition, "arms": arms.records(space, nets)})
    for path, net in models:
        weights.save_model(path, net)
    artifacts.write_json(folder / "nets.json", {"repetitions": records})
    metrics = files.RUNS / ladder.PAPER / "metrics" / cfg.scale / cfg.dataset / f"{cfg.seed}.json"
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    read = [data.PREPARED / cfg.dataset / name for name in ("train.npz", f"{cfg.eval_split}.npz", "manifest.json")]
    read += [ladder.place(k, cfg.scale, cfg.dataset, "choice", cfg.seed) for k in range(1, cfg.search.steps + 1)]
    read.append(ladder.sampled(cfg.scale, cfg.dataset, cfg.seed))
    files.seal(folder, [*(path for path, _ in models), folder / "nets.json", metrics], read, cfg)


if __name__ == "__main__":
    main()
