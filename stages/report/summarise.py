"""Stage: one paper's metrics at one scale become its tables of claims, arms and layers.

python stages/report/summarise.py paper=dcp scale=small
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, StageError, field, stage
from stages.report.counts import images

if TYPE_CHECKING:
    from stages.report.schema import Paper


@dataclass
class Config:
    """Settings of the stage."""

    paper: str = field(help="the paper's slug: its folder in params/ and runs/")
    scale: str = field(help="smoke, small, medium or paper")
    seeds: list[int] = field(default=MISSING, help="matrix seeds whose files must be there")
    source: str = field(default=MISSING, help="named for claims on sets that this scale does not measure")
    eval_split: str = field(default=MISSING, help="the split that the metrics were measured on: named in the report")
    repeats: int = field(help="repetitions that one matrix seed stands for")
    claim: dict[str, Any] = field(help="the paper's claims, arms and published figures")


@stage(Config, files={"claim": "{paper}/claim", "repeats": "{paper}/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Summarise a paper at one scale. Reads exactly the metrics files that claim.yaml's arms and data sets, the
    seeds and the scale's repeats list (a missing one is an error, others are ignored); writes claims.csv, arms.csv,
    layers.csv and paper.json to runs/results/<paper>/<scale>/.
    """
    from stages.lib import artifacts
    from stages.report import arms, claims, grid, schema

    paper = schema.parse(cfg.claim, f"params/{cfg.paper}/claim.yaml")
    if cfg.repeats < 1 or not cfg.seeds or len(set(cfg.seeds)) != len(cfg.seeds):
        raise StageError(f"seeds={cfg.seeds} repeats={cfg.repeats}: expected different seeds and at least one repeat")
    files = grid.listed(paper, cfg.scale, Path("runs", cfg.paper, "metrics", cfg.scale), cfg.seeds, cfg.repeats)
    rows, layers = grid.read(files)
    about = {dataset: describe(dataset, paper) for dataset in grid.datasets(paper, cfg.scale)}
    sources = {dataset: item["source"] for dataset, item in about.items()}

    folder = Path("runs/results", cfg.paper, cfg.scale)
    artifacts.write_csv(folder / "claims.csv", claims.claims_table(rows, paper, cfg.paper, cfg.scale, sources, cfg.source))
    artifacts.write_csv(folder / "arms.csv", arms.arms_table(rows, paper, cfg.paper, cfg.scale, sources))
    artifacts.write_csv(folder / "layers.csv", arms.layers_table(layers, cfg.paper, cfg.scale))
    artifacts.write_json(
        folder / "paper.json",
        {**asdict(paper), "slug": cfg.paper, "scale": cfg.scale, "eval_split": cfg.eval_split, "datasets": about},
    )
    manifests = [prepared(dataset) for dataset in about if dataset not in paper.generated]
    outputs = [folder / name for name in ("claims.csv", "arms.csv", "layers.csv", "paper.json")]
    artifacts.write_manifest(
        folder / "manifest.json", outputs=outputs, inputs=[*manifests, *(file.path for file in files)], config=cfg
    )
    print(f"{cfg.paper} {cfg.scale}: {len(files)} metrics files, {len(paper.claims)} claims -> {folder}")


def describe(dataset: str, paper: Paper) -> dict[str, Any]:
    """Title, source and particulars of a data set, from its prepare manifest: sets have keys of their own for their
    source (`image_source`, `sensor_source`, ...), and the manifest says which one was prepared. A set that is not the
    publisher's own files says so in its title; one that the paper's own stage makes is named as generated.
    """
    from stages.lib import artifacts
    from stages.prepare.provenance import SOURCES

    title = paper.dataset_titles.get(dataset, dataset)
    if dataset in paper.generated:
        return {
            "title": f"{title} (generated)",
            "source": "sample (generated)",
            "about": "made by the paper's own stage",
        }
    manifest = prepared(dataset)
    made = artifacts.read_json(manifest)
    if made.get("source") not in SOURCES or "files" not in made:
        raise StageError(f"{manifest}: no source or origin of files; run the prepare stage of {dataset} again")
    if made["files"] != "official":
        title = f"{title} ({made['files']})"
    return {"title": title, "source": made["source"], "about": particulars(made)}


def particulars(made: dict[str, Any]) -> str:
    """A prepare manifest in a sentence: sizes of the splits, classes, how it was divided and encoded."""
    counts = sorted(((split, images(count)) for split, count in made.get("counts", {}).items()), key=lambda item: -item[1])
    classes = made.get("classes", [])
    some = ", ".join(classes[:3]) + (" ..." if len(classes) > 3 else "")
    parts = [
        ", ".join(f"{count:,} {split}" for split, count in counts),
        f"{len(classes)} classes: {some}" * bool(classes),
    ]
    return "; ".join(part for part in [*parts, made.get("split", ""), made.get("encoding", "")] if part)


def prepared(dataset: str) -> Path:
    """The manifest that the data set's prepare stage wrote."""
    return Path("runs/prepare", dataset, "manifest.json")


if __name__ == "__main__":
    main()
