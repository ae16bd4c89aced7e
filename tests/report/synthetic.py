"""A small project with made-up metrics, in a temporary folder: two papers' worth of everything that the report
reads.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import yaml

ARMS = {  # accuracy before and after fine-tuning, MACs
    "ours": (0.52, 0.668, 144192),
    "half": (0.23, 0.662, 144192),
    "plain": (0.17, 0.657, 144192),
    "thin": (None, 0.716, 144192),
    "dense": (0.739, 0.741, 448320),
}


def claim_tree() -> dict:
    """A fresh copy of the valid claim.yaml."""
    return yaml.safe_load(Path(__file__).with_name("claim.yaml").read_text())


def build(root: Path, papers: tuple[str, ...] = ("alpha",), seeds: int = 3, repeats: int = 2, scale: str = "small") -> Path:
    """Write params/ and the metrics of these papers below `root`; returns it."""
    write_yaml(
        root / "params/config.yaml",
        {"source": "sample", "scales": [scale], "seeds": list(range(seeds)), "eval_split": "test"},
    )
    for paper in papers:
        write_yaml(root / f"params/{paper}/claim.yaml", claim_tree())
        write_yaml(root / f"params/{paper}/{scale}.yaml", {"repeats": repeats})
        metrics(root, paper, scale, seeds, repeats)
        (root / "runs/audit").mkdir(parents=True, exist_ok=True)
        (root / f"runs/audit/{paper}.csv").write_text(audit(paper))
    counts = {"train": 800, "val": 100, "test": 300}
    write_json(
        root / "runs/prepare/patches/manifest.json",
        {"source": "sample", "files": "embedded sample", "counts": counts, "split": "val is batch 5"},
    )
    return root


def metrics(root: Path, paper: str, scale: str, seeds: int, repeats: int) -> None:
    """One file an arm and seed, and one file a seed for the toy data."""
    rng = numpy.random.default_rng(len(paper))
    shared = rng.normal(0, 0.01, seeds * repeats)
    folder = root / f"runs/{paper}/metrics/{scale}"
    for arm, (before, after, macs) in ARMS.items():
        noise = shared + rng.normal(0, 0.004, seeds * repeats)
        for seed in range(seeds):
            values = {}
            for r in range(seed * repeats, (seed + 1) * repeats):
                values[r] = {
                    "accuracy_after": after + noise[r],
                    "macs": macs,
                    "parameters": macs // 8,
                    "bytes": macs // 2,
                }
                values[r] |= {} if before is None else {"accuracy_before": before + 2 * noise[r]}
            rows = [
                {"dataset": "patches", "arm": arm, "seed": r, "metric": m, "value": v}
                for r, found in values.items()
                for m, v in found.items()
            ]
            layers = [
                {
                    "dataset": "patches",
                    "arm": arm,
                    "seed": r,
                    "layer": f"blocks.{i}.conv2",
                    "channels": 8 * (i + 1),
                    "kept": (2 if arm != "dense" else 8) * (i + 1),
                }
                for r in values
                for i in range(4)
            ]
            write_json(folder / "patches" / arm / f"{seed}.json", {"rows": rows, "layers": layers})
    for seed in range(seeds):
        rows = [
            {"dataset": "toy", "arm": arm, "seed": r, "metric": "recall", "value": float(mean + rng.normal(0, 0.02))}
            for r in range(seed * repeats, (seed + 1) * repeats)
            for arm, mean in (("greedy", 0.95), ("least", 0.1))
        ]
        write_json(folder / "toy" / f"{seed}.json", {"rows": rows, "layers": []})


def audit(paper: str) -> str:
    """One figure that agrees and one that does not."""
    header = "paper,configuration,quantity,published,computed,relative_error,tolerance,ok,read_from\n"
    good = f"{paper},net one,parameters,856000.0,855578,-0.00049299065420560,0.00058411,True,Table 4\n"
    return header + good + f"{paper},net one,MACs ratio,1.97,1.989,0.00964467005076140,0.004,False,Table 1\n"


def write_json(path: Path, content: object) -> None:
    """JSON with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_yaml(path: Path, content: object) -> None:
    """YAML with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
