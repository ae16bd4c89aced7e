"""The tables of all arms: each metric's mean with its 95 % interval, and the channels kept in each layer."""

from __future__ import annotations

import pandas

from stages.lib.statistics import mean_interval
from stages.report import text
from stages.report.schema import Paper

COLUMNS = [
    "paper",
    "scale",
    "source",
    "dataset",
    "arm",
    "role",
    "title",
    "metric",
    "mean",
    "ci_low",
    "ci_high",
    "n_seeds",
]
LAYER_COLUMNS = [
    "paper",
    "scale",
    "dataset",
    "arm",
    "layer",
    "position",
    "channels",
    "kept_mean",
    "kept_min",
    "kept_max",
    "n_seeds",
]


def arms_table(rows: pandas.DataFrame, paper: Paper, slug: str, scale: str, sources: dict[str, str]) -> pandas.DataFrame:
    """Rows of arms.csv (long: one row a data set, arm and metric), arms in claim.yaml's order. `sources` maps data
    sets.
    """
    known = [arm for arm in paper.arm_titles if arm in set(rows["arm"])]
    order = known + sorted(set(rows["arm"]) - set(known))
    found = {key: group["value"].tolist() for key, group in rows.groupby(["dataset", "arm", "metric"], sort=False)}
    table = []
    for dataset in dict.fromkeys(rows["dataset"]):
        metrics = text.metric_order([metric for data, _, metric in found if data == dataset])
        for arm in order:
            for metric in metrics:
                if (dataset, arm, metric) in found:
                    interval = mean_interval(found[dataset, arm, metric])
                    label = {
                        "role": paper.arm_roles.get(arm, "reference"),
                        "title": paper.arm_title(arm),
                        "metric": metric,
                    }
                    figures = {
                        "mean": interval.mean,
                        "ci_low": interval.low,
                        "ci_high": interval.high,
                        "n_seeds": interval.n,
                    }
                    place = {"paper": slug, "scale": scale, "source": sources[dataset], "dataset": dataset, "arm": arm}
                    table.append({**place, **label, **figures})
    return pandas.DataFrame(table, columns=COLUMNS)


def layers_table(layers: pandas.DataFrame, slug: str, scale: str) -> pandas.DataFrame:
    """Rows of layers.csv. `position` numbers a data set's layers in the order in which the nets list them."""
    position: dict[tuple[str, str], int] = {}
    count: dict[str, int] = {}
    for dataset, layer in zip(layers["dataset"], layers["layer"], strict=True):
        if (dataset, layer) not in position:
            position[dataset, layer] = count.get(dataset, 0)
            count[dataset] = position[dataset, layer] + 1
    table = []
    for (dataset, arm, layer), group in layers.groupby(["dataset", "arm", "layer"], sort=False):
        kept = group["kept"]
        figures = {
            "channels": int(group["channels"].max()),
            "kept_mean": float(kept.mean()),
            "kept_min": int(kept.min()),
            "kept_max": int(kept.max()),
        }
        place = {
            "paper": slug,
            "scale": scale,
            "dataset": dataset,
            "arm": arm,
            "layer": layer,
            "position": position[dataset, layer],
        }
        table.append({**place, **figures, "n_seeds": len(kept)})
    return pandas.DataFrame(table, columns=LAYER_COLUMNS)
