"""The reader of HCVRD: box order, lists, bad annotations, splits, the drawn sample, the publisher's counts."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from statistics import median

import numpy
import pytest
import yaml

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.prepare import hcvrd, hcvrd_files, hcvrd_sets, scene_samples
from stages.prepare.hcvrd_files import Relation
from stages.prepare.image_samples import digest
from tests.prepare import photographs as helpers
from tests.prepare.photographs import ROOT, SHARED, manifest, write

REAL = SHARED / "hcvrd"
HERE = Path("file.json")


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def sample() -> dict[str, bytes]:
    return scene_samples.files()


def arrays(name: str) -> dict[str, numpy.ndarray]:
    with numpy.load(f"runs/prepare/hcvrd/{name}.npz") as found:
        return {key: found[key] for key in found.files}


def ten_images() -> dict[str, bytes]:
    """Ten images in the publisher's schema, without photographs: six for training, two for test, two in neither list."""

    def entry(subject: str, predicate: str, thing: str, top: int = 0) -> dict:
        boxes = {"sub_box": [top, 10, 40, 20], "obj_box": [top + 2, 15, 8, 10]}
        return {"subject": subject, "predicate": predicate, "object": thing, **boxes}

    words = [("man", "wearing", "hat"), ("woman", "holding", "cup")]
    seen = {str(number): [entry(*words[number % 2])] for number in range(1, 7)} | {
        "7": [entry(*words[0])],
        "8": [entry(*words[1])],
    }
    seen["3"].append(entry("woman", "wearing", "cup", 5))
    unseen = {
        str(number): [entry("man", "holding", "hat"), entry("woman", "wearing", "hat", number)] for number in (1, 7, 9, 10)
    }
    return {
        "final_data.json": json.dumps(seen).encode(), "zeroshot_data.json": json.dumps(unseen).encode(),
        "train.txt": b"1.jpg\n2.jpg\n3.jpg\n4.jpg\n5.jpg\n6.jpg", "test.txt": b"7.jpg\n8.jpg\n",
        "long_tail_indexes.mat": scene_samples.annotations(scene_samples.World({("man", "a", "b"): 3}, []), {})["long_tail_indexes.mat"],
    }  # fmt: skip


def changed(contents: dict[str, bytes], name: str, change) -> dict[str, bytes]:
    tree = json.loads(contents[name])
    change(tree)
    return contents | {name: json.dumps(tree).encode()}


def prepare(contents: dict[str, bytes], source: str = "publisher", *more: str) -> None:
    write(Path("data") / source / "hcvrd", contents)
    hcvrd.main([f"relation_source={source}", *more])


def refused(capsys, contents: dict[str, bytes], *more: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        prepare(contents, "publisher", "params.dropped.publisher=0", *more)
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.startswith("error: ") and text.count("\n") == 1
    assert not Path("runs/prepare/hcvrd/manifest.json").exists()
    return text


# --- the files ------------------------------------------------------------------------------------


def test_boxes_are_top_left_height_width():
    assert hcvrd_files.corners((5, 7, 20, 10)) == (7, 5, 17, 25)
    x1, y1, x2, y2 = hcvrd_files.corners((5, 7, 20, 10))
    assert (y1, x1, y2 - y1, x2 - x1) == (5, 7, 20, 10)


def test_lists_may_lack_the_last_newline():
    assert hcvrd_files.read_ids(b"1.jpg\n23.jpg", HERE) == hcvrd_files.read_ids(b"1.jpg\n23.jpg\n", HERE) == [1, 23]
    for content, said in (
        (b"1.jpg\n1.jpg", "twice"),
        (b"1.png", "line 1"),
        (b"1", "line 1"),
        (b"x.jpg", "expected <image id>"),
    ):
        with pytest.raises(StageError, match=said):
            hcvrd_files.read_ids(content, HERE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "list of annotations"),
        (b'{"1.jpg": []}', "image id"),
        (b'{"1": [{"subject": "man"}]}', "lacks a key"),
        (
            b'{"1": [{"subject": 3, "predicate": "a", "object": "b", "sub_box": [0,0,1,1], "obj_box": [0,0,1,1]}]}',
            "subject is 3",
        ),
        (b'{"1": [{"subject": "s", "predicate": "a", "object": "b", "sub_box": [0,0,1], "obj_box": [0,0,1,1]}]}', "four whole"),
        (
            b'{"1": [{"subject": "s", "predicate": "a", "object": "b", "sub_box": [0,0,1,1.5], "obj_box": [0,0,1,1]}]}',
            "four whole",
        ),
        (b'{"1": [', "cut short"),
    ],
)
def test_another_schema_is_refused(content, said):
    with pytest.raises(StageError, match=said):
        hcvrd_files.read_relations(content, HERE)


def test_faults_of_boxes_and_repeated_annotations():
    box = (0, 0, 4, 4)
    good = Relation(1, "man", "on", "box", box, (1, 1, 3, 3))
    found = hcvrd_files.faults(
        [good, Relation(1, "man", "on", "box", (0, 0, 0, 4), box), Relation(1, "man", "on", "box", box, (-1, 0, 4, 4)),
         Relation(1, "man", "on", "box", box, (8, 0, 3, 4)), Relation(2, "man", "on", "box", box, (8, 0, 3, 4)), good],
        {1: (10, 10)},
    )  # fmt: skip
    assert set(found) == {1, 2, 3, 5}  # 4 lies in an image of unknown size
    assert "no area" in found[1] and "outside" in found[2] and "10 x 10" in found[3] and "second time" in found[5]


def test_counts_of_images_say_which_they_are():
    unseen = [Relation(number, "man", "on", "box", (0, 0, 1, 1), (0, 0, 1, 1)) for number in (1, 1, 3, 9)]
    found = hcvrd_files.statistics(unseen, [1, 2], [3, 4])
    assert found["images overall, lists added"] == 2 + 4 and found["images overall, each once"] == 5
    assert found["zero-shot triplets with 4 relations"] == 1 and found["zero-shot images in train"] == 1
    assert found["zero-shot relations in train"] == 2 and found["zero-shot relations in neither"] == 1


# --- the stage ------------------------------------------------------------------------------------


def test_ten_images_of_the_publishers_kind(project):
    prepare(ten_images(), "publisher", "params.val_every=6", "params.val_labels_every=2")
    about = manifest("hcvrd")
    assert about["files"] == "subset" and about["about"]["absent"] == ["images.zip"] and not about["about"]["dropped"]
    assert about["labels"] == {"seen": 3, "val": 1, "test": 1}
    labels, test = arrays("labels"), arrays("test")
    assert about["classes"][:3] == ["man wearing hat", "woman holding cup", "woman wearing cup"]
    assert labels["kind"].tolist() == [0, 0, 0, 2, 1] and labels["count"][3:].tolist() == [0, 0]
    # Test: its own images 7 and 8, and those of its zero-shot label: 1 (whose annotation gives boxes only), 9 and 10.
    assert test["ids"].tolist() == [1, 7, 8, 9, 10] and test["listed"].tolist() == [1, 2, 2, 0, 0]
    roles = {int(number): sorted(test["role"][test["ids"][test["image"]] == number].tolist()) for number in test["ids"]}
    assert roles == {1: [1, 2, 2], 7: [0, 1, 2], 8: [0], 9: [1, 2], 10: [1, 2]}
    assert test["sub_box"][0].tolist() == [10, 0, 30, 40]


def test_validation_never_takes_a_labels_last_instance(project):
    prepare(ten_images(), "publisher", "params.val_every=2")
    train, val = arrays("train"), arrays("val")
    assert arrays("labels")["count"][:3].min() >= 1
    own = set(val["ids"][numpy.unique(val["image"][val["role"] == 0])].tolist())
    assert own == {1, 5} and not own & set(train["ids"].tolist())  # 3 holds the only "woman wearing cup"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("final_data.json", lambda tree: tree["2"][0].update(sub_box=[0, 0, 0, 5]), "image 2: man wearing hat: sub_box"),
        ("zeroshot_data.json", lambda tree: tree["9"][0].update(obj_box=[-1, 0, 5, 5]), "outside the image"),
        ("final_data.json", lambda tree: tree.pop("4"), "image 4 is listed"),
        ("final_data.json", lambda tree: tree["5"].append(tree["5"][0]), "second time"),
        ("zeroshot_data.json", lambda tree: tree["9"][0].update(predicate="eating"), "unknown predicate"),
        ("zeroshot_data.json", lambda tree: tree["9"][0].update(predicate="wearing"), "not zero-shot"),
        ("final_data.json", lambda tree: tree["7"][0].update(object="cup"), "no training image has this label"),
        ("final_data.json", lambda tree: tree.update({"77": tree["5"]}), "in neither list"),
    ],
)
def test_bad_annotations_are_named_or_dropped(project, capsys, name, change, said):
    contents = changed(ten_images(), name, change)
    assert said in refused(capsys, contents)
    prepare(contents, "publisher", "params.dropped.publisher=0.5")
    dropped = manifest("hcvrd")["about"]["dropped"]
    assert len(dropped) >= 1 and any(said in line for line in dropped)


def test_damaged_files_are_named(project, capsys, sample):
    contents = ten_images()
    assert "train.txt" in refused(capsys, contents | {"train.txt": b"1.jpg\n2.gif"})
    assert "image 1 is in train.txt and test.txt" in refused(capsys, contents | {"test.txt": b"7.jpg\n8.jpg\n1.jpg"})
    assert "long_tail" in refused(capsys, contents | {"long_tail_indexes.mat": b"nothing"})
    assert "archive is damaged" in refused(capsys, contents | {"web.zip": b"PK nothing"})
    few = scene_samples.archive({"truth.csv": b"query\n"})
    assert "a sheet of images for every label" in refused(capsys, contents | {"web.zip": few})
    assert "pixels; expected 12 x 12" in refused(capsys, sample, "params.side.publisher=12")
    assert "annotated, but in no archive" in refused(
        capsys, sample | {"images.zip": scene_samples.archive({})}, "params.side.publisher=40"
    )


def test_the_sample_under_another_name_is_refused_and_the_real_files_may_be_few(project, capsys, sample):
    assert "embedded sample" in refused(capsys, sample)
    with pytest.raises(SystemExit):
        hcvrd.main(["relation_source=publisher", "params.sheet=[0,6]"])
    assert "params.sheet" in capsys.readouterr().err


def test_the_drawn_sample(project, sample):
    pinned = yaml.safe_load((ROOT / "params/dataset/hcvrd.yaml").read_text())["sample_sha256"]
    assert digest(sample) == pinned and not sample["train.txt"].endswith(b"\n")
    prepare(sample, "sample")
    about, labels, web = manifest("hcvrd"), arrays("labels"), arrays("web")
    assert about["files"] == "generated sample" and not about["about"]["dropped"]
    train, val, test = (arrays(name) for name in ("train", "val", "test"))
    seen, unseen = labels["kind"] == 0, labels["kind"] > 0
    # Zero-shot labels have no training instance, but all their words have; most seen ones are rare.
    assert (labels["count"][seen] >= 1).all() and (labels["count"][unseen] == 0).all()
    for part in range(3):
        assert set(labels["triplets"][unseen, part]) <= set(labels["triplets"][seen, part])
    assert 0.6 < (labels["count"][seen] < about["tail_below"]).mean() < 0.9
    assert not set(labels["triplets"][labels["kind"] == 1, 0]) - set(range(3))
    for part, kind in ((val, 1), (test, 2)):
        asked = part["label"][part["role"] == 1]
        assert set(labels["kind"][asked]) == {kind}
        assert set(labels["kind"][part["label"][part["role"] == 0]]) == {0}
    own = set(val["ids"][val["image"][val["role"] == 0]]) | set(test["ids"][test["image"][test["role"] == 0]])
    assert not own & set(train["ids"].tolist())
    for part in (train, val, test):  # corners inside the images
        for name in ("sub_box", "obj_box"):
            assert (part[name][:, :2] >= 0).all() and (part[name][:, 2:] <= 40).all()
            assert (part[name][:, 2:] > part[name][:, :2]).all()
    assert web["x"].shape == (len(labels["kind"]), 24, 3, 32, 32)
    spoiled = (web["shown"] != numpy.arange(len(web["shown"]))[:, None]).mean()
    assert 0.3 < spoiled < 0.4
    before = Path("runs/prepare/hcvrd/web.npz").read_bytes()
    hcvrd.main([])
    assert Path("runs/prepare/hcvrd/web.npz").read_bytes() == before
    assert artifacts.verify_manifest("runs/prepare/hcvrd/manifest.json")["sha256"] == pinned


def test_drawn_things_lie_where_their_predicate_says(sample):
    relations = hcvrd_files.read_relations(sample["final_data.json"], HERE)
    for predicate, low, high in (("wearing", 0.0, 0.35), ("above", 0.7, 1.6), ("under", -1.0, 0.2)):
        chosen = [one for one in relations if one.predicate == predicate]
        assert low <= median(hcvrd_files.part_heights(chosen, {one.object for one in chosen})) <= high, predicate


def test_a_predicates_place_does_not_depend_on_the_object(monkeypatch):
    person, thrown = (30, 40, 17, 8), []
    for predicate in scene_samples.PREDICATES:
        boxes = {scene_samples.box_of(("man", predicate, name), person, numpy.random.RandomState(3), 99)
                 for name in scene_samples.OBJECTS}  # fmt: skip
        assert len(boxes) == 1, predicate
    monkeypatch.setattr(scene_samples.drawing, "draw_object", lambda image, box, number: thrown.append(number))
    for seed in range(50):
        scene_samples.distract(numpy.zeros((40, 40, 3)), numpy.random.RandomState(seed), [("man", "on", "ball")])
    assert 0 < len(thrown) <= 100 and scene_samples.OBJECTS.index("ball") not in thrown  # only others distract


def test_archives_are_those_of_visual_genome(sample):
    for name, folder in (("images.zip", "VG_100K/"), ("images2.zip", "VG_100K_2/")):
        with zipfile.ZipFile(io.BytesIO(sample[name])) as archive:
            assert all(entry.startswith(folder) and entry.endswith(".jpg") for entry in archive.namelist())
    assert hcvrd_sets.read_images([sample["images.zip"], None], 0, HERE) == {}


# --- the publisher's files ------------------------------------------------------------------------

real = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/hcvrd")


@real
def test_counts_of_the_publishers_files():
    """The lists are whole; of the zero-shot annotations every fifth image was removed, the first included."""
    lists = [hcvrd_files.read_ids((REAL / f"{name}.txt").read_bytes(), REAL / f"{name}.txt") for name in ("train", "test")]
    content = (REAL / "zeroshot_data.json").read_bytes()
    unseen = hcvrd_files.read_relations(content, REAL / "zeroshot_data.json")
    found = hcvrd_files.statistics(unseen, *lists)
    assert (found["train images"], found["test images"], found["train and test images"]) == (31586, 10000, 0)
    official = yaml.safe_load((ROOT / "params/dataset/hcvrd.yaml").read_text())["official"]
    assert found["zero-shot images"] == 11424 == official["zero-shot images"] * 4 // 5
    # A subset of four fifths by image: relations and multiplicities near their share of the whole, never more than it.
    assert found["zero-shot relations"] == 16720 and abs(16720 / 20851 - 0.8) < 0.005
    assert found["zero-shot subjects"] == 6 and found["zero-shot predicates"] <= 820 and found["zero-shot objects"] <= 1636
    assert 0.78 < found["zero-shot triplets"] / 18471 < 0.85 and found["zero-shot pairs of predicate and object"] < 14549
    for kind, images, relations in (("train", 9522, 14167), ("test", 3011, 4486), ("neither", 1747, 2198)):
        assert abs(found[f"zero-shot images in {kind}"] / images - 0.8) < 0.02, kind
        assert abs(found[f"zero-shot relations in {kind}"] / relations - 0.8) < 0.02, kind
    whole = {"man": 7663, "woman": 5094, "person": 2767, "boy": 2126, "girl": 1814, "child": 1387}
    assert {name: found[f"zero-shot relations of {name}"] for name in whole}.keys() == whole.keys()
    assert all(abs(found[f"zero-shot relations of {name}"] / count - 0.8) < 0.02 for name, count in whole.items())
    assert found["images overall, each once"] == 31586 + 10000 + found["zero-shot images in neither"]
    tail = hcvrd_files.read_tail((REAL / "long_tail_indexes.mat").read_bytes(), REAL / "long_tail_indexes.mat")
    assert (len(tail), min(tail), max(tail)) == (7474, 0, 9850)
    assert hcvrd_files.faults(unseen, {}) == {}


@real
def test_only_top_left_height_width_puts_hats_on_heads():
    unseen = hcvrd_files.read_relations((REAL / "zeroshot_data.json").read_bytes(), REAL / "zeroshot_data.json")
    assert median(hcvrd_files.part_heights(unseen, {"hat", "head", "hair", "cap", "helmet"})) == pytest.approx(0.15, abs=0.05)
    assert median(hcvrd_files.part_heights(unseen, {"shoe", "shoes", "boots", "sneakers"})) == pytest.approx(0.91, abs=0.05)
    tall = median(one.sub_box[2] / one.sub_box[3] for one in unseen)
    assert 1.4 < tall < 2.1  # persons stand


@real
@pytest.mark.slow
def test_the_publishers_files_are_a_subset(project):
    write(Path("data/publisher/hcvrd"), {path.name: path.read_bytes() for path in REAL.iterdir() if path.suffix != ".md"})
    hcvrd.main(["relation_source=publisher"])
    about = manifest("hcvrd")
    assert about["files"] == "subset" and about["about"]["absent"] == ["final_data.json", "images.zip"]
    assert about["labels"]["seen"] == 0 and about["labels"]["val"] + about["labels"]["test"] == 15150
    assert about["counts"]["test"] > 9000 // 2
