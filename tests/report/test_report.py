"""The report as a whole: columns, order, bytes, escapes, and that what is committed equals its inputs."""

import csv
import html.parser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import yaml

from stages.report import report, show, summarise
from stages.report.audit import COLUMNS as AUDIT_COLUMNS
from stages.report.claims import COLUMNS
from tests.report import synthetic
from tests.report.conftest import inside, make_report

ROOT = Path(__file__).parents[2]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_columns_are_those_that_were_promised(reported: Path) -> None:
    promised = (
        "paper, kind, title, claim, metric, better, method_arm, baseline_arm, published_method, published_baseline, "
        "method_mean, baseline_mean, difference, ci_low, ci_high, n_seeds, verdict, scale, source, core_seconds"
    )
    assert (reported / "reports/claims.csv").read_text().splitlines()[0].split(",") == promised.split(", ") == COLUMNS
    promised = "paper, configuration, quantity, published, computed, relative_error, tolerance, ok, read_from"
    assert (reported / "reports/audit.csv").read_text().splitlines()[0].split(",") == promised.split(", ") == AUDIT_COLUMNS


def test_headlines_stand_first(reported: Path) -> None:
    kinds = [row["kind"] for row in rows(reported / "reports/claims.csv")]
    assert kinds == ["headline"] * 4 + ["mechanism"] * 8


def test_figures_equal_the_summary_to_the_last_digit(reported: Path) -> None:
    summary = {row["claim"]: row for row in rows(reported / "runs/results/beta/small/claims.csv")}
    for row in rows(reported / "reports/claims.csv"):
        if row["paper"] == "beta":
            for name in ("method_mean", "difference", "ci_low", "ci_high", "verdict"):
                assert row[name] == summary[row["claim"]][name]


def test_costs_fill_their_cells_and_no_others(reported: Path) -> None:
    cells = {(row["paper"], row["core_seconds"]) for row in rows(reported / "reports/claims.csv")}
    assert cells == {("alpha", "151.5"), ("beta", "")}


def test_a_wrong_audit_row_is_shown_as_wrong(reported: Path) -> None:
    found = [row["ok"] for row in rows(reported / "reports/audit.csv") if row["quantity"] == "MACs ratio"]
    assert found == ["False", "False"]
    assert re.search(r"\| MACs ratio .* \| NO +\|", (reported / "reports/audit.md").read_text())
    assert re.search(
        r'<tr class="wrong">(?:(?!</tr>).)*MACs ratio(?:(?!</tr>).)*<td>NO</td>',
        (reported / "reports/index.html").read_text(),
    )


def test_an_audit_row_cannot_call_itself_right(reported: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    shutil.copytree(reported, tmp_path / "copy")
    path = tmp_path / "copy/runs/audit/alpha.csv"
    path.write_text(path.read_text().replace("False", "True"))
    with inside(tmp_path / "copy"):
        assert "MACs ratio" in fails(report.main)


def test_two_runs_give_the_same_bytes(reported: Path, tmp_path: Path) -> None:
    """A second report, from a second summary, with figures drawn while matplotlib has other settings."""
    import matplotlib

    shutil.copytree(
        reported, tmp_path / "copy", ignore=shutil.ignore_patterns("results", "figures", "papers", "*.html", "*.md")
    )
    with matplotlib.rc_context({"font.size": 20, "figure.dpi": 50}):
        make_report(tmp_path / "copy", ("alpha", "beta"))
    assert contents(tmp_path / "copy/reports") == contents(reported / "reports")
    assert contents(tmp_path / "copy/runs") == contents(reported / "runs")


def test_no_dates_or_folders_in_the_report(reported: Path) -> None:
    for name, content in contents(reported / "reports").items():
        assert str(reported).encode() not in content, name
        if not name.endswith(".png"):
            assert not re.search(rb"\b20[2-9]\d-\d\d-\d\d", content), name


class Page(html.parser.HTMLParser):
    """Collects what a page would load or run, and the text that it shows."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            links = name == "href" and tag == "a"
            if name in ("src", "srcset", "href", "xlink:href", "data", "poster") and not links:
                self.loads.append(value or "")
            assert not name.startswith("on"), (tag, name)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", ["index.html", "claims.html"])
def test_pages_are_self_contained(reported: Path, name: str) -> None:
    source = (reported / "reports" / name).read_text()
    page = Page(source)
    assert "script" not in page.tags
    assert all(load.startswith(("#", "data:")) for load in page.loads), page.loads
    assert not re.search(r"url\((?!#)|@import", source)
    assert page.tags.count("table") >= 1
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', source):
        assert target in ids or name == "claims.html", target


HOSTILE = '<script>alert(1)</script> & "quotes" | pipe [link](javascript:alert(2)) {{ 7 * 7 }} $x$ 100 % _a_'


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    synthetic.build(tmp_path)
    tree = synthetic.claim_tree()
    tree.update(title=HOSTILE, setting=HOSTILE, authors=HOSTILE)
    tree["claims"][0].update(claim=HOSTILE, read_from=HOSTILE, published_unit=HOSTILE)
    tree["arm_titles"]["half"] = HOSTILE
    synthetic.write_yaml(tmp_path / "params/alpha/claim.yaml", tree)
    make_report(tmp_path)
    for name in ("index.html", "claims.html"):
        source = (tmp_path / "reports" / name).read_text()
        page = Page(source)
        assert "script" not in page.tags
        assert HOSTILE in page.text
        assert 'href="javascript:' not in source
    for name in ("claims.md", "papers/alpha.md"):
        source = (tmp_path / "reports" / name).read_text()
        assert "<script" not in source
        assert not re.search(r"(?<!\\)\]\(javascript", source)
        for line in source.splitlines():
            if line.startswith("|"):  # every row of a table has its header's number of cells
                assert len(re.findall(r"(?<!\\)\|", line)) in (5, 9, 10, 11)
    table = rows(tmp_path / "reports/claims.csv")
    assert table[2]["claim"] == HOSTILE
    assert {row["core_seconds"] for row in table} == {""}  # no costs.csv here


def test_what_is_not_asked_for_is_not_reported(reported: Path, tmp_path: Path) -> None:
    """A paper without params leaves its old pages and figures; a scale that is not in `scales` stays out."""
    shutil.copytree(reported, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/params/beta")
    shutil.copytree(tmp_path / "copy/runs/results/alpha/small", tmp_path / "copy/runs/results/alpha/smoke")
    with inside(tmp_path / "copy"):
        report.main([])
    names = contents(tmp_path / "copy/reports")
    assert "papers/alpha.md" in names
    assert "costs.csv" in names
    assert not [name for name in names if "beta" in name or "smoke" in name]
    found = {(row["paper"], row["scale"]) for row in rows(tmp_path / "copy/reports/claims.csv")}
    assert found == {("alpha", "small")}


def measured_twice(root: Path) -> dict:
    """A project whose first claim is measured and summarised at two scales; returns its claim.yaml."""
    synthetic.build(root)
    tree = synthetic.claim_tree()
    tree["claims"][0]["scales"] = ["small", "medium"]
    synthetic.write_yaml(root / "params/alpha/claim.yaml", tree)
    synthetic.write_yaml(root / "params/alpha/medium.yaml", {"repeats": 2})
    synthetic.metrics(root, "alpha", "medium", 3, 2)
    with inside(root):
        summarise.main(["paper=alpha", "scale=small"])
        summarise.main(["paper=alpha", "scale=medium"])
    return tree


def test_two_scales_stand_side_by_side(tmp_path: Path) -> None:
    """A claim measured at medium only leaves no "not testable" row; one measured at both has two rows."""
    tree = measured_twice(tmp_path)
    with inside(tmp_path):
        report.main(["scales=[medium,small]"])
    found = [(row["claim"], row["scale"], bool(row["difference"])) for row in rows(tmp_path / "reports/claims.csv")]
    assert ("On large nets the gain remains.", "medium", True) in found
    assert [row[1] for row in found if row[0] == tree["claims"][0]["claim"]] == ["small", "medium"]
    assert [row[1:] for row in found if row[0] == "The pruned net needs fewer MACs."] == [("small", True)]
    assert len(found) == 7


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda: shutil.rmtree("runs/results/beta"), ["runs/results/beta/small/manifest.json"]),
        (
            lambda: Path("runs/results/alpha/small/arms.csv").write_text("paper\n"),
            ["runs/results/alpha/small/arms.csv"],
        ),
        (lambda: Path("runs/audit/beta.csv").unlink(), ["runs/audit/beta.csv"]),
        (lambda: Path("runs/audit/beta.csv").write_text("paper,ok\n"), ["runs/audit/beta.csv", "columns"]),
        (lambda: Path("reports/costs.csv").write_text("paper,seconds\n"), ["reports/costs.csv", "core_seconds"]),
        (
            lambda: Path("reports/costs.csv").write_text("paper,scale,core_seconds\na,small,many\n"),
            ["reports/costs.csv"],
        ),
    ],
)
def test_wrong_inputs_are_named(
    reported: Path, tmp_path: Path, fails: Callable[..., str], spoil: Callable, names: list[str]
) -> None:
    shutil.copytree(reported, tmp_path / "copy")
    before = contents(tmp_path / "copy/reports/figures")
    with inside(tmp_path / "copy"):
        spoil()
        line = fails(report.main)
    assert all(name in line for name in names), line
    assert contents(tmp_path / "copy/reports/figures") == before


@pytest.mark.parametrize("arguments", [["scales=[]"], ["scales=[huge]"], ["scales=[medium]"]])
def test_scales_that_cannot_be_reported(project: Path, fails: Callable[..., str], arguments: list[str]) -> None:
    assert "scale" in fails(report.main, *arguments)


def test_metrics_json_counts_the_verdicts(reported: Path) -> None:
    found = json.loads((reported / "reports/metrics.json").read_text())
    table = pandas.read_csv(reported / "reports/claims.csv")
    assert {name: count for name, count in found["verdicts"].items() if count} == table["verdict"].value_counts().to_dict()
    assert found["audit"] == {"ok": 2, "figures": 4, "unexplained": 2}
    assert found["difference"]["alpha"]["small"]["fewer"] == -304128


def test_show_prints_every_claim_within_the_width(reported: Path, capsys: pytest.CaptureFixture) -> None:
    with inside(reported):
        assert show.main() == 0
    printed = capsys.readouterr().out
    joined = " ".join(printed.split())
    for row in rows(reported / "reports/claims.csv"):
        assert row["claim"] in joined
    assert "reports/index.html" in printed
    assert max(map(len, show.render(rows(reported / "reports/claims.csv"), 80, False).splitlines())) <= 80


def test_show_without_a_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with inside(tmp_path):
        assert show.main() == 1
    assert "claims.csv" in capsys.readouterr().err


def test_committed_reports_equal_what_their_inputs_give(tmp_path: Path) -> None:
    """Skipped where runs/ holds other results than those that were committed (a fresh clone, an experiment)."""
    committed = ROOT / "reports/manifest.json"
    if not committed.is_file():
        pytest.skip("no committed report")
    manifest = json.loads(committed.read_text())
    inputs = [ROOT / name for name in manifest["inputs"]]
    if not all(path.is_file() for path in inputs):
        pytest.skip("runs/ does not hold the results; make report brings them")
    for name in ("params", "runs/results", "runs/audit", "reports/kept", "reports/pictures"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "reports").mkdir(exist_ok=True)
    if (ROOT / "reports/costs.csv").is_file():
        shutil.copy(ROOT / "reports/costs.csv", tmp_path / "reports/costs.csv")
    with inside(tmp_path):
        report.main([f"scales=[{','.join(manifest['config']['scales'])}]"])
    again = contents(tmp_path / "reports")
    assert {name: content for name, content in contents(ROOT / "reports").items() if name in again} == again


def test_committed_files_equal_the_committed_manifest() -> None:
    """A report edited by hand is noticed even where runs/ is empty."""
    from stages.lib import artifacts

    if not (ROOT / "reports/manifest.json").is_file():
        pytest.skip("no committed report")
    artifacts.verify_manifest(ROOT / "reports/manifest.json")


def test_templates_are_declared() -> None:
    """The import walk of tests/test_structure.py sees modules only; a changed template must rerun the report too."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    assert "stages/report/templates" in declared


def test_kept_figures_of_another_scale_stand_beside_this_run(tmp_path: Path) -> None:
    """They show their commit and cost; the claim counts once, at its largest scale."""
    tree = measured_twice(tmp_path)
    with inside(tmp_path):
        report.main([])
        alone = json.loads(Path("reports/metrics.json").read_text())["verdicts"]
        shutil.move("runs/results/alpha/medium", "reports/kept/alpha/medium")
        origin = {"commit": "0123456789abcdef", "core_seconds": 77}
        synthetic.write_json(Path("reports/kept/alpha/medium/commit.json"), origin)
        report.main([])
        both = json.loads(Path("reports/metrics.json").read_text())["verdicts"]
    found = [row for row in rows(tmp_path / "reports/claims.csv") if row["scale"] == "medium"]
    assert {row["claim"] for row in found} == {tree["claims"][0]["claim"], "On large nets the gain remains."}
    assert {row["core_seconds"] for row in found} == {"77.0"}
    assert "medium (0123456)" in (tmp_path / "reports/claims.md").read_text()
    assert sum(both.values()) == sum(alone.values())


def test_an_altered_kept_figure_is_refused(tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    summarise.main(["paper=alpha", "scale=small"])
    shutil.copytree("runs/results/alpha/small", "reports/kept/alpha/medium")
    assert "commit.json" in fails(report.main)
    synthetic.write_json(Path("reports/kept/alpha/medium/commit.json"), {"commit": "0123456789"})
    table = Path("reports/kept/alpha/medium/claims.csv")
    table.write_text(table.read_text().replace("0.6", "0.7"))
    assert "claims.csv" in fails(report.main)


def test_an_erratum_explains_a_wrong_figure_and_nothing_else(
    tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    tree = synthetic.claim_tree() | {"errata": {"net one: MACs ratio": "Table 1 contradicts Table 5"}}
    synthetic.write_yaml(tmp_path / "params/alpha/claim.yaml", tree)
    summarise.main(["paper=alpha", "scale=small"])
    report.main([])
    assert json.loads(Path("reports/metrics.json").read_text())["audit"] == {"ok": 1, "figures": 2, "unexplained": 0}
    assert re.search(r"\| NO +\| Table 1; Table 1 contradicts Table 5", Path("reports/audit.md").read_text())
    tree["errata"] = {"net one: parameters": "it is right, though"}
    synthetic.write_yaml(tmp_path / "params/alpha/claim.yaml", tree)
    summarise.main(["paper=alpha", "scale=small"])
    assert "net one: parameters" in fails(report.main)


def test_every_wrong_figure_of_the_committed_audit_has_a_reason() -> None:
    for row in rows(ROOT / "reports/audit.csv"):
        if row["ok"] != "True":
            errata = yaml.safe_load((ROOT / "params" / row["paper"] / "claim.yaml").read_text()).get("errata", {})
            assert f"{row['configuration']}: {row['quantity']}" in errata, row


def test_pictures_of_a_papers_own_stage_are_shown(
    tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    tree = synthetic.claim_tree() | {"pictures": {"cells-{scale}": "The cells that were found."}}
    synthetic.write_yaml(tmp_path / "params/alpha/claim.yaml", tree)
    summarise.main(["paper=alpha", "scale=small"])
    assert "reports/pictures/alpha/cells-small.svg" in fails(report.main)
    folder = tmp_path / "reports/pictures/alpha"
    folder.mkdir(parents=True)
    (folder / "cells-small.svg").write_text('<svg width="10pt" height="10pt"><circle id="found" r="3"/></svg>')
    report.main([])
    assert "(../pictures/alpha/cells-small.png)" in Path("reports/papers/alpha.md").read_text()
    page = Path("reports/index.html").read_text()
    assert 'id="alpha-cells-small-found"' in page
    assert "The cells that were found." in page
    assert "reports/pictures/alpha/cells-small.svg" in json.loads(Path("reports/manifest.json").read_text())["inputs"]
