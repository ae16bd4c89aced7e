"""Stage: which of the indicator and the architecture weights says what an operation is worth (the paper's premise)."""

from dataclasses import dataclass

from stages.lib.stage import MISSING, field, stage
from stages.papers.eoinas.settings import FidelityParams, Images, SearchParams, SpaceParams

SECTIONS = ("images", "space", "search", "fidelity")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    dataset: str = field(help="the data set that was searched on")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    images: Images = field(default_factory=Images)
    space: SpaceParams = field(default_factory=SpaceParams)
    search: SearchParams = field(default_factory=SearchParams)
    fidelity: FidelityParams = field(default_factory=FidelityParams)


@stage(Config, files={"repeats": "eoinas/{scale}:repeats", **{key: f"eoinas/{{scale}}:{{dataset}}.{key}" for key in SECTIONS}})
def main(cfg: Config) -> None:
    """On the checkpoint of EoiNAS's search, correlates what each operation is worth with I and with softmax(alpha)."""
    cfg.fidelity.check()
    from stages.lib import artifacts, files, ranking, runtime
    from stages.lib.darts.genotype import CELLS
    from stages.lib.dense import limited
    from stages.papers.eoinas import found, images, saved
    from stages.papers.eoinas.importance import indicator
    from stages.papers.eoinas.searching import space_of
    from stages.papers.eoinas.worth import worths

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    _, held_out = images.halves(images.load(cfg.dataset, "train", cfg.images))
    some = limited(held_out, min(cfg.fidelity.images, len(held_out)), 0)
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        place = found.folder(cfg.scale, cfg.dataset, "eoinas", cfg.seed)
        tensors, record = artifacts.load_tensors(files.weights(place, "checkpoint", repetition, cfg.repeats))
        net = saved.load_net(space_of(held_out, cfg.space), record["kept"], tensors).to(device)
        alphas = {name: tensors[f"alpha.{name}"].to(device) for name in CELLS}
        truth = worths(net, saved.mean_field(alphas), some, device)
        for arm, weight in (("eoinas", cfg.search.indicator), ("alpha_pruning", 0.0)):
            scores = [
                value
                for name in CELLS
                for value in indicator(
                    tensors[f"alpha.{name}"].double(), tensors[f"accuracy.{name}"], tensors[f"count.{name}"], weight
                ).flatten().tolist()
            ]  # fmt: skip
            values = {f"fidelity_{key}": ranking.spearman(scores, value) for key, value in truth.items()}
            rows += files.metric_rows("fidelity", arm, repetition, values)
        print(f"fidelity {repetition}: {len(truth['loss'])} operations", flush=True)
    path = files.RUNS / "eoinas" / "metrics" / cfg.scale / "fidelity" / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
