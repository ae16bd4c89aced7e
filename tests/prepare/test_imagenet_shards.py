"""The stage that packs ImageNet's images into shards: what is in them, the same bytes, going on after a kill, refusals."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy
import pytest
import webdataset
from PIL import Image

from stages.lib import artifacts, images
from stages.lib.errors import StageError
from stages.prepare import imagenet_shards, shard_files
from tests import sharded
from tests.prepare.photographs import contents, fails

SHARDS = Path("runs/prepare/imagenet_shards")
PLAIN = {"params.side": 0, "params.per_shard": 16, "params.shorter": 36, "params.image": 32}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Forty training images of 48 pixels with their index, ten of val and ten of test; the working folder."""
    sharded.settings(tmp_path)
    sharded.indexed(tmp_path, 40, 48)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(**changes: object) -> dict:
    """Run the stage; returns its manifest, with every hash checked."""
    imagenet_shards.main(words(**changes))
    return artifacts.verify_manifest(SHARDS / "manifest.json")


def words(**changes: object) -> list[str]:
    return [f"{key}={value}" for key, value in (PLAIN | {key.replace("__", "."): changes[key] for key in changes}).items()]


def samples(split: str) -> list[dict]:
    """What WebDataset's own reader finds in the shards of a split, in order."""
    files = [str(path) for path in sorted(SHARDS.glob(f"{split}-*.tar"))]
    return list(webdataset.WebDataset(files, shardshuffle=False))


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return archive.getmembers()


def row_of(split: str) -> numpy.ndarray:
    return artifacts.read_npz(SHARDS / f"{split}.index.npz", "row")[0]


def test_shards_hold_every_image_once_as_it_was_with_its_label(root):
    about = run()
    assert about["counts"] == {"train": 40, "val": 10, "test": 10}
    assert (about["classes"], about["source"], about["shape"]) == ([f"class {k}" for k in range(10)], "sample", [3, 32, 32])
    for split in ("train", "val", "test"):
        index, rows, found = images.read_index("imagenet", split), row_of(split), samples(split)
        assert sorted(rows.tolist()) == list(range(len(index)))
        assert [one["jpg"] for one in found] == [images.read_content(index, row) for row in rows.tolist()]
        assert [int(one["cls"]) for one in found] == index.labels[rows].tolist()
        assert [one["__key__"] for one in found] == [f"{place:08d}" for place in range(len(index))]
    assert [len(members(path)) for path in sorted(SHARDS.glob("train-*.tar"))] == [28, 26, 26]


def test_the_order_is_seeded_and_shards_are_mixtures(root):
    run()
    first = row_of("train")
    assert first.tolist() != sorted(first.tolist())
    run(params__seed=1)
    assert row_of("train").tolist() != first.tolist()


def test_the_same_bytes_for_any_number_of_threads_and_again(root):
    run()
    first = contents(SHARDS)
    for threads in (1, 3):
        run(threads=threads)
        assert contents(SHARDS) == first
    member = members(SHARDS / "train-00000.tar")[0]
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "reprise", "reprise")


def test_larger_images_are_resized_and_smaller_ones_kept(root):
    wide, small = io.BytesIO(), next(sharded.jpegs(1, 30))
    Image.open(io.BytesIO(next(sharded.jpegs(1, 60)))).resize((90, 60)).convert("CMYK").save(wide, "JPEG")
    for number, content in enumerate((wide.getvalue(), small)):
        replace(number, content)
    run(params__side=40)
    found = {row: Image.open(io.BytesIO(one["jpg"])) for row, one in zip(row_of("train").tolist(), samples("train"))}
    assert (found[0].size, found[0].mode) == ((60, 40), "RGB")
    assert {image.size for row, image in found.items() if row > 1} == {(40, 40)}
    assert samples("train")[row_of("train").tolist().index(1)]["jpg"] == small


def replace(number: int, content: bytes) -> None:
    """Put other content in the place of a training image, and into the index."""
    import hashlib

    rows = sharded.read_rows(Path.cwd())
    path = Path("images") / rows[number][0]
    path.write_bytes(content)
    rows[number] = (*rows[number][:3], hashlib.sha256(content).hexdigest())
    sharded.write_index(Path.cwd(), rows)


def test_a_stopped_run_goes_on_after_its_last_whole_shard(root, monkeypatch):
    run()
    wanted = contents(SHARDS)
    for path in SHARDS.iterdir():
        path.unlink()
    made, write = [], shard_files.write_shard

    def counted(path: Path, *rest: object) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(shard_files, "write_shard", counted)
    with pytest.raises(SystemExit):
        imagenet_shards.main(words())
    assert sorted(path.name for path in SHARDS.iterdir()) == ["train-00000.tar", "train-00001.tar"]
    with (SHARDS / "train-00001.tar").open("r+b") as handle:  # a shard that is not as it was written is made again
        handle.truncate(100)
    monkeypatch.setattr(shard_files, "write_shard", lambda path, *rest: (made.append(path.name), write(path, *rest)))
    run()
    assert contents(SHARDS) == wanted
    assert made[2:] == ["train-00001.tar", "train-00002.tar", "val-00000.tar", "test-00000.tar"]
    assert not list(Path("runs").rglob("*.jsonl"))


def test_what_a_stopped_run_left_is_not_taken_with_other_settings(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "write_manifest", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            imagenet_shards.main(words(params__seed=1))
    run()
    found = contents(SHARDS)
    for path in SHARDS.iterdir():
        path.unlink()
    run()
    assert contents(SHARDS) == found


def test_shards_of_other_settings_are_removed(root):
    run(params__per_shard=5)
    run(params__per_shard=40)
    assert {path.name for path in SHARDS.glob("*.tar")} == {f"{split}-00000.tar" for split in ("train", "val", "test")}


def test_an_altered_image_is_refused_by_its_path(root, capsys):
    (root / "images/train/7/7.JPEG").write_bytes(b"other")
    assert "images/train/7/7.JPEG: differs from the index" in fails(imagenet_shards, "imagenet_shards", capsys, *words())


def test_a_label_outside_the_classes_is_refused(root, capsys):
    rows = sharded.read_rows(root)
    sharded.write_index(root, [(rows[0][0], 10, *rows[0][2:]), *rows[1:]])
    assert "train: labels 0 to 10; expected 0 to 9" in fails(imagenet_shards, "imagenet_shards", capsys, *words())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params__side": 35}, "params.side=35: expected 36"),
        ({"params__image": 37}, "params.shorter=36: expected 37 or more"),
        ({"params__per_shard": 0}, "params.per_shard=0"),
        ({"params__quality": 96}, "params.quality=96"),
    ],
)
def test_impossible_settings_are_refused(root, capsys, change, said):
    assert said in fails(imagenet_shards, "imagenet_shards", capsys, *words(**change))


# --- looking into a shard -------------------------------------------------------------------------


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_scanning_tells_where_every_image_lies(tmp_path):
    path = shard(tmp_path / "a.tar", [("00000004.cls", b"7"), ("00000004.jpg", b"image"), ("00000005.cls", b"12"),
                                      ("00000005.jpg", b"x" * 600)])  # fmt: skip
    found = shard_files.scan(path)
    assert [(place, size, label) for place, _, size, label in found] == [(4, 5, 7), (5, 600, 12)]
    assert [path.read_bytes()[offset : offset + size] for _, offset, size, _ in found] == [b"image", b"x" * 600]


PAIR = [("00000000.cls", b"1"), ("00000000.jpg", b"image")]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([*PAIR, ("00000001.pyd", b"cos\nsystem\n(S'touch ran'\ntR.")], r"00000001\.pyd: refused"),
        ([*PAIR, ("00000001.pth", b"PK")], r"00000001\.pth: refused"),
        ([*PAIR, ("../00000001.jpg", b"x")], "refused"),
        ([("00000000.jpg", b"image")], "without its label"),
        ([PAIR[0], ("00000001.jpg", b"image")], "without its label"),
        ([("00000000.cls", b"cat"), PAIR[1]], "is no label"),
        ([("00000000.cls", b"9" * 30), PAIR[1]], "is no label"),
    ],
)
def test_a_shard_with_anything_else_is_refused(tmp_path, monkeypatch, members, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=rf"a\.tar: .*{said}"):
        shard_files.scan(shard(tmp_path / "a.tar", members))
    assert not (tmp_path / "ran").exists()


def test_a_shard_cut_anywhere_is_refused(tmp_path):
    path = shard(tmp_path / "a.tar", [*PAIR, ("00000001.cls", b"1"), ("00000001.jpg", b"y" * 700)])
    whole = path.read_bytes()
    assert len(shard_files.scan(path)) == 2
    for length in (0, 100, 512, 1024, 2048, 3000, 3584, 4000, 4608):  # the last member ends at 4608
        path.write_bytes(whole[:length])
        with pytest.raises(StageError, match=r"a\.tar: no intact shard"):
            shard_files.scan(path)
