"""Training from shards: the images and losses of a set in memory, flat memory, bounded handles, refusals."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import tarfile
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from stages.lib import artifacts, data, files, images, shards, training
from stages.lib.decoding import decode, to_rgb
from stages.lib.dense import limited
from stages.lib.errors import StageError
from stages.papers.greedy_network_enlarging.nets import resized
from stages.papers.greedy_network_enlarging.settings import Base
from stages.papers.greedy_network_enlarging.space import space_of
from stages.prepare import image_samples, imagenet, imagenet_shards, samples
from tests import sharded

SHARDS = Path("runs/prepare/imagenet_shards")


def pack(*changes: str) -> None:
    usual = {"params.side": "0", "params.per_shard": "16", "params.shorter": "36", "params.image": "32"}
    imagenet_shards.main([f"{key}={value}" for key, value in (usual | dict(item.split("=") for item in changes)).items()])


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Shards of forty training images of 48 pixels, ten of val and ten of test; the working folder."""
    sharded.settings(tmp_path)
    sharded.indexed(tmp_path, 40, 48)
    monkeypatch.chdir(tmp_path)
    pack()
    return tmp_path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A root with ImageNet's embedded sample (grey, CMYK, PNG among it), indexed and in shards of 16 images."""
    folder = tmp_path_factory.mktemp("photographs")
    sharded.settings(folder)
    for name, content in image_samples.imagenet(samples.photographs()).items():
        path = folder / "data/sample/imagenet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        imagenet.main([])
        pack()
    return folder


def in_memory(split: data.Split) -> data.Split:
    return dataclasses.replace(split, x=split.x[:])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(900, 10))


def train(split: data.Split, **options) -> list[float]:
    settings = {"epochs": 3, "lr": 0.05, "batch": 25, "seed": 1, "augment": data.pad_crop_flip(2)}
    return training.train(net(), split, **(settings | options))


# --- the same as in memory ------------------------------------------------------------------------


def test_images_are_those_of_the_reader_of_files(photographs, monkeypatch):
    monkeypatch.chdir(photographs)
    transform, whole = images.eval_transform(32, 36), 0
    for name in data.SPLITS:
        split, index = data.load("imagenet", name), images.read_index("imagenet", name)
        (rows,) = artifacts.read_npz(SHARDS / f"{name}.index.npz", "row")
        for place in range(0, len(split), 5):
            row = int(rows[place])
            content, image = images.read_content(index, row), to_rgb(images.read_image(index, row))
            assert int(split.y[place]) == int(index.labels[row])
            assert torch.equal(split.x[place], transform(to_rgb(decode(content, row, least=36))))
            # Images of twice the size or more are decoded at half of it or less, which gives slightly other pixels.
            assert torch.equal(split.x[place], transform(image)) or min(image.size) >= 72
            assert (split.x[place] - transform(image)).abs().mean() < 0.3
            whole += min(image.size) < 72
    assert whole
    assert data.load("imagenet_shards", "val").x.shape == (len(data.load("imagenet", "val")), 3, 32, 32)


def test_training_from_shards_has_the_losses_of_training_in_memory(photographs, monkeypatch):
    monkeypatch.chdir(photographs)
    split = data.load("imagenet", "train")
    assert len(list(SHARDS.glob("train-*"))) == 8
    history = train(split)
    assert history == train(in_memory(split))
    assert history[-1] < history[0]


def test_a_stopped_training_goes_on_to_the_same_losses(photographs, monkeypatch, tmp_path):
    monkeypatch.chdir(photographs)
    split, steps = data.load("imagenet", "train"), []

    def stop(model: nn.Module) -> None:
        steps.append(model)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StageError, match="state kept"):
        train(split, mask_hook=stop, state=tmp_path / "state")
    assert train(data.load("imagenet", "train"), mask_hook=lambda _: None, state=tmp_path / "state") == train(split)


def test_predictions_are_those_of_a_set_in_memory(root):
    split, model = data.load("imagenet", "train"), net()
    assert torch.equal(training.predict(model, split.x, batch=7), training.predict(model, in_memory(split).x, batch=7))


def test_the_manifest_of_what_was_trained_names_the_index_of_the_shards(root):
    prepared = Path("runs/prepare/imagenet")
    files.seal(Path("runs/toy"), [], [prepared / "train.npz", prepared / "manifest.json"], None)
    read = artifacts.read_json("runs/toy/manifest.json")["inputs"]
    assert read == {str(path): artifacts.sha256(path) for path in (SHARDS / "train.index.npz", prepared / "manifest.json")}
    with pytest.raises(StageError, match=r"other/train\.npz"):
        files.seal(Path("runs/toy"), [], [Path("runs/prepare/other/train.npz")], None)


def test_any_index_works_as_on_a_tensor(root):
    split = data.load("imagenet", "train")
    whole = split.x[:]
    assert (whole.shape, whole.dtype, len(split.x), split.x.shape) == ((40, 3, 32, 32), torch.float32, 40, whole.shape)
    keys = (3, slice(5, 30, 4), slice(0, 0), torch.tensor([39, 0, 0, 17]), torch.arange(40) % 3 == 0, [4, 2])
    for key in keys:
        assert torch.equal(split.x[key], whole[key]), key
    assert torch.equal(torch.stack(list(split.x)), whole)


def test_parts_of_a_split_stay_in_their_shards(root):
    split = data.load("imagenet", "train")
    part = limited(split, 20, 3)
    assert isinstance(part.x, shards.ShardedImages)
    same = limited(in_memory(split), 20, 3)
    assert torch.equal(part.x[:], same.x)
    assert torch.equal(part.y, same.y)
    assert torch.equal(part.take(slice(3, 9)).x[1:4], same.x[4:7])


def test_a_net_resizes_what_a_search_leaves_in_shards(root):
    split, space = data.load("imagenet", "train"), space_of(Base("plain", [1], [8], 16, {}), 3, 10)
    net, smaller = space.build(space.base), resized(split.x[:], 16)
    assert resized(split.x, 16) is split.x
    assert smaller.shape[-1] == 16
    torch.testing.assert_close(training.predict(net, split.x, batch=7), training.predict(net, smaller, batch=7))


def test_batches_do_not_depend_on_the_number_of_threads(root):
    split, found = data.load("imagenet", "train"), {}
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found[threads] = split.x[torch.arange(39, -1, -1)]
    torch.set_num_threads(before)
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[1], found[5])


def test_batches_go_to_the_device(root):
    split = data.load("imagenet", "train").to("meta")
    assert (split.x.device.type, split.x[:3].device.type, split.x[:3].shape) == ("meta", "meta", (3, 3, 32, 32))


# --- order and bounds -----------------------------------------------------------------------------


def test_the_order_visits_all_and_reads_few_shards_at_a_time(root):
    pack("params.per_shard=2")
    x = data.load("imagenet", "train").x
    order = x.order(torch.Generator().manual_seed(5))
    assert sorted(order.tolist()) == list(range(40))
    near = 2 * shards.WINDOW
    windows = [set(x.index.shard[part.numpy()]) for part in order.split(near)]
    assert [len(window) for window in windows] == [8, 8, 4]
    assert order[:near].tolist() != sorted(order[:near].tolist())
    assert set.union(*windows) == set(range(20))
    assert torch.equal(order, x.order(torch.Generator().manual_seed(5)))
    assert not torch.equal(order, x.order(torch.Generator().manual_seed(6)))


def test_a_small_set_has_the_order_of_one_in_memory(root):
    order = data.load("imagenet", "train").x.order(torch.Generator().manual_seed(5))
    assert torch.equal(order, torch.randperm(40, generator=torch.Generator().manual_seed(5)))


def test_few_shards_are_open_at_a_time(root):
    pack("params.per_shard=1")
    x, before = data.load("imagenet", "train").x, len(os.listdir("/proc/self/fd"))
    assert len(x.index.files) == 40 > shards.OPEN
    whole = x[:]
    assert len(os.listdir("/proc/self/fd")) - before <= shards.OPEN
    assert torch.equal(x[torch.tensor([39, 0, 20])], whole[[39, 0, 20]])


def test_a_fingerprint_tells_sets_apart_without_reading_them(root, monkeypatch):
    x = data.load("imagenet", "train").x
    monkeypatch.setattr(shards, "read_member", lambda *_: pytest.fail("an image was read"))
    different = {x.fingerprint(), x.subset(slice(0, 39)).fingerprint(), data.load("imagenet", "val").x.fingerprint(),
                 dataclasses.replace(x, view=dataclasses.replace(x.view, shorter=40)).fingerprint()}  # fmt: skip
    assert len(different) == 4
    assert data.load("imagenet", "train").x.to("meta").fingerprint() in different


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Peaks of whole epochs, each in a process of its own; one that holds all its images shows that growth is seen."""
    sharded.settings(tmp_path)
    sharded.indexed(tmp_path, 8000, 64)
    few = tmp_path / "few"
    sharded.settings(few)
    sharded.write_index(few, sharded.read_rows(tmp_path)[6000:])
    (few / "images").symlink_to(tmp_path / "images")
    for folder in (few, tmp_path):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            pack("params.per_shard=250", "params.shorter=64", "params.image=64")
    small, large, whole = sharded.child(few, 100), sharded.child(tmp_path, 100), sharded.child(tmp_path, 8000)
    assert (small["images"], large["images"]) == (2000, 8000)
    megabyte = 3 * 64 * 64 * 4 / 2**20  # of one image
    assert large["peak"] - small["peak"] < 0.03 * 6000 * megabyte
    assert whole["peak"] > 8000 * megabyte


# --- refusals -------------------------------------------------------------------------------------


def change(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(content)


def test_a_missing_or_resized_shard_is_refused_at_the_start(root):
    path = SHARDS / "train-00001.tar"
    whole = path.read_bytes()
    for content in (whole[:-512], whole + bytes(512), b""):
        path.write_bytes(content)
        with pytest.raises(StageError, match=rf"train-00001\.tar: {len(content)} bytes, expected {len(whole)}"):
            data.load("imagenet", "train")
    path.unlink()
    with pytest.raises(StageError, match=r"train-00001\.tar: cannot be read"):
        data.load("imagenet", "train")
    assert len(data.load("imagenet", "val")) == 10


def test_a_shard_that_goes_or_shrinks_while_training_is_told(root):
    split, path = data.load("imagenet", "train"), SHARDS / "train-00001.tar"
    change(path, 0, b"")
    os.truncate(path, 4000)
    with pytest.raises(StageError, match=r"train-00001\.tar: 000000\d\d\.jpg: truncated"):
        split.x[:]
    other = data.load("imagenet", "val")
    (SHARDS / "val-00000.tar").unlink()
    with pytest.raises(StageError, match=r"val-00000\.tar: cannot be read"):
        other.x[:2]


def test_an_image_that_cannot_be_decoded_is_named(root):
    x = data.load("imagenet", "train").x
    place = 20
    change(x.index.files[x.index.shard[place]], int(x.index.offset[place]), bytes(int(x.index.size[place])))
    for threads in (1, 4):
        torch.set_num_threads(threads)
        with pytest.raises(StageError, match=r"imagenet_shards/train-00001\.tar: 00000020\.jpg: neither JPEG nor PNG"):
            x[:]
    torch.set_num_threads(1)
    assert x[:20].shape == (20, 3, 32, 32)


def test_a_truncated_image_is_named(root):
    x = data.load("imagenet", "train").x
    change(x.index.files[0], int(x.index.offset[3]) + 300, bytes(int(x.index.size[3]) - 300))
    with pytest.raises(StageError, match=r"train-00000\.tar: 00000003\.jpg: cannot be decoded"):
        x[[3]]


def test_exchanged_shards_are_refused_though_their_sizes_agree(root):
    pack("params.per_shard=20")
    first, second = SHARDS / "train-00000.tar", SHARDS / "train-00001.tar"
    assert first.stat().st_size == second.stat().st_size
    x = data.load("imagenet", "train").x
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for place in (0, 39):
        with pytest.raises(StageError, match=rf"tar: 000000{place:02d}\.jpg: "):
            x[place]


def seal(y: numpy.ndarray | None = None, **arrays: numpy.ndarray) -> None:
    """Put arrays into the index of the training split, and its hash into the manifest."""
    path, about = SHARDS / "train.index.npz", artifacts.read_json(SHARDS / "manifest.json")
    names = ("offset", "size", "y", "row", "count", "bytes")
    found = dict(zip(names, artifacts.read_npz(path, *names)))
    artifacts.write_npz(path, **(found | arrays | ({} if y is None else {"y": y})))
    about["outputs"][path.name] = artifacts.sha256(path)
    artifacts.write_json(SHARDS / "manifest.json", about)


def test_labels_outside_the_classes_are_refused(root):
    (y,) = artifacts.read_npz(SHARDS / "train.index.npz", "y")
    for wrong in (y + 1, y - 1):
        seal(wrong)
        with pytest.raises(StageError, match=r"train\.index\.npz: labels .* expected 0 to 9"):
            data.load("imagenet", "train")


def test_an_altered_index_is_refused(root):
    change(SHARDS / "train.index.npz", 400, b"other")
    with pytest.raises(StageError, match=r"train\.index\.npz: differs from its manifest"):
        data.load("imagenet", "train")


def test_a_pickle_in_a_shard_is_never_opened(root):
    """Even where the index leads to it: only a member of an image's name is read, and as an image."""
    evil, path = b"cos\nsystem\n(S'touch ran'\ntR." + bytes(500), SHARDS / "train-00000.tar"
    for name, said in (("00000000.pyd", "says so of '00000000.pyd'"), ("00000000.jpg", "neither JPEG nor PNG")):
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(evil)
            archive.addfile(member, io.BytesIO(evil))
        offset, size, sizes = artifacts.read_npz(SHARDS / "train.index.npz", "offset", "size", "bytes")
        offset[0], size[0], sizes[0] = 512, len(evil), path.stat().st_size
        seal(offset=offset, size=size, bytes=sizes)
        with pytest.raises(StageError, match=said):
            data.load("imagenet", "train").x[0]
    assert not Path("ran").exists()


def test_a_set_that_is_only_indexed_says_what_to_do(root):
    SHARDS.rename("elsewhere")
    with pytest.raises(StageError, match=r"runs/prepare/imagenet: .*`snakemake imagenet_shards`"):
        data.load("imagenet", "train")


def test_a_folder_without_manifest_is_refused(root):
    (SHARDS / "manifest.json").unlink()
    with pytest.raises(StageError, match=r"imagenet_shards/manifest\.json"):
        data.load("imagenet", "train")
