"""One look for all figures, and saving them so that the same tables give the same bytes.

Colours come from seaborn's colour-blind palette (Okabe and Ito's), and no figure relies on colour alone: arms differ by
marker, verdicts are written out. Inks have fixed hex codes that `embed` turns into CSS variables, so that an inlined
SVG follows the page's light or dark theme.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import seaborn
from matplotlib import pyplot
from matplotlib.figure import Figure

from stages.lib import artifacts, statistics

INK, MUTED, LINE, PAPER = "#1f2430", "#5b6472", "#d5dae1", "#fefefe"
BAND, BAND_ALPHA = "#8899aa", 0.1  # a translucent grey suits both themes

_PALETTE = seaborn.color_palette("colorblind").as_hex()
# Yellow and pale pink vanish on white, hence the choice and its order.
COLOURS = [_PALETTE[i] for i in (0, 1, 2, 3, 4, 9, 5, 7)]
MARKERS = ["o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "8"]

VERDICT_COLOURS = {
    statistics.REPRODUCED: "#02875f",
    statistics.WITHIN_TOLERANCE: "#0171b0",
    statistics.INCONCLUSIVE: "#68707c",
    statistics.CONTRADICTED: "#c44e00",
    statistics.NOT_TESTABLE: "#a3a9b3",
}

_THEME = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--surface)"}
_THEME |= {code: f"var(--{verdict.replace(' ', '-')})" for verdict, code in VERDICT_COLOURS.items()}

_SETTINGS = {
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED, "axes.edgecolor": MUTED,
    "grid.color": LINE, "grid.linewidth": 0.8, "axes.linewidth": 0.8,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9.5,
    "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 9,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "axes.axisbelow": True, "svg.fonttype": "none", "figure.max_open_warning": 0,
}  # fmt: skip


def apply() -> None:
    """Set the look; called before every figure, since tests and notebooks may have changed it."""
    seaborn.set_theme(style="whitegrid", rc=_SETTINGS)


def arm_style(arms: list[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of every arm. The pair is fixed by the arm's place in claim.yaml, so an arm looks the same in
    all figures.
    """
    return {arm: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, arm in enumerate(arms)}


def paths(stem: Path) -> list[Path]:
    """The files of a figure: `<stem>.png` and `<stem>.svg`."""
    return [stem.with_suffix(".png"), stem.with_suffix(".svg")]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure's `paths` without dates, versions or random ids, and close it. Returns them."""
    files = paths(stem)
    metadata: list[dict[str, None]] = [{"Software": None}, {"Date": None, "Creator": None}]
    with matplotlib.rc_context({"svg.hashsalt": stem.name}):
        for path, blank in zip(files, metadata, strict=True):
            with artifacts.atomic(path) as temporary:
                figure.savefig(temporary, dpi=160, metadata=blank, format=path.suffix[1:])
    pyplot.close(figure)
    return files


def embed(svg: str, prefix: str, label: str) -> str:
    """An SVG file's text made fit for a page: no prologue, ids of its own, theme colours, a label for screen readers.

    `label` must be plain text; it is escaped here.
    """
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for code, variable in _THEME.items():
        svg = svg.replace(code, variable)
    width = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', svg)
    style = f' style="max-width:{float(width.group(1)) * 4 / 3:.0f}px"' if width else ""
    svg = re.sub(r'(<svg[^>]*?) width="[0-9.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[0-9.]+pt"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"{style}', 1)
