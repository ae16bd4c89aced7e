"""Stage: the shared features and all arms of a seed, and their figures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.hcvrd.settings import Params

if TYPE_CHECKING:
    from stages.papers.hcvrd.experiment import Bench, Found

SHOWN = 5  # labels whose web images the evidence holds
BEST = 3  # predictions of a scene in the evidence


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="a section of the params file: hcvrd")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    params: Params = field(default_factory=Params)


def evidence(found: "dict[str, Found]", on: "Bench") -> dict[str, Any]:
    """Arrays for the figures: ranks of the truth by arm, the first arm's attention on web images, and its best predictions on
    the proposed pairs of all images, over seen and zero-shot labels together.
    """
    import numpy

    arrays = {f"rank_{name}": one.ranks.numpy().astype(numpy.int16) for name, one in found.items()}
    first = next(iter(found))
    pairs, scores = on.detected.pairs, found[first].scores
    best = scores.topk(min(BEST, scores.shape[1]), 1)
    arrays |= {"pair_image": pairs.image, "pair_sub": pairs.sub, "pair_obj": pairs.obj, "pair_truth": pairs.truth,
               "pair_label": best.indices, "pair_score": best.values}  # fmt: skip
    if found[first].attention is not None:
        arrays["attention"] = found[first].attention[on.world.labels.spread(SHOWN)]
    return {name: numpy.asarray(value) for name, value in arrays.items()}


@stage(Config, paper="hcvrd", section="{dataset}", files={"repeats": "hcvrd/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains the backbone and all arms of each repetition and writes nets, evidence for the figures, and the metrics."""
    from stages.lib import artifacts, data, files, runtime
    from stages.papers.hcvrd import experiment, relations

    place = (cfg.scale, cfg.dataset)
    folder = files.RUNS.joinpath("hcvrd", "models", *place, str(cfg.seed))
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    if cfg.eval_split not in data.SPLITS[1:]:
        raise StageError(f"eval_split={cfg.eval_split}: expected val or test")
    world = relations.read(cfg.eval_split)
    rows, made, states = [], {}, []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        on = experiment.bench(world, cfg.params, repetition, device)
        nets, found = {}, {}
        for name in cfg.params.arms:
            states.append(files.scratch(folder, repetition, name))
            nets[name] = experiment.learn(name, on, states[-1])
            found[name] = experiment.measure(name, nets[name], on)
            shown = {key: found[name].values[key] for key in ("seen_top5", "tail_macro_top5", "zero_top5", "general_top5")}
            print(f"{repetition} {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in shown.items()), flush=True)
            rows += files.metric_rows(cfg.dataset, name, repetition, found[name].values)
        rows += files.metric_rows(cfg.dataset, "chance", repetition, experiment.chance(on))
        made[repetition] = (on.net, nets, evidence(found, on))
    paths = []
    for repetition, (net, nets, arrays) in made.items():
        tensors = {f"backbone.{key}": value for key, value in net.state_dict().items()}
        tensors |= {f"{name}.{key}": value for name, one in nets.items() for key, value in one.state_dict().items()}
        paths.append(files.weights(folder, "arms", repetition, cfg.repeats))
        artifacts.save_tensors(paths[-1], tensors, {"arms": list(nets), "repetition": repetition})
        paths.append(paths[-1].with_suffix(".npz"))
        artifacts.write_npz(paths[-1], **arrays)
    read = [data.PREPARED / "hcvrd" / name for name in [*(f"{one}.npz" for one in relations.FILES), "manifest.json"]]
    files.seal(folder, paths, read, cfg)
    artifacts.write_json(files.RUNS.joinpath("hcvrd", "metrics", *place, f"{cfg.seed}.json"), {"rows": rows, "layers": []})
    for state in states:
        state.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
