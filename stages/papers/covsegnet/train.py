"""Stage: both phases, what dispenses with one of them, and the 2-D rivals, on the scans of a seed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.stage import field, stage
from stages.papers.covsegnet.settings import Common, Settings

if TYPE_CHECKING:
    from torch import nn

    from stages.papers.covsegnet.phases import Job


@dataclass
class Config(Common):
    """Command line and parameters of the stage."""

    params: Settings = field(default_factory=Settings)


def trained(job: "Job") -> "tuple[dict[str, nn.Module], dict[str, object]]":
    """All nets that the arms need, by name, and who was in which inner fold."""
    from stages.papers.covsegnet import arms, inference

    names = arms.nets(job.settings.arms)
    done, p, about = {}, {}, {}
    for name in names:
        if arms.ARMS[name].slices == name:
            done[name] = job.slices(name, job.scans, name)
    if "two_phase" in names:
        p["two_phase"], fold = job.out_of_fold()
        about = {"folds": [{"case": one.name, "patient": one.patient, "fold": k} for one, k in zip(job.scans, fold)]}
    if "in_sample" in names:
        p["in_sample"] = [inference.by_slices(done["phase1"], one.image, job.device) for one in job.scans]
    for name in names:
        if arms.ARMS[name].volumes == name:
            done[name] = job.volumes(name, p.get(name))
    return done, about


@stage(Config, paper="covsegnet", section="{dataset}", files={"repeats": "covsegnet/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains the nets of all arms on the training scans of each repetition and writes their weights.

    The split that is measured decides only which slabs are left out where slabs of scans are divided.
    """
    from stages.lib import artifacts, files, runtime
    from stages.papers.covsegnet import division, nets, phases, scans
    from stages.papers.covsegnet.arms import ARMS

    folder = files.RUNS / "covsegnet" / "nets" / cfg.scale / cfg.dataset / str(cfg.seed)
    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    found, made, told = scans.load(cfg.dataset), [], {}
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        parts = division.divide(found, cfg.eval_split, cfg.params.scans, repetition)
        scratch = files.SCRATCH / folder.relative_to(files.RUNS)
        done, told[str(repetition)] = trained(phases.Job(cfg.params, parts.train, repetition, device, scratch))
        for name, net in done.items():
            of = phases.slice_record if ARMS[name].slices == name else phases.volume_record
            made.append(files.weights(folder, name, repetition, cfg.repeats))
            nets.save(made[-1], net, of(cfg.params, name))
    artifacts.write_json(folder / "folds.json", told)
    files.seal(folder, [*made, folder / "folds.json"], scans.paths(cfg.dataset), cfg)


if __name__ == "__main__":
    main()
