"""claim.yaml: what is accepted, and that every mistake is told in one line that names the key."""

from collections.abc import Callable

import pytest

from stages.lib.errors import StageError
from stages.report import schema
from tests.report import synthetic

ORIGIN = "params/alpha/claim.yaml"


def test_valid_file_is_read() -> None:
    paper = schema.parse(synthetic.claim_tree(), ORIGIN)
    assert paper.arms == list(synthetic.ARMS)
    assert [claim.margin for claim in paper.claims] == [None, 0.02, 0.02, None, None, None]


def _set(path: str, value: object) -> Callable[[dict], None]:
    """A change of one place of the tree; "a.0.b" walks lists and keys."""

    def change(tree: dict) -> None:
        *walk, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in walk:
            tree = tree[part]
        tree[last] = value

    return change


def _drop(path: str) -> Callable[[dict], None]:
    def change(tree: dict) -> None:
        *walk, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in walk:
            tree = tree[part]
        del tree[last]

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (_set("arm", ["ours"]), ["'arm'"]),
        (_drop("venue"), ["venue"]),
        (_set("year", "2020"), ["year", "2020"]),
        (_set("year", True), ["year"]),
        (_set("url", "javascript:alert(1)"), ["url"]),
        (_set("arms", "ours"), ["arms"]),
        (_set("arms", ["ours", "ours"]), ["arms"]),
        (_set("arms", []), ["arms"]),
        (_drop("arm_titles.thin"), ["arm_titles", "thin"]),
        (_drop("arm_roles.thin"), ["arm_roles", "thin"]),
        (_set("arm_roles.thin", "hero"), ["arm_roles.thin", "hero"]),
        (_set("published.0.flag", "guessed"), ["published[0].flag", "guessed"]),
        (_set("published.0.value", "six"), ["published[0].value", "six"]),
        (_set("published.0.value", float("nan")), ["published[0].value"]),
        (_set("claims.0.better", "more"), ["claims[0]", "better", "more"]),
        (_set("claims.0.kind", "main"), ["claims[0]", "kind", "main"]),
        (_set("claims.0.test", "equality"), ["claims[0]", "test"]),
        (_set("claims.0.margin", 0.1), ["claims[0]", "margin"]),
        (_drop("claims.1.margin"), ["claims[1]", "noloss", "margin"]),
        (_set("claims.1.margin", -0.1), ["claims[1]", "margin", "-0.1"]),
        (_set("claims.1.margin", 0), ["claims[1]", "margin"]),
        (_set("claims.0.scale", "small"), ["claims[0]", "'scale'"]),
        (_set("claims.0.scales", "small"), ["claims[0].scales", "small"]),
        (_set("claims.0.method_arm", "theirs"), ["before.method_arm", "theirs"]),
        (_set("claims.0.baseline_arm", "greedy"), ["before.baseline_arm", "greedy"]),  # an arm of the toy data only
        (_set("claims.1.id", "before"), ["claims", "before"]),
        (_set("claims", []), ["headline"]),
        (_set("claims.0", "text"), ["claims[0]"]),
    ],
)
def test_mistakes_are_named(change: Callable[[dict], None], names: list[str]) -> None:
    tree = synthetic.claim_tree()
    change(tree)
    with pytest.raises(StageError) as error:
        schema.parse(tree, ORIGIN)
    for name in [ORIGIN, *names]:
        assert name in str(error.value)
