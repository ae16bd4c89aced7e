"""Stage: the exported nets of one seed on the test sets, their sizes, and the nets before fine-tuning."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.ghostsr.settings import Backbone, Evaluation, Ghost

if TYPE_CHECKING:
    import torch

    from stages.lib.restoration.sets import Pair


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    device: str = MISSING
    eval_split: str = MISSING
    net: Backbone = field(default_factory=Backbone)
    ghost: Ghost = field(default_factory=Ghost)
    arms: list[str] = field(default_factory=list, help="names of the arms that were trained")
    params: Evaluation = field(default_factory=Evaluation)


@stage(
    Config, paper="ghostsr", section="evaluate",
    files={"repeats": "ghostsr/{scale}:repeats", "net": "ghostsr/{scale}:net", "ghost": "ghostsr/{scale}:ghost",
           "arms": "ghostsr/{scale}:arms"},
)  # fmt: skip
def main(cfg: Config) -> None:
    """Exports every arm's net to true slices and measures it; writes figures, exported nets and a few pictures.

    eval_split=val measures on the validation photographs of the training set, for choosing settings.
    """
    from stages.papers.ghostsr import arms

    chosen = arms.chosen(cfg.arms)
    from stages.lib import artifacts, files, runtime
    from stages.lib.restoration import sets
    from stages.papers.ghostsr import folders, measure, saved

    sources = [folders.folder(name, cfg.scale, cfg.seed) for name in ("pretrained", "nets")]
    verified = [folders.verified(source) for source in sources]
    dataset = folders.TEST_SET if cfg.eval_split == "test" else folders.TRAIN_SET
    pairs = measure.test_pairs(sets.load(dataset, cfg.eval_split), cfg.net.factor, cfg.params)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    folder = folders.folder("evaluated", cfg.scale, cfg.seed)
    rows, made, pictures = [], [], {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        found, kept, nets = _repetition(cfg, chosen, pairs, repetition, device)
        rows += [row for arm, values in found.items() for row in files.metric_rows(folders.TEST_SET, arm, repetition, values)]
        made += [(files.weights(folder, name, repetition, cfg.repeats), *nets[name]) for name in nets]
        pictures = pictures or kept  # those of the first repetition
        print(", ".join(f"{arm} {values['psnr']:.2f}" for arm, values in found.items() if "psnr" in values), flush=True)
    for path, net, form in made:
        saved.save(path, net, form)
    artifacts.write_npz(folder / "pictures.npz", **pictures)
    metrics = folders.metrics(cfg.scale, cfg.seed)
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    read = [*verified, *folders.read(dataset, cfg.eval_split)]
    files.seal(folder, [*(path for path, *_ in made), folder / "pictures.npz", metrics], read, cfg)


def _repetition(
    cfg: Config, chosen: dict[str, Any], pairs: "dict[str, list[Pair]]", repetition: int, device: "torch.device"
) -> tuple[dict[str, dict[str, float]], dict[str, Any], dict[str, Any]]:
    """(figures by arm, pictures by name, exported nets with their forms by arm) of one repetition."""
    import numpy

    from stages.lib import files
    from stages.lib.restoration import sets
    from stages.papers.ghostsr import arms, conversion, experiment, folders, measure, saved

    factor, first = cfg.net.factor, next(iter(pairs.values()))[0]
    values, kept = measure.figures(measure.Bicubic(factor), pairs, factor, cfg.params, device)
    found, images, nets = {"bicubic": values}, {"bicubic": kept}, {}
    for name in chosen:
        path = files.weights(folders.folder("nets", cfg.scale, cfg.seed), name, repetition, cfg.repeats)
        net, form = saved.load(path)
        if form != experiment.form_of(chosen[name], cfg.net, cfg.ghost):
            raise StageError(f"{path}: holds another net than the params file describes; run the stage finetune again")
        sliced = experiment.checked_export(net, sets.tensor(first.corrupted))
        nets[name] = (sliced, form.exported())
        found[name], images[name] = measure.figures(sliced, pairs, factor, cfg.params, device)
        found[name] |= experiment.sizes(form)
    for name, values in experiment.offset_figures({name: net for name, (net, _) in nets.items()}).items():
        found[name] |= values
    dense = experiment.load_dense(folders.pretrained(cfg.scale, cfg.seed, repetition, cfg.repeats), cfg.net)
    for name, arm in arms.BEFORE.items():
        net = experiment.start(arm, experiment.form_of(arm, cfg.net, cfg.ghost), dense, repetition)
        before, _ = measure.figures(conversion.exported(net), pairs, factor, cfg.params, device)
        found.setdefault(name, {})["psnr_before"] = before["psnr"]
    for name, values in experiment.redundancy(dense, cfg.ghost.ratio, repetition).items():
        found.setdefault(name, {}).update(values)
    shown = [pair for group in pairs.values() for pair in group][: cfg.params.pictures]
    images["clean"] = [pair.clean for pair in shown]
    pictures = {f"{name}_{i}": image for name, some in images.items() for i, image in enumerate(some)}
    pictures["names"] = numpy.array([pair.name for pair in shown])
    return found, pictures, nets


if __name__ == "__main__":
    main()
