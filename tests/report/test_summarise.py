"""From metrics files to tables: the listed grid, the checks, the figures against a direct computation."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
from scipy import stats

from stages.lib import artifacts
from stages.report import summarise
from tests.report import synthetic

FOLDER = Path("runs/alpha/metrics/small/patches")
RUN = ("paper=alpha", "scale=small")


def table(name: str) -> pandas.DataFrame:
    return pandas.read_csv(f"runs/results/alpha/small/{name}.csv")


def values(arm: str, metric: str) -> list[float]:
    """The metric of an arm by repetition, read from the files directly."""
    rows = [row for path in (FOLDER / arm).glob("*.json") for row in json.loads(path.read_text())["rows"]]
    return [row["value"] for row in sorted(rows, key=lambda row: row["seed"]) if row["metric"] == metric]


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_claims_are_paired_differences(project: Path) -> None:
    summarise.main(list(RUN))
    row = table("claims").set_index("id").loc["before"]
    oracle = stats.ttest_rel(values("ours", "accuracy_before"), values("half", "accuracy_before")).confidence_interval()
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((oracle.low, oracle.high))
    assert row["method_mean"] == numpy.mean(values("ours", "accuracy_before"))
    assert row["difference"] == pytest.approx(row["method_mean"] - row["baseline_mean"])
    assert (row["n_seeds"], row["verdict"]) == (6, "reproduced")


def test_lower_is_better_and_untestable_claims(project: Path) -> None:
    summarise.main(list(RUN))
    rows = table("claims").set_index("id")
    assert (rows.loc["fewer", "difference"], rows.loc["fewer", "verdict"]) == (144192 - 448320, "reproduced")
    assert rows.loc["dense", "verdict"] == "contradicted"
    assert rows.loc["big", "verdict"] == "not testable at this scale"
    assert rows.loc["big", ["method_mean", "baseline_mean", "difference", "ci_low", "ci_high"]].isna().all()


def test_too_few_repetitions_are_not_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic.build(tmp_path, seeds=1, repeats=1, scale="smoke")
    monkeypatch.chdir(tmp_path)
    summarise.main(["paper=alpha", "scale=smoke"])
    rows = pandas.read_csv("runs/results/alpha/smoke/claims.csv")
    assert set(rows["verdict"]) == {"not testable at this scale"}
    assert rows.set_index("id").loc["before", "difference"] > 0.2  # what was measured is shown all the same


def test_arms_and_layers(project: Path) -> None:
    summarise.main(list(RUN))
    arms = table("arms").set_index(["dataset", "arm", "metric"])
    row = arms.loc["patches", "thin", "accuracy_after"]
    oracle = stats.ttest_1samp(values("thin", "accuracy_after"), 0).confidence_interval()
    assert (row["ci_low"], row["ci_high"], row["n_seeds"]) == pytest.approx((oracle.low, oracle.high, 6))
    assert ("patches", "thin", "accuracy_before") not in arms.index
    assert arms.loc["toy", "greedy", "recall"]["source"] == "sample (generated)"
    layers = table("layers")
    assert layers.loc[layers["arm"] == "ours", "layer"].tolist() == [f"blocks.{i}.conv2" for i in range(4)]
    assert layers.loc[layers["arm"] == "dense", "kept_mean"].tolist() == [8, 16, 24, 32]


def test_a_missing_file_is_named(project: Path, fails: Callable[..., str]) -> None:
    (FOLDER / "thin/1.json").unlink()
    assert str(FOLDER / "thin/1.json") in fails(summarise.main, *RUN)
    assert not Path("runs/results").exists()


def test_stale_files_are_ignored(project: Path) -> None:
    summarise.main(list(RUN))
    before = {path.name: path.read_bytes() for path in Path("runs/results/alpha/small").iterdir()}
    for stale in (FOLDER / "ours/7.json", FOLDER / "gone/0.json", FOLDER.parent / "elsewhere/ours/0.json"):
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.write_text("not even JSON")
    summarise.main(list(RUN))
    assert {path.name: path.read_bytes() for path in Path("runs/results/alpha/small").iterdir()} == before


def test_removing_a_seed_removes_its_repetitions(project: Path) -> None:
    config = Path("params/config.yaml")
    config.write_text(config.read_text().replace("- 2\n", ""))
    summarise.main(list(RUN))
    assert set(table("claims").query("id != 'big'")["n_seeds"]) == {4}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "0.5", None, True])
def test_values_that_are_not_finite_numbers_are_refused(project: Path, fails: Callable[..., str], bad: object) -> None:
    edit(FOLDER / "half/2.json", lambda content: content["rows"][3].update(value=bad))
    line = fails(summarise.main, *RUN)
    assert str(FOLDER / "half/2.json") in line
    assert "row 3" in line


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda c: c["rows"][0].update(arm="ours"), ["patches/ours", "patches/half"]),
        (lambda c: c["rows"][0].update(dataset="digits"), ["digits/half"]),
        (lambda c: c["rows"][0].update(extra=1), ["row 0", "columns"]),
        (lambda c: c["rows"].append(dict(c["rows"][0])), ["two rows"]),
        (lambda c: [row.update(seed=row["seed"] + 1) for row in c["rows"]], ["repetitions [3, 4]", "2 to 3"]),
        (lambda c: c["rows"].pop(), ["repetitions"]),
        (lambda c: c["rows"].clear(), ["no rows"]),
        (lambda c: c.pop("rows"), ["rows"]),
        (lambda c: c["layers"][0].update(kept=1.5), ["kept", "1.5"]),
    ],
)
def test_inconsistent_files_are_refused(project: Path, fails: Callable[..., str], change: Callable, names: list[str]) -> None:
    edit(FOLDER / "half/1.json", change)
    line = fails(summarise.main, *RUN)
    assert all(name in line for name in names), line


def test_a_truncated_file_is_named(project: Path, fails: Callable[..., str]) -> None:
    path = FOLDER / "ours/0.json"
    path.write_text(path.read_text()[:100])
    assert str(path) in fails(summarise.main, *RUN)


def test_a_metric_that_no_file_holds(project: Path, fails: Callable[..., str]) -> None:
    claim = Path("params/alpha/claim.yaml")
    claim.write_text(claim.read_text().replace("metric: accuracy_before", "metric: top5"))
    line = fails(summarise.main, *RUN)
    assert "before" in line
    assert "top5" in line


def test_schema_mistakes_stop_the_stage(project: Path, fails: Callable[..., str]) -> None:
    claim = Path("params/alpha/claim.yaml")
    claim.write_text(claim.read_text().replace("method_arm: ours", "method_arm: hours", 1))
    assert "hours" in fails(summarise.main, *RUN)


def test_data_sets_are_named_for_what_they_are(project: Path, fails: Callable[..., str]) -> None:
    summarise.main(list(RUN))
    about = artifacts.read_json("runs/results/alpha/small/paper.json")["datasets"]
    assert "(embedded sample)" in about["patches"]["title"]
    assert about["patches"]["about"] == "800 train, 300 test, 100 val; val is batch 5"
    assert "(generated)" in about["toy"]["title"]
    artifacts.verify_manifest("runs/results/alpha/small/manifest.json")


def test_a_data_sets_own_source_is_named(project: Path, fails: Callable[..., str]) -> None:
    manifest = Path("runs/prepare/patches/manifest.json")
    edit(manifest, lambda made: made.update(source="publisher"))  # its key need not be `source`
    summarise.main(list(RUN))
    assert artifacts.read_json("runs/results/alpha/small/paper.json")["datasets"]["patches"]["source"] == "publisher"
    assert set(table("arms").set_index("dataset").loc["patches", "source"]) == {"publisher"}
    edit(manifest, lambda made: made.update(source="elsewhere"))
    assert "manifest.json" in fails(summarise.main, *RUN)
