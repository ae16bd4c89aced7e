"""COVID-CT (Zhao et al. 2020), or the generated sample in its layout: slices of two classes, divided by patient.

Image mode, alpha channel and file format of the publisher's images betray the class. Every image is brought to one
channel of 8 bits at one size; the manifest says how much the traces alone would have told before and after.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    import numpy

    from stages.prepare.ct_cases import Files

CLASSES = {"CT_NonCOVID": "NonCOVID", "CT_COVID": "COVID"}
GENERATED = "generated sample"
Trace = tuple[str, str, bool]  # format, mode, alpha channel


@dataclass
class Params:
    """params/dataset/covid_ct.yaml."""

    side: dict[str, int] = parameter(help="by source: rows and columns after resampling")
    val_share: float = parameter(help="share of the training patients of each class that is val, where there is no test list")
    split_seed: int = parameter(help="seed of that division")
    max_bytes: int = parameter(help="largest file that is read")
    max_pixels: int = parameter(help="largest image that is decoded, width times height")
    official: dict[str, int] = parameter(help="images of the publisher's classes")
    sample_sha256: str = parameter(help="one SHA-256 over those of the generated sample's files")


@dataclass
class Config:
    """What the stage needs."""

    ct_source: str = MISSING
    params: Params = field(default_factory=Params)


@dataclass(frozen=True)
class Slice:
    """One image of a list: where it lies, its class, patient and split."""

    path: Path
    label: int
    patient: str
    split: str


@stage(Config, files={"params": "dataset/covid_ct"})
def main(cfg: Config) -> None:
    """Read data/<source>/covid_ct and write runs/prepare/covid_ct/{train,val,test}.npz and a manifest.

    Where there are no test lists, the publisher's val is test and a share of the training patients is val.
    """
    from stages.prepare import images, provenance
    from stages.prepare.ct_cases import Files

    params, source = cfg.params, cfg.ct_source
    if not 0.0 < params.val_share < 1.0:
        raise StageError(f"params.val_share={params.val_share}: expected a share above 0 and below 1")
    files = Files(provenance.folder(source, "covid_ct"), params.max_bytes)
    slices = listed(files, params)
    refuse_shared(slices, files.root)
    read_all(files, slices, images.by_source(params.side, source, "side"), source, params)


def read_all(files: Files, slices: list[Slice], side: int, source: str, params: Params) -> None:
    """Decode all images and write the splits. Raises StageError for files of wrong origin and damaged ones."""
    import numpy

    from stages.prepare import provenance, splits

    found = [read(files, one.path, side, params.max_pixels) for one in slices]
    x = numpy.stack([pixels for pixels, _ in found])[:, None]
    y = numpy.array([one.label for one in slices], dtype=numpy.int64)
    counts = {name: int((y == label).sum()) for label, name in enumerate(CLASSES.values())}
    kind, why = origin(files.fingerprint(), counts, params)
    provenance.refuse_misplaced(provenance.EMBEDDED if kind == GENERATED else provenance.REMADE, source, files.root)
    places = {name: [i for i, one in enumerate(slices) if one.split == name] for name in ("train", "val", "test")}
    before, after = ([trace for _, trace in found], [prepared_trace(pixels) for pixels, _ in found])
    splits.write_splits(
        "covid_ct",
        {name: (x[index], y[index]) for name, index in places.items()},
        limit={},
        seed=params.split_seed,
        classes=list(CLASSES.values()),
        inputs=[],
        config={"source": source, "params": asdict(params)},
        about={
            "source": source, "root": files.root.as_posix(), "files": kind, "files_because": why,
            "sha256": files.fingerprint(), "split": "by patient",
            "patients": {name: len({slices[i].patient for i in index}) for name, index in places.items()},
            "told_by_traces": {"before": told(before, slices), "after": told(after, slices)},
            "traces": sorted({f"{'/'.join(map(str, trace))} {slices[i].label}" for i, trace in enumerate(before)}),
        },
    )  # fmt: skip


# --- lists ----------------------------------------------------------------------------------------


def listed(files: Files, params: Params) -> list[Slice]:
    """Every image of the lists with its patient and split. Raises StageError for lists that miss or repeat images."""
    owners = patients(files)
    slices: list[Slice] = []
    for label, (folder, kind) in enumerate(CLASSES.items()):
        lists = {
            split: lines(files, files.root / f"Data-split/{kind}/{split}CT_{kind}.txt") for split in ("train", "val", "test")
        }
        if not lists["train"] or not lists["val"]:
            raise StageError(f"{files.root / 'Data-split' / kind}: the lists of train and val are empty; fetch them again")
        if not lists["test"]:
            lists = {"train": lists["train"], "val": [], "test": lists["val"]}
        for split, names in lists.items():
            for name in names:
                if (name, folder) not in owners:
                    raise StageError(f"{files.root / 'patients.csv'}: names no patient for {folder}/{name}; add it")
                slices.append(Slice(files.root / "Images-processed" / folder / name, label, owners[name, folder], split))
    again = [one.path for one in slices]
    if len(set(again)) < len(again):
        twice = next(path for path in again if again.count(path) > 1)
        raise StageError(f"{twice}: is listed twice; keep it in one list")
    return slices if any(one.split == "val" for one in slices) else held_out(slices, params)


def held_out(slices: list[Slice], params: Params) -> list[Slice]:
    """The same with a share of the training patients of each class as val, at least one."""
    import numpy

    chosen: set[str] = set()
    for label in range(len(CLASSES)):
        names = sorted({one.patient for one in slices if one.label == label and one.split == "train"})
        if len(names) < 2:
            raise StageError(f"{list(CLASSES)[label]}: one training patient only; expected two or more, for train and val")
        order = numpy.random.RandomState(params.split_seed).permutation(len(names))
        chosen |= {names[i] for i in order[: max(1, round(len(names) * params.val_share))]}
    return [Slice(one.path, one.label, one.patient, "val") if one.split == "train" and one.patient in chosen else one
            for one in slices]  # fmt: skip


def lines(files: Files, path: Path) -> list[str]:
    """Names of a list in its order, without repeats (the publisher's test list has one); none if it is absent."""
    if not path.is_file():
        return []
    names = files.read(path).decode("utf-8", "replace").split("\n")
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def patients(files: Files) -> dict[tuple[str, str], str]:
    """Patient by file name and class folder, from patients.csv. Raises StageError if it lacks a column."""
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(files.read(files.root / "patients.csv").decode("utf-8-sig", "replace"))))
    if not rows or not {"file", "class", "patient_id"} <= set(rows[0]):
        raise StageError(f"{files.root / 'patients.csv'}: expected the columns file, class and patient_id")
    return {(row["file"], row["class"]): f"{row['class']} {row['patient_id']}" for row in rows}


def refuse_shared(slices: list[Slice], root: Path) -> None:
    """Raise StageError for a patient with images in two splits."""
    splits: dict[str, str] = {}
    for one in slices:
        if splits.setdefault(one.patient, one.split) != one.split:
            raise StageError(f"{root}: {one.patient} has images in {splits[one.patient]} and {one.split}; mend the lists")


# --- images ---------------------------------------------------------------------------------------


def read(files: Files, path: Path, side: int, max_pixels: int) -> tuple[numpy.ndarray, Trace]:
    """uint8 [side, side] of one image, and the traces of its file. Raises StageError for damage."""
    import numpy
    from PIL.Image import Resampling

    from stages.lib.decoding import decode, to_rgb

    image = decode(files.read(path), path, max_pixels)
    trace = (str(image.format), image.mode, image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info)
    grey = to_rgb(image).convert("L").resize((side, side), Resampling.BOX)
    return numpy.asarray(grey, dtype=numpy.uint8), trace


def prepared_trace(pixels: numpy.ndarray) -> Trace:
    """The same of a prepared image: what is left of format, mode and alpha."""
    return "array", f"{pixels.dtype.name} {pixels.ndim}", False


def told(traces: list[Trace], slices: list[Slice]) -> float:
    """Accuracy on test of the best rule that sees nothing but a trace, learned on train; balanced over the classes."""
    seen: dict[Trace, list[int]] = {}
    for trace, one in zip(traces, slices):
        if one.split == "train":
            seen.setdefault(trace, []).append(one.label)
    labels = [one.label for one in slices if one.split == "train"]
    base = sum(labels) / len(labels)
    right: dict[int, list[bool]] = {0: [], 1: []}
    for trace, one in zip(traces, slices):
        if one.split == "test":
            known = seen.get(trace)
            share = base if known is None else sum(known) / len(known)
            right[one.label].append((share > base) == bool(one.label))
    return sum(sum(found) / len(found) for found in right.values()) / len(right)


def origin(found: str, counts: dict[str, int], params: Params) -> tuple[str, str]:
    """(what the files are, why), from their hash or else their numbers."""
    from stages.prepare import provenance

    if found == params.sample_sha256:
        return GENERATED, "as pinned; no CT slices ship with any dependency"
    text = ", ".join(f"{counts[name]} of {most} {name}" for name, most in params.official.items())
    if any(counts[name] > most for name, most in params.official.items()):
        return provenance.REMADE, text
    whole = all(counts[name] == most for name, most in params.official.items())
    return (provenance.OFFICIAL if whole else "subset"), text


if __name__ == "__main__":
    main()
