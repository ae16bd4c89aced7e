"""Stage: the table of data sets: what each one is made of, and whether its files are the publisher's."""

from dataclasses import dataclass
from pathlib import Path

from stages.lib.stage import field, stage
from stages.report.counts import images, sets

PREPARED = Path("runs/prepare")
REPORTS = Path("reports")
COLUMNS = ["dataset", "source", "files", "train", "val", "test", "classes", "shape", "split"]


@dataclass
class Config:
    """Settings of the stage."""

    datasets: str = field(help="names of prepared data sets, joined by +")


def row(manifest: dict) -> dict:
    """One line of the table. Photographs have no classes, and `shape` is absent where images differ in size."""
    counts, classes = manifest["counts"], manifest.get("classes")
    shape = " x ".join(map(str, manifest.get("shape", [])))
    return {
        "dataset": manifest["dataset"],
        "source": manifest["source"],
        "files": manifest["files"],
        **{name: images(counts.get(name, 0)) for name in ("train", "val", "test")},
        "classes": "" if classes is None else len(classes),
        "shape": shape or ("photographs" if classes is None else "index"),
        "split": "; ".join([manifest["split"], *sets(counts)]),
    }


@stage(Config)
def main(cfg: Config) -> None:
    """Write reports/data.csv and reports/data.md from the manifests in runs/prepare/."""
    from stages.lib import artifacts
    from stages.lib.errors import StageError
    from stages.report import markdown

    rows = []
    for name in cfg.datasets.split("+"):
        manifest = artifacts.read_json(PREPARED / name / "manifest.json")
        try:
            rows.append(row(manifest))
        except (KeyError, TypeError) as error:
            raise StageError(f"{PREPARED / name / 'manifest.json'}: no {error}; run stages/prepare/{name}.py again") from error
    table = markdown.table(COLUMNS, [[str(item[key]) for key in COLUMNS] for item in rows], right=[3, 4, 5, 6])
    text = "# Data sets\n\nAs they were prepared for this run. *official* files have the publisher's hashes"
    text += " or numbers, a *generated sample* holds signals or images that a program drew.\n\n" + table
    artifacts.write_csv(REPORTS / "data.csv", rows)
    artifacts.write_bytes(REPORTS / "data.md", (text.rstrip() + "\n").encode())


if __name__ == "__main__":
    main()
