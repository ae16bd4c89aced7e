"""Stage: merging the trained extractors, combined and sequential; the figures of all arms (stage 2 of the method)."""

from typing import TYPE_CHECKING, Any

from stages.lib.stage import stage
from stages.papers.har_multistage.settings import Config

if TYPE_CHECKING:
    from stages.papers.har_multistage.multistage import Run


@stage(Config, paper="har_multistage", section="{dataset}", files={"repeats": "har_multistage/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Merge the extractors of stage 1 and measure every arm on the test windows of each repetition's fold.

    Writes runs/har_multistage/merged/<scale>/<dataset>/<seed>/ (answers.npz, branches.json) and the metrics file.
    """
    from stages.lib import artifacts, files, runtime
    from stages.lib.sensors import windows
    from stages.lib.sensors.folds import PROTOCOLS
    from stages.papers.har_multistage import problem, saved
    from stages.papers.har_multistage.multistage import Run

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    sources = [saved.folder(what, cfg.scale, cfg.dataset, cfg.seed) for what in ("single", "scratch")]
    for source in sources:
        artifacts.verify_manifest(source / "manifest.json")
    found = problem.chosen_windows(windows.load(cfg.dataset), list(cfg.params.channels), cfg.eval_split)
    place = saved.folder("merged", cfg.scale, cfg.dataset, cfg.seed)
    rows, answers, notes = [], {}, []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        for protocol in PROTOCOLS:
            own = problem.make(found, cfg.params, protocol, repetition)

            def state(purpose: str, protocol: str = protocol, repetition: int = repetition):
                return files.scratch(place, repetition, f"{protocol}-{purpose}")

            run = Run(own, cfg.params, repetition, device, state, f"{protocol} {repetition}")
            values, given, note = _measure(cfg, run, protocol, repetition)
            for arm, figures in values.items():
                rows += files.metric_rows(cfg.dataset, arm, repetition, figures)
            answers |= {f"y_{protocol}_{repetition}": own.labels["test"].numpy()}
            answers |= {f"{arm}_{repetition}": answer for arm, answer in given.items()}
            notes.append({"seed": repetition, "protocol": protocol, **note})
            print(", ".join(f"{arm} {one['accuracy']:.3f}" for arm, one in values.items()), flush=True)
    metrics = saved.metrics(cfg.scale, cfg.dataset, cfg.seed)
    artifacts.write_npz(place / "answers.npz", **answers)
    artifacts.write_json(place / "branches.json", {"classes": list(found.classes), "repetitions": notes})
    artifacts.write_json(metrics, {"rows": rows, "layers": []})
    read = [*saved.prepared(cfg.dataset), *(source / "manifest.json" for source in sources)]
    files.seal(place, [place / "answers.npz", place / "branches.json", metrics], read, cfg)


def _measure(cfg: Config, run: "Run", protocol: str, repetition: int) -> tuple[dict, dict, dict]:
    """(figures by arm, answers by arm, notes on the branches) of one fold."""
    from stages.papers.har_multistage import arms, saved

    source = saved.folder("single", cfg.scale, cfg.dataset, cfg.seed)
    branches = {
        name: saved.load(
            saved.branch_path(source, protocol, name, repetition, cfg.repeats), name, shape, cfg.params, run.problem.classes
        )
        for name, shape in run.problem.shapes.items()
    }
    given, values, note = _single(branches, run)
    _merged(branches, run, protocol, given, values, note)
    if protocol == arms.GROUPED:
        _scratch(cfg, repetition, given, values, note)
    y = run.problem.labels["test"].numpy()
    wanted = given if protocol == arms.GROUPED else {arm: given[arm] for arm in arms.OVER_WINDOWS}
    named = {arms.arm_name(arm, protocol): arm for arm in wanted}
    table = {name: arms.figures(y, given[arm], run.problem.classes) | values[arm] for name, arm in named.items()}
    return table, {name: given[arm] for name, arm in named.items()}, note


def _single(branches: dict[str, Any], run: "Run") -> tuple[dict, dict, dict]:
    """Answers and figures of the best branch by validation, with the accuracy of each, and of the mean of all softmaxes."""
    from stages.lib.macs import parameters
    from stages.papers.har_multistage import baselines, individual, learning

    logits = {name: learning.predict(one.net, run.problem.examples("test", name)) for name, one in branches.items()}
    order, y = individual.ordered(branches), run.problem.labels["test"]
    answers = {"best_single": logits[order[0]], "late_average": baselines.late_average(list(logits.values()))}
    each = {f"accuracy_{name}": float((one.argmax(1) == y).double().mean()) for name, one in logits.items()}
    passes = max(one.trained.passes for one in branches.values())
    sizes = {name: parameters(one.net) for name, one in branches.items()}
    values = {
        "best_single": {"passes": branches[order[0]].trained.passes, "parameters": sizes[order[0]], **each},
        "late_average": {"passes": passes, "parameters": sum(sizes.values())},
    }
    curves = {name: one.trained.curve for name, one in branches.items()}
    return {arm: one.argmax(1).numpy() for arm, one in answers.items()}, values, {"order": order, "curves": curves}


def _merged(branches: dict[str, Any], run: "Run", protocol: str, given: dict, values: dict, note: dict) -> None:
    """Add the merged nets' answers and figures; the sequential one over grouped folds only."""
    from stages.lib.macs import parameters
    from stages.papers.har_multistage import arms, learning, multistage

    both = multistage.combined(branches, run)
    nets = {"combined": (both.tuned, both.passes), "frozen": (both.frozen, both.frozen_passes)}
    note["curves"]["combined"] = both.curve
    more = {}
    if protocol == arms.GROUPED:
        own = multistage.sequential(branches, run)
        nets["sequential"] = (own.net, own.passes)
        more = {"sequential": {"branches": len(own.kept)}}
        note |= {"kept": own.kept, "dropped": own.dropped}
    for arm, (net, passes) in nets.items():
        logits = learning.predict(net, run.problem.examples("test", *net.names))
        given[arm] = logits.argmax(1).numpy()
        values[arm] = {"passes": passes, "parameters": parameters(net), **more.get(arm, {})}


def _scratch(cfg: Config, repetition: int, given: dict, values: dict, note: dict) -> None:
    """Add the answers and figures of the nets that were trained at once."""
    from stages.lib import artifacts
    from stages.papers.har_multistage import saved

    place = saved.folder("scratch", cfg.scale, cfg.dataset, cfg.seed)
    for told in artifacts.read_json(place / "about.json")["trained"]:
        if told["seed"] == repetition:
            arm = told["arm"]
            (given[arm],) = artifacts.read_npz(place / "answers.npz", f"{arm}_{repetition}")
            values[arm] = {"passes": told["passes"], "parameters": told["parameters"]}
            note["curves"][arm] = told["curve"]


if __name__ == "__main__":
    main()
