"""Figures: what must not overlap does not, and inlined SVG cannot clash or smuggle."""

import itertools
from pathlib import Path
from unittest import mock

import pandas
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from stages.report import results, views
from stages.report.figures import picture, style, tradeoff, widths
from tests.report.conftest import inside


@pytest.fixture(scope="module")
def found(reported: Path) -> results.Results:
    with inside(reported):
        return results.load(
            [("alpha", "small"), ("beta", "small")], Path("runs"), Path("reports/costs.csv"), Path("reports/kept")
        )


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn (an axis also holds labels beyond its ends, which are not)."""
    drawn: list[Text] = []
    draw = Text.draw

    def note(self: Text, renderer: object) -> None:
        drawn.append(self)
        draw(self, renderer)

    with mock.patch.object(Text, "draw", note):
        figure.canvas.draw()
    return [item for item in drawn if item.get_visible() and item.get_text().strip()]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share an area (by more than a hair)."""
    boxes = [(item.get_text(), item.get_window_extent()) for item in texts(figure)]
    boxes = [(name, box) for name, box in boxes if box.width > 0 and box.height > 0]
    pairs = itertools.combinations(boxes, 2)
    return [
        (a, b) for (a, x), (b, y) in pairs if min(x.x1, y.x1) - max(x.x0, y.x0) > 1 and min(x.y1, y.y1) - max(x.y0, y.y0) > 1.5
    ]


def outside(figure: Figure) -> list[str]:
    """Texts that leave the figure."""
    room = figure.bbox.padded(1)
    boxes = [(item.get_text(), item.get_window_extent()) for item in texts(figure)]
    return [name for name, box in boxes if not (room.contains(box.x0, box.y0) and room.contains(box.x1, box.y1))]


def crowd(arms: pandas.DataFrame) -> tuple[pandas.DataFrame, list[str]]:
    """Fourteen arms with long titles and five MACs counts."""
    one = arms[(arms["arm"] == "ours") & arms["metric"].isin(["accuracy_before", "accuracy_after", "macs"])]
    copies = []
    for i in range(14):
        copy = one.assign(arm=f"a{i}", title=f"Arm {i} whose title needs more than a single line of text")
        macs = copy["metric"] == "macs"
        copies.append(copy.assign(mean=copy["mean"].where(~macs, copy["mean"] * (1 + max(0, i - 9) / 20))))
    return pandas.concat(copies), [f"a{i}" for i in range(14)]


def all_figures(found: results.Results) -> dict[str, Figure]:
    summary = found.summaries[0]
    patches = summary.arms[summary.arms["dataset"] == "patches"]
    layers = summary.layers
    deep = pandas.concat([layers[layers["position"] == 0].assign(layer=f"blocks.{i}.conv2", position=i) for i in range(27)])
    order, titles = summary.about["arms"], summary.about["arm_titles"]
    return {
        "claims": picture.draw(views.claim_views(found)),
        "accuracy": tradeoff.draw(patches, order),
        "many arms": tradeoff.draw(*crowd(patches)),
        "widths": widths.draw(layers, order, titles),
        "many widths": widths.draw(deep, order, titles),
    }


def test_no_text_overlaps_or_leaves_the_figure(found: results.Results) -> None:
    for name, figure in all_figures(found).items():
        assert overlaps(figure) == [], name
        assert outside(figure) == [], name


def test_each_paper_is_shown_by_its_first_headline(found: results.Results) -> None:
    claims = views.claim_views(found)
    shown = views.first_headlines(claims)
    assert [view.paper for view in shown] == list(dict.fromkeys(view.paper for view in claims))
    assert all(view.kind == "headline" for view in shown)
    rest = [view for view in claims if view.kind != "headline"]
    assert views.first_headlines(rest)[0] == rest[0]


def test_nothing_to_draw_is_no_figure(found: results.Results) -> None:
    summary = found.summaries[0]
    assert tradeoff.draw(summary.arms[summary.arms["dataset"] == "toy"], ["greedy"]) is None
    assert widths.draw(summary.layers.iloc[:0], [], {}) is None


def test_equal_macs_share_a_column() -> None:
    found = tradeoff.columns([100.0, 100.0, 100.2, 150.0, 400.0, 401.0])
    assert [column.macs for column in found] == [[100.0, 100.0, 100.2], [150.0], [400.0, 401.0]]
    places = [place for column in found for place in column.places]
    assert all(b - a >= 1 for a, b in itertools.pairwise(places))
    assert all(column.left < min(column.places) <= max(column.places) < column.right for column in found)
    assert tradeoff.columns([]) == []


def test_every_arm_has_a_look_of_its_own() -> None:
    looks = style.arm_style([f"arm{i}" for i in range(24)])
    assert len(set(looks.values())) == 24


def test_gain_points_in_the_claimed_direction(found: results.Results) -> None:
    row = next(found.claims[found.claims["id"] == "fewer"].itertuples())
    assert views.gain(row) == (304128, 304128, 304128)


def test_bars_lie_within_their_axis_in_order(found: results.Results) -> None:
    for view in views.claim_views(found):
        if view.bar is not None:
            assert 0 <= view.bar.low <= view.bar.middle <= view.bar.high <= 100
            assert 0 <= view.bar.zero <= 100


def test_embedded_svg_follows_the_theme_and_keeps_its_ids_apart(reported: Path) -> None:
    svg = (reported / "reports/figures/claims.svg").read_text()
    one, two = (style.embed(svg, prefix, 'A "label" <b>') for prefix in ("one", "two"))
    assert style.INK in svg
    assert style.INK not in one
    assert "var(--ink)" in one
    assert "<b>" not in one
    assert one.startswith("<svg")
    assert 'id="one-' in one
    assert 'id="two-' not in one
    assert one.replace("one-", "two-") == two
