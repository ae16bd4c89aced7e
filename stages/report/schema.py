"""The schema of params/<paper>/claim.yaml: what a paper claims, and how each claim is tested here.

Everything is checked when the file is read, so that a claim that cannot be tested stops the run with one line and not
with a table that lacks a row.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from stages.lib.errors import StageError

FLAGS = ("read", "computed", "recalled", "inferred")
ROLES = ("method", "ablation", "paper_baseline", "strong_baseline", "reference")
KINDS = ("headline", "mechanism")


@dataclass(frozen=True)
class Published:
    """A figure of the paper, with where it was read and how sure that reading is."""

    quantity: str
    value: float | None
    unit: str
    read_from: str
    flag: str


@dataclass(frozen=True)
class Claim:
    """One sentence under test: `method_arm` against `baseline_arm` on one metric of one data set."""

    id: str
    kind: str
    claim: str
    metric: str
    dataset: str
    better: str
    method_arm: str
    baseline_arm: str
    test: str
    scales: list[str]
    published_method: float | None = None
    published_baseline: float | None = None
    published_unit: str = ""
    read_from: str = ""
    flag: str = "read"
    margin: float | None = None


@dataclass(frozen=True)
class Paper:
    """A whole claim.yaml. `single_files` are data sets whose metrics file holds all arms at once; `generated` names
    those made by a program; `errata` gives the reasons of audited figures that do not agree, `pictures` the captions of
    those that the paper's own stage draws: reports/pictures/<paper>/<name>.{png,svg}, {scale} in a name for each scale.
    """

    title: str
    authors: str
    venue: str
    year: int
    url: str
    arms: list[str]
    arm_titles: dict[str, str]
    arm_roles: dict[str, str]
    published: list[Published]
    setting: str
    claims: list[Claim]
    dataset_titles: dict[str, str] = field(default_factory=dict)
    single_files: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    errata: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    def arm_title(self, arm: str) -> str:
        """The arm as a reader meets it (its slug when the paper gives no title)."""
        return self.arm_titles.get(arm, arm)


def parse(tree: dict, origin: str) -> Paper:
    """The checked content of a claim.yaml; `origin` is the file, named in every StageError."""
    fields = _fields(Paper, tree, origin)
    fields["published"] = [_published(row, f"{origin}: published[{i}]") for i, row in enumerate(fields["published"])]
    fields["claims"] = [_claim(row, f"{origin}: claims[{i}]") for i, row in enumerate(fields["claims"])]
    paper = Paper(**fields)
    if not paper.url.startswith(("https://", "http://")):
        raise StageError(f"{origin}: url: expected a web address, got {paper.url!r}")
    _check_arms(paper, origin)
    _check_claims(paper, origin)
    return paper


_TYPES = {
    "str": (str,), "int": (int,), "float | None": (int, float, type(None)),
    "list[str]": (list,), "list[Published]": (list,), "list[Claim]": (list,), "dict[str, str]": (dict,),
}  # fmt: skip


def _fields(kind: type, tree: object, where: str) -> dict:
    """The keyword arguments of dataclass `kind` found in `tree`: no key unknown, none missing, each of the declared
    type.
    """
    if not isinstance(tree, dict):
        raise StageError(f"{where}: expected keys and values, got {type(tree).__name__}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key in tree:
        if key not in known:
            raise StageError(f"{where}: unknown key {key!r}; known keys are {', '.join(known)}")
    for name, spec in known.items():
        if name not in tree:
            if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
                raise StageError(f"{where}: key {name!r} is missing")
            continue
        _check_type(tree[name], spec.type, f"{where}.{name}")
    return dict(tree)


def _check_type(value: object, declared: str, where: str) -> None:
    """StageError unless `value` is of the declared (annotation as text) type."""
    if not isinstance(value, _TYPES[declared]) or isinstance(value, bool):
        raise StageError(f"{where}: expected {declared}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise StageError(f"{where}: expected a finite number, got {value!r}")
    if declared == "list[str]" and not all(isinstance(item, str) for item in value):
        raise StageError(f"{where}: expected a list of names, got {value!r}")
    if declared == "dict[str, str]" and not all(isinstance(i, str) for pair in value.items() for i in pair):
        raise StageError(f"{where}: expected names and texts, got {value!r}")


def _one_of(value: str, allowed: tuple[str, ...] | list[str], where: str) -> None:
    """StageError unless `value` is allowed."""
    if value not in allowed:
        raise StageError(f"{where}: {value!r} is not one of {', '.join(allowed)}")


def _published(tree: object, where: str) -> Published:
    """One published figure."""
    row = Published(**_fields(Published, tree, where))
    _one_of(row.flag, FLAGS, f"{where}.flag")
    return row


def _claim(tree: object, where: str) -> Claim:
    """One claim, checked as far as it can be without the other keys of the file."""
    claim = Claim(**_fields(Claim, tree, where))
    where = f"{where} ({claim.id})"
    _one_of(claim.kind, KINDS, f"{where}.kind")
    _one_of(claim.better, ("higher", "lower"), f"{where}.better")
    _one_of(claim.test, ("superiority", "noninferiority"), f"{where}.test")
    _one_of(claim.flag, FLAGS, f"{where}.flag")
    if claim.test == "noninferiority" and claim.margin is None:
        raise StageError(
            f"{where}.margin: a noninferiority test needs a margin fixed beforehand, in the unit of {claim.metric}"
        )
    if claim.test == "superiority" and claim.margin is not None:
        raise StageError(f"{where}.margin: only a noninferiority test has a margin; remove it or change test")
    if claim.margin is not None and claim.margin <= 0:
        raise StageError(f"{where}.margin: expected a positive number, got {claim.margin}")
    return claim


def _check_arms(paper: Paper, origin: str) -> None:
    """Arms are unique, and each has a title and a known role."""
    if not paper.arms or len(set(paper.arms)) != len(paper.arms):
        raise StageError(f"{origin}: arms: expected one or more different names, got {paper.arms}")
    for key in ("arm_titles", "arm_roles"):
        for arm in paper.arms:
            if arm not in getattr(paper, key):
                raise StageError(f"{origin}: {key}: arm {arm!r} has no entry")
    for arm, role in paper.arm_roles.items():
        _one_of(role, ROLES, f"{origin}: arm_roles.{arm}")


def _check_claims(paper: Paper, origin: str) -> None:
    """Claims are unique, name arms that exist (a single-file data set may have arms of its own) and include a
    headline.
    """
    ids = [claim.id for claim in paper.claims]
    if len(set(ids)) != len(ids):
        raise StageError(f"{origin}: claims: ids must differ, got {', '.join(ids)}")
    if "headline" not in [claim.kind for claim in paper.claims]:
        raise StageError(f"{origin}: claims: one claim of kind headline is needed")
    for claim in paper.claims:
        for key in ("method_arm", "baseline_arm"):
            arm = getattr(claim, key)
            if arm not in paper.arm_titles or (arm not in paper.arms and claim.dataset not in paper.single_files):
                raise StageError(
                    f"{origin}: claims.{claim.id}.{key}: arm {arm!r} does not exist; arms are {', '.join(paper.arms)}"
                )
