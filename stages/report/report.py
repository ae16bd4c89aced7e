"""Stage: all summaries, audits and costs become the tables, figures and pages of reports/.

python stages/report/report.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stages.report.figures.plan import Planned
    from stages.report.results import Results

RUNS, PARAMS, REPORTS = Path("runs"), Path("params"), Path("reports")


@dataclass
class Config:
    """Settings of the stage."""

    scales: list[str] = field(default=MISSING, help="scales that are reported; others in runs/results are ignored")


@stage(Config)
def main(cfg: Config) -> None:
    """Write reports/. Takes every paper that has params/<paper>/claim.yaml, at each of the scales for which it has a
    parameter file: their summaries in runs/results/, their audits in runs/audit/, and core-seconds from
    reports/costs.csv where that exists. A missing summary or audit is an error, others are ignored. Summaries of other
    scales that were measured before and kept in reports/kept/ stand beside them, with the commit of their measurement.
    """
    from stages.lib import artifacts
    from stages.report import results

    found = results.load(results.expected(PARAMS, cfg.scales), RUNS, REPORTS / "costs.csv", REPORTS / "kept")
    written = write(found, REPORTS)
    drawn = [path for slug in found.slugs for path in own_pictures(found, slug)]
    artifacts.write_json(REPORTS / "metrics.json", metrics(found))
    written.append(REPORTS / "metrics.json")
    _remove_others(written)
    artifacts.write_manifest(REPORTS / "manifest.json", outputs=written, inputs=[*found.inputs, *drawn], config=cfg)
    print(f"{len(found.claims)} claims of {len(found.slugs)} papers -> {REPORTS / 'index.html'}, {REPORTS / 'claims.md'}")


def write(found: Results, folder: Path) -> list[Path]:
    """Every file of the report. Returns their paths."""
    from stages.lib import artifacts
    from stages.report import markdown, pages, views
    from stages.report.audit import COLUMNS as AUDIT_COLUMNS
    from stages.report.claims import COLUMNS

    claims = views.claim_views(found)
    pictures, captions, written = _figures(found, folder / "figures", claims)
    artifacts.write_csv(folder / "claims.csv", found.claims[COLUMNS])
    artifacts.write_csv(folder / "audit.csv", found.audit[AUDIT_COLUMNS])
    rendered = {
        "claims.md": markdown.claims_page(claims),
        "audit.md": markdown.audit_page(found),
        "claims.html": pages.claims_page(claims),
        "index.html": pages.index_page(found, claims, pictures),
    }
    for slug in found.slugs:
        rendered[f"papers/{slug}.md"] = markdown.paper_page(
            found, slug, [view for view in claims if view.paper == slug], captions.get(slug, [])
        )
        artifacts.write_csv(folder / "papers" / f"{slug}.csv", _arms(found, slug))
    for name, page in rendered.items():
        artifacts.write_bytes(folder / name, page.encode())
    tables = [folder / "claims.csv", folder / "audit.csv", *(folder / "papers" / f"{slug}.csv" for slug in found.slugs)]
    return [*tables, *(folder / name for name in rendered), *written]


def metrics(found: Results) -> dict:
    """Numbers for `dvc metrics diff`: how many claims got which verdict, each measured difference, how many audited
    figures agree.
    """
    from stages.lib.statistics import VERDICTS

    differences: dict = {}
    for row in found.claims.dropna(subset=["difference"]).itertuples():
        differences.setdefault(row.paper, {}).setdefault(row.scale, {})[row.id] = float(row.difference)
    largest = found.claims.drop_duplicates(["paper", "id"], keep="last")  # of each claim the row of its largest scale
    verdicts = {verdict: int((largest["verdict"] == verdict).sum()) for verdict in VERDICTS}
    return {
        "verdicts": verdicts,
        "difference": differences,
        "audit": {"ok": int(found.audit["ok"].sum()), "figures": len(found.audit), "unexplained": len(found.unexplained())},
    }


def _figures(found: Results, folder: Path, claims: list) -> tuple[dict, dict, list[Path]]:
    """Draw and save all figures. Returns pictures and (file, caption) pairs by paper (None: the whole report), and
    all paths.
    """
    from functools import partial

    from markupsafe import Markup

    from stages.report.figures import plan, style
    from stages.report.pages import Picture
    from stages.report.side_by_side import side_by_side

    pictures: dict[str, list] = {}
    captions: dict[str | None, list[tuple[str, str]]] = {}
    written: list[Path] = []
    drawn = side_by_side([partial(_drawn, sheet, folder) for sheet in plan.sheets(found, claims)])
    for paper, stem, caption in (figure for sheet in drawn for figure in sheet):
        png, svg = style.paths(folder / stem)
        written += [png, svg]
        captions.setdefault(paper, []).append((f"../figures/{png.name}", caption))
        if paper is not None:  # the page has the claims as a real table
            inlined = style.embed(svg.read_text(encoding="utf-8"), stem.replace("_", "-"), caption)
            pictures.setdefault(paper, []).append(Picture(Markup(inlined), caption))
    for slug in found.slugs:
        for path, caption in own_pictures(found, slug).items():
            inlined = style.embed(path.read_text(encoding="utf-8"), f"{slug}-{path.stem}".replace("_", "-"), caption)
            captions.setdefault(slug, []).append((f"../pictures/{slug}/{path.stem}.png", caption))
            pictures.setdefault(slug, []).append(Picture(Markup(inlined), caption))
    return pictures, captions, written


def _drawn(sheet: Callable[[], Iterator[Planned]], folder: Path) -> list[tuple[str | None, str, str]]:
    """Draw and save a sheet's figures. Returns paper, stem and caption of each."""
    from stages.report.figures import style

    made = []
    for item in sheet():
        style.save(item.figure, folder / item.stem)
        made.append((item.paper, item.stem, item.caption))
    return made


def own_pictures(found: Results, slug: str) -> dict[Path, str]:
    """SVG files that the paper's own stage drew, with their captions. Raises StageError for a missing one."""
    from stages.lib.errors import StageError

    named = {REPORTS / "pictures" / slug / f"{name}.svg": caption for name, caption in found.pictures(slug).items()}
    for path in named:
        if not path.is_file():
            raise StageError(f"{path}: missing; params/{slug}/claim.yaml names it, run the figures stage of {slug} first")
    return named


def _arms(found: Results, slug: str) -> object:
    """The arms of one paper at all its scales, one table."""
    import pandas

    return pandas.concat([summary.arms for summary in found.of(slug)], ignore_index=True)


def _remove_others(written: list[Path]) -> None:
    """Remove what an earlier report left in the folders that belong to this stage alone (a paper or figure that is
    no more).
    """
    for folder in (REPORTS / "figures", REPORTS / "papers"):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path not in written:
                path.unlink()


if __name__ == "__main__":
    main()
