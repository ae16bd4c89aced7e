"""ImageNet's reader: the publisher's layouts, odd and damaged files, refusals, what it says of completeness."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.prepare import image_samples, imagenet, images, samples
from stages.prepare.imagenet_devkit import META, TRUTH, read_devkit

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/imagenet-sample"
KIT = "ILSVRC2012_devkit_t12"
PREPARED = Path("runs/prepare/imagenet")


@pytest.fixture(scope="module")
def embedded() -> dict[str, bytes]:
    """The embedded sample, by path."""
    return image_samples.imagenet(samples.photographs())


@pytest.fixture
def project(tmp_path, monkeypatch, embedded):
    """A root with params and the embedded sample."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    monkeypatch.chdir(tmp_path)
    write(Path("data/sample/imagenet"), embedded)
    return tmp_path


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def photo(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """A JPEG file of smooth noise."""
    pixels = numpy.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def publisher(flat: bool = False) -> Path:
    """Two classes, four training and two validation images each, in the publisher's layout."""
    ids = {"n01440764": 2, "n01443537": 1}
    files = {f"train/{wnid}/{wnid}_{i}.JPEG": photo(10 * k + i) for k, wnid in enumerate(ids) for i in range(4)}
    for number in range(4):
        wnid = list(ids)[number % 2]
        folder = "val" if flat else f"val/{wnid}"
        files[f"{folder}/ILSVRC2012_val_{number + 1:08d}.JPEG"] = photo(100 + number)
    if flat:
        files[f"{KIT}/{META}"] = image_samples.meta_mat(ids, {wnid: wnid for wnid in ids}, dict.fromkeys(ids, 4))
        files[f"{KIT}/{TRUTH}"] = b"2\n1\n2\n1\n"
    return write(Path("data/publisher/imagenet"), files)


def run(*arguments: str) -> None:
    """Run the stage, on the publisher's files and with a quarter held out unless the arguments say otherwise."""
    usual = {"image_source": "publisher", "params.val_share.publisher": "0.25"}
    imagenet.main([f"{key}={value}" for key, value in (usual | dict(item.split("=", 1) for item in arguments)).items()])


def prepare(*arguments: str) -> list[dict[str, str]]:
    """Run the stage; returns the index."""
    run(*arguments)
    return index()


def index() -> list[dict[str, str]]:
    with (PREPARED / "index.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def manifest() -> dict:
    return artifacts.verify_manifest(PREPARED / "manifest.json")


def fails(capsys, *arguments: str) -> str:
    """Run the stage, expect status 1 and one line; return it."""
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    err = capsys.readouterr().err
    assert end.value.code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (PREPARED / "manifest.json").exists()
    return err


# --- the embedded sample --------------------------------------------------------------------------


def test_the_sample_is_indexed_with_its_odd_files(project):
    imagenet.main([])
    about, rows = manifest(), index()
    assert (about["files"], about["source"], about["root"]) == ("embedded sample", "sample", "data/sample/imagenet")
    assert about["counts"] == {"train": 120, "val": 40, "test": 80}
    assert about["about"]["modes"] == {"CMYK": 1, "L": 2, "RGB": 237}
    assert about["about"]["formats"] == {"JPEG": 239, "PNG": 1}
    for row in rows:
        content = (Path(about["root"]) / row["path"]).read_bytes()
        image = Image.open(io.BytesIO(content))
        assert (int(row["width"]), int(row["height"]), row["mode"], row["format"]) == (*image.size, image.mode, image.format)
        assert (int(row["bytes"]), row["sha256"]) == (len(content), artifacts.sha256(Path(about["root"]) / row["path"]))
        assert about["classes"][int(row["label"])] == row["class"]
    assert about["words"]["n90000001"] == "astronaut"


def test_flat_validation_images_get_the_photograph_they_were_cut_from(project):
    """The development kit's numbers run against the order of the wnids; the bytes tell whether they were followed."""
    imagenet.main([])
    found = samples.photographs()
    origin = {
        image_samples.jpeg(piece): name
        for name in found
        for _, _, piece in image_samples.pieces(found[name], derive_seed(image_samples.SEED, name))
    }
    words = manifest()["words"]
    tested = [row for row in index() if row["split"] == "test"]
    assert len(tested) == 80
    for row in tested:
        assert origin[(Path("data/sample/imagenet") / row["path"]).read_bytes()] == words[row["class"]]


def test_the_same_bytes_for_any_number_of_threads(project):
    imagenet.main([])
    first = {item.name: item.read_bytes() for item in PREPARED.iterdir()}
    imagenet.main(["threads=3"])
    assert {item.name: item.read_bytes() for item in PREPARED.iterdir()} == first
    assert not list(Path("runs").rglob("*.jsonl"))


def test_splits_are_balanced_and_disjoint(project):
    imagenet.main([])
    rows = index()
    assert set(Counter((row["split"], row["class"]) for row in rows if row["split"] == "val").values()) == {4}
    assert {row["split"] for row in rows if row["path"].startswith("val/")} == {"test"}
    assert len({row["path"] for row in rows}) == len(rows) == 240


def test_a_changed_sample_is_refused(project, capsys):
    path = next(Path("data/sample/imagenet/val").iterdir())
    path.write_bytes(photo())
    assert "samples" in fails(capsys, "image_source=sample")


def test_the_sample_is_not_taken_for_the_publishers(project, capsys):
    shutil.copytree("data/sample/imagenet", "data/publisher/imagenet")
    assert "embedded sample" in fails(capsys)


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
def test_both_layouts_of_val_give_the_same_classes(project, capsys, flat):
    publisher(flat)
    rows = prepare()
    assert [row["class"] for row in rows if row["split"] == "test"] == (
        ["n01440764", "n01443537"] * 2 if flat else ["n01440764"] * 2 + ["n01443537"] * 2
    )
    by_number = {row["path"][-6]: row["class"] for row in rows if row["split"] == "test"}
    assert by_number == {"1": "n01440764", "2": "n01443537", "3": "n01440764", "4": "n01443537"}
    about = manifest()
    assert (about["files"], about["counts"]) == ("subset", {"train": 6, "val": 2, "test": 4})
    assert "2 classes, 8 + 4 images of 1000 classes, 1281167 + 50000" in capsys.readouterr().out


def test_numbers_of_images_make_a_set_official(project):
    root = publisher(flat=True)
    sizes = ["params.official.classes=2", "params.official.train=8", "params.official.val=4"]
    prepare(*sizes, "params.official.train_per_class=4", "params.official.val_per_class=2")
    assert manifest()["files"] == "official"
    (root / "train/n01440764/n01440764_9.JPEG").write_bytes(photo(77))
    (root / "train/n01443537/n01443537_0.JPEG").unlink()  # the total is right, a class is not
    prepare(*sizes, "params.official.train_per_class=9", "params.official.val_per_class=2")
    about = manifest()
    assert about["files"] == "re-made"  # meta.mat says 4 images for n01440764
    assert "n01440764" in about["files_because"]


def test_more_images_than_officially_are_not_official(project):
    publisher()
    prepare("params.official.train=7")
    assert manifest()["files"] == "re-made"
    prepare("params.official.val_per_class=1")
    assert manifest()["files"] == "re-made"


def test_a_known_odd_file_that_is_not_odd_tells_a_copy_encoded_again(project):
    publisher()
    prepare("params.known_cmyk=[n01440764_0.JPEG]")
    assert manifest()["files"] == "re-made"
    assert "n01440764_0.JPEG is JPEG RGB, not CMYK" in manifest()["files_because"]
    Path("data/publisher/imagenet/train/n01440764/n01440764_0.JPEG").write_bytes(photo(mode="CMYK"))
    prepare("params.known_cmyk=[n01440764_0.JPEG]")
    assert manifest()["files"] == "subset"


def test_the_known_list_is_that_of_22_and_one():
    params = yaml.safe_load((ROOT / "params/dataset/imagenet.yaml").read_text())
    assert len(set(params["known_cmyk"])) == 22
    assert params["known_png"] == ["n02105855_2933.JPEG"]


def test_other_files_are_ignored_and_said(project, capsys):
    root = publisher()
    for name in ("train/n01440764/notes.txt", "train/n01440764/.hidden.JPEG", "train/.DS_Store", "val/readme"):
        (root / name).write_text("x")
    (root / "train/n01443537/deeper").mkdir()
    prepare()
    assert manifest()["about"]["ignored"] == [
        "train/n01440764/.hidden.JPEG",
        "train/n01440764/notes.txt",
        "train/n01443537/deeper",
        "val/readme",
    ]
    assert "ignored: 4 files" in capsys.readouterr().out


def test_repeated_images_are_counted(project):
    root = publisher()
    shutil.copy(root / "train/n01440764/n01440764_0.JPEG", root / "train/n01443537/n01443537_8.JPEG")
    shutil.copy(root / "train/n01440764/n01440764_1.JPEG", root / "val/n01440764/ILSVRC2012_val_00000001.JPEG")
    prepare()
    assert manifest()["about"]["repeated"] == {"train": 1, "val": 0, "train_and_val": 1}


def test_symbolic_links_into_a_shared_store_are_followed(project):
    store = publisher().rename("store")
    Path("data/publisher/imagenet").mkdir()
    for part in ("train", "val"):
        Path("data/publisher/imagenet", part).symlink_to((store / part).resolve())
    assert len(prepare()) == 12


# --- damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 2, 100, 0.3, 0.6, 0.9, -40])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_images_are_named(project, capsys, cut, progressive):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photo(size=(160, 120)))).save(buffer, "JPEG", progressive=progressive, quality=95)
    content = buffer.getvalue()
    root = publisher()
    (root / "train/n01440764/n01440764_2.JPEG").write_bytes(content[: int(cut * len(content)) if 0 < cut < 1 else cut])
    assert "train/n01440764/n01440764_2.JPEG" in fails(capsys)


def test_a_listed_damaged_file_is_left_out_and_said(project, capsys):
    root = publisher()
    (root / "train/n01440764/n01440764_2.JPEG").write_bytes(b"\xff\xd8\xff\xe0 no image")
    rows = prepare("params.damaged=[n01440764_2.JPEG]")
    assert len(rows) == 11
    assert manifest()["about"]["left_out"] == ["train/n01440764/n01440764_2.JPEG"]
    assert "n01440764_2.JPEG" in capsys.readouterr().out
    (root / "train/n01440764/n01440764_2.JPEG").write_bytes(photo())
    assert len(prepare("params.damaged=[n01440764_2.JPEG]")) == 12  # listed but whole


def test_several_damaged_files_are_counted(project, capsys):
    root = publisher()
    for number in range(3):
        (root / f"train/n01440764/n01440764_{number}.JPEG").write_bytes(b"")
    err = fails(capsys)
    assert "n01440764_0.JPEG: empty" in err
    assert "2 more" in err
    (root / "train/n01440764/n01440764_3.JPEG").write_bytes(b"")
    damaged = "params.damaged=[" + ",".join(f"n01440764_{number}.JPEG" for number in range(4)) + "]"
    assert "every image of class n01440764" in fails(capsys, damaged)


def test_corrupt_exif_is_passed_over(project, recwarn):
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\x7f\x06" * 3
    content = photo()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    root = publisher()
    (root / "train/n01440764/n01440764_0.JPEG").write_bytes(content[:2] + segment + content[2:])
    assert len(prepare()) == 12


def test_limits_are_checked_before_decoding(project, capsys):
    publisher()
    assert "max_bytes" in fails(capsys, "params.max_bytes=100")
    assert "40 x 30" in fails(capsys, "params.max_pixels=1199")
    bomb = photo(size=(16, 16))
    place = bomb.index(b"\xff\xc0") + 5  # height and width in the frame header
    bomb = bomb[:place] + b"\xff\xdc\xff\xdc" + bomb[place + 4 :]
    Path("data/publisher/imagenet/train/n01440764/n01440764_0.JPEG").write_bytes(bomb)
    assert "n01440764_0.JPEG" in fails(capsys)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "EPS"])
def test_only_jpeg_and_png_are_decoded(project, capsys, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    (publisher() / "train/n01440764/n01440764_0.JPEG").write_bytes(buffer.getvalue())
    assert "neither JPEG nor PNG" in fails(capsys)


def test_a_dangling_link_and_a_folder_named_as_an_image_are_named(project, capsys):
    root = publisher()
    (root / "train/n01440764/n01440764_7.JPEG").symlink_to("nowhere")
    assert "n01440764_7.JPEG: cannot be read" in fails(capsys)
    (root / "train/n01440764/n01440764_7.JPEG").unlink()
    (root / "train/n01440764/n01440764_7.JPEG").mkdir()
    assert "n01440764_7.JPEG: cannot be read" in fails(capsys)


# --- wrong layouts --------------------------------------------------------------------------------


def test_missing_and_unknown_folders_are_named(project, capsys):
    assert "data/publisher/imagenet" in fails(capsys)
    root = publisher()
    (root / "train/n01440764").rename(root / "away")
    assert "train/n01440764: not found" in fails(capsys)
    (root / "train/n01440764").mkdir()
    assert "train/n01440764: holds no image" in fails(capsys)
    (root / "train/n01440764").rmdir()
    (root / "away").rename(root / "train/tench")
    assert "train/tench: not a class" in fails(capsys)
    (root / "train/tench").rename(root / "train/n01440764")
    shutil.rmtree(root / "val/n01440764")
    assert "no image of class n01440764" in fails(capsys)
    shutil.rmtree(root / "val")
    assert "val: not found" in fails(capsys)
    shutil.rmtree(root / "train")
    assert "train: not found" in fails(capsys)


def test_images_in_the_wrong_place_are_named(project, capsys):
    root = publisher()
    moved = root / "train/n01443537/n01440764_9.JPEG"
    moved.write_bytes(photo(50))
    assert "n01440764_9.JPEG" in fails(capsys)
    moved.unlink()
    shutil.copy(root / "val/n01440764/ILSVRC2012_val_00000001.JPEG", root / "val/n01443537")
    assert "the same name" in fails(capsys)
    (root / "val/n01443537/ILSVRC2012_val_00000001.JPEG").unlink()
    (root / "val/ILSVRC2012_val_00000009.JPEG").write_bytes(photo(51))
    assert "not both" in fails(capsys)


def test_a_flat_val_needs_the_kit_and_labels_for_every_name(project, capsys):
    root = publisher(flat=True)
    (root / "val/ILSVRC2012_val_00000005.JPEG").write_bytes(photo(51))
    assert "ILSVRC2012_val_00000005.JPEG" in fails(capsys)
    (root / "val/ILSVRC2012_val_00000005.JPEG").rename(root / "val/other.JPEG")
    assert "other.JPEG" in fails(capsys)
    (root / "val/other.JPEG").unlink()
    shutil.rmtree(root / KIT)
    assert "meta.mat" in fails(capsys)


def test_folders_that_contradict_the_kit_are_refused(project, capsys):
    root = publisher(flat=True)
    for number, wnid in enumerate(("n01440764", "n01443537", "n01443537", "n01440764"), 1):  # 3 and 4 swapped
        (root / "val" / wnid).mkdir(exist_ok=True)
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (root / "val" / name).rename(root / "val" / wnid / name)
    assert "move it to val/" in fails(capsys)


def test_a_class_that_the_kit_lacks_is_unknown(project, capsys):
    root = publisher(flat=True)
    write(root, {"train/n99999999/n99999999_0.JPEG": photo()})
    assert "n99999999: unknown wnid" in fails(capsys)


@pytest.mark.parametrize(
    ("truth", "told"),
    [
        (b"2\n1\n3\n1\n", "line 3"),
        (b"2\n1\n0\n1\n", "line 3"),
        (b"2\n\n1\n1\n", "line 2"),
        (b"2\n1\n\xff\n1\n", "line 3"),
        (b"2\n1\n-1\n", "line 3"),
        (b"", "no label"),
    ],
)
def test_wrong_ground_truth_is_named_by_line(project, capsys, truth, told):
    (publisher(flat=True) / KIT / TRUTH).write_bytes(truth)
    assert told in fails(capsys)


def test_wrong_meta_is_refused(project, capsys):
    from scipy.io import savemat

    path = publisher(flat=True) / KIT / META
    content = path.read_bytes()
    for cut in (0, 60, 200, len(content) // 2):
        path.write_bytes(content[:cut])
        assert "meta.mat" in fails(capsys)
    savemat(path, {"synsets": numpy.zeros(3)})
    assert "lacks the field" in fails(capsys)
    savemat(path, {"other": 1})
    assert "meta.mat" in fails(capsys)
    twice = image_samples.meta_mat({"n01440764": 1, "n01443537": 1}, {"n01440764": "a", "n01443537": "b"}, dict.fromkeys(("n01440764", "n01443537"), 4))  # fmt: skip
    path.write_bytes(twice)
    assert "distinct" in fails(capsys)
    names = ("../../etc", "n01443537")
    path.write_bytes(image_samples.meta_mat({names[0]: 1, names[1]: 2}, dict.fromkeys(names, "a"), dict.fromkeys(names, 4)))
    assert "distinct" in fails(capsys)


def test_meta_keeps_leaves_only(tmp_path):
    ids = {"n01440764": 2, "n01443537": 1, "n02000000": 3}
    write(
        tmp_path,
        {str(META): image_samples.meta_mat(ids, {w: f"{w}, x" for w in ids}, dict.fromkeys(ids, 7)), str(TRUTH): b"3\n"},
    )
    kit = read_devkit(tmp_path)
    assert kit.wnids == {1: "n01443537", 2: "n01440764", 3: "n02000000"}
    assert kit.words["n01443537"] == "n01443537, x"
    assert set(kit.train.values()) == {7}
    assert kit.truth == [3]


@pytest.mark.parametrize("name", ["", ".", "..", "../x.JPEG", "/etc/passwd", "a\\b", "a\nb", "\udcff.JPEG", "C:x"])
def test_paths_are_no_file_names(name):
    with pytest.raises(StageError, match="list"):
        images.safe_name(name, "list")


def test_bad_parameters_are_named(project, capsys):
    publisher()
    assert "between 0 and 1" in fails(capsys, "params.val_share.publisher=1")
    assert "1 or more" in fails(capsys, "params.max_bytes=0")
    assert "without an image in val" in fails(capsys, "params.val_share.publisher=0.01")


# --- a killed run ---------------------------------------------------------------------------------


def test_a_second_run_reads_only_what_is_new_or_changed(project, monkeypatch, capsys):
    root = publisher()
    monkeypatch.setattr(images, "CHUNK", 3)
    (root / "val/n01440764/ILSVRC2012_val_00000001.JPEG").write_bytes(b"damaged")
    fails(capsys)
    with images.scratch("imagenet").open("a") as handle:
        handle.write('\n["train/n01440764/n0144')  # the end of a killed run
    (root / "val/n01440764/ILSVRC2012_val_00000001.JPEG").write_bytes(photo(3))
    read = []
    inspect_file = images.inspect_file
    monkeypatch.setattr(images, "inspect_file", lambda path, limits: read.append(path.name) or inspect_file(path, limits))
    resumed = prepare()
    assert read == ["ILSVRC2012_val_00000001.JPEG"]
    assert not images.scratch("imagenet").exists()
    assert prepare() == resumed
    assert len(read) == 13  # nothing is remembered once the result is written


def test_scratch_of_other_limits_is_not_used(project, monkeypatch, capsys):
    root = publisher()
    monkeypatch.setattr(images, "CHUNK", 3)
    (root / "val/n01440764/ILSVRC2012_val_00000001.JPEG").write_bytes(b"damaged")
    fails(capsys)
    assert "40 x 30" in fails(capsys, "params.max_pixels=1199")
    images.scratch("imagenet").write_text("garbage")
    assert "neither" in fails(capsys)


def test_an_unwritable_output_is_one_line(project, capsys):
    publisher()
    PREPARED.parent.mkdir(parents=True)
    PREPARED.write_text("in the way")
    with pytest.raises(SystemExit):
        run()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "runs/prepare/imagenet" in err


# --- the publisher's files ------------------------------------------------------------------------


def test_real_photographs_of_ilsvrc(project, capsys):
    """40 full-size images, arranged in class folders: one a class, so each is laid down twice for train and once for val."""
    if not REAL.is_dir():
        pytest.skip("no photographs in ../shared/data/imagenet-sample")
    root = Path("data/publisher/imagenet")
    for number, path in enumerate(sorted(REAL.glob("*.JPEG")), 1):
        wnid = path.name[:9]
        (root / "train" / wnid).mkdir(parents=True)
        (root / "val" / wnid).mkdir(parents=True)
        for copy in range(2):
            os.symlink(path.resolve(), root / "train" / wnid / f"{wnid}_{copy}.JPEG")
        os.symlink(path.resolve(), root / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG")
    run("params.val_share.publisher=0.5")
    about = manifest()
    assert about["files"] == "subset"
    assert about["files_because"] == "40 classes, 80 + 40 images of 1000 classes, 1281167 + 50000 images"
    assert (about["counts"], len(about["classes"])) == ({"train": 40, "val": 40, "test": 40}, 40)
    assert about["about"]["modes"] == {"RGB": 120}
    assert about["about"]["repeated"]["train_and_val"] == 40
    assert json.dumps(about)  # plain values only
