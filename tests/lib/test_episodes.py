"""Sets divided by classes and the tasks drawn from them."""

import numpy
import pytest

from stages.lib import artifacts, episodes
from stages.lib.episodes import Shape, draw
from stages.lib.errors import StageError

Y = numpy.repeat(numpy.arange(8), 40)


@pytest.mark.parametrize("shape", [Shape(5, 1, 15), Shape(5, 5, 10, pool=20), Shape(3, 2, 10, dirichlet=1.0)])
def test_tasks_have_no_image_twice_and_the_labels_of_their_classes(shape):
    found = draw(Y, shape, 12, 0)
    assert len(found) == 12 and found.query.shape == (12, shape.ways * shape.queries)
    for task in range(12):
        images = numpy.concatenate((found.support[task], found.query[task], found.pool[task]))
        assert len(set(images.tolist())) == len(images)
        assert len(set(found.classes[task].tolist())) == shape.ways
        for index, labels in ((found.support, found.support_labels), (found.pool, found.pool_labels)):
            assert Y[index[task]].tolist() == found.classes[task][labels].tolist()
        assert Y[found.query[task]].tolist() == found.classes[task][found.query_labels[task]].tolist()
    counts = [numpy.bincount(row, minlength=shape.ways).tolist() for row in found.query_labels]
    assert all(len(set(row)) == 1 for row in counts) != bool(shape.dirichlet)


def test_first_tasks_stay_when_more_are_drawn_and_seeds_differ():
    few, many, other = draw(Y, Shape(5, 1, 15), 3, 0), draw(Y, Shape(5, 1, 15), 9, 0), draw(Y, Shape(5, 1, 15), 3, 1)
    assert numpy.array_equal(few.query, many.query[:3]) and not numpy.array_equal(few.query, other.query)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Shape(9, 1, 15), "ways=9: the split has 8 classes"),
        (Shape(5, 26, 15), "a task may need 41 images of a class, the smallest class has 40"),
        (Shape(5, 1, 15, pool=30), "may need 46 images"),
        (Shape(5, 1, 8, dirichlet=1.0), "may need 41 images"),
        (Shape(1, 1, 15), "ways=1"),
        (Shape(5, 0, 15), "shots=0"),
        (Shape(5, 1, 15, dirichlet=-1.0), "dirichlet=-1.0"),
    ],
)
def test_impossible_tasks(shape, said):
    with pytest.raises(StageError, match=said):
        draw(Y, shape, 2, 0)


SPLIT = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test": ["d", "a"]}, "class a stands in train and test"),
        ({"train": ["a", "a"]}, "class a stands in train"),
        ({"val": []}, "val: no class"),
        ({"more": ["e"]}, "expected classes for train, val, test"),
    ],
)
def test_a_class_belongs_to_one_split(change, said):
    with pytest.raises(StageError, match=said):
        episodes.check_classes(SPLIT | change, "here")


def prepared(folder, split=SPLIT) -> None:
    x, y = numpy.random.RandomState(0).randint(0, 255, (12, 1, 4, 4)).astype(numpy.uint8), numpy.arange(12) % 2
    paths = []
    for name in ("train", "val", "test"):
        paths.append(folder / "set" / f"{name}.npz")
        artifacts.write_npz(paths[-1], x=x, y=y.astype(numpy.int64) if name == "train" else numpy.zeros(12, numpy.int64))
    artifacts.write_manifest(
        folder / "set/manifest.json", outputs=paths, mean=[0.5], std=[0.25], source="sample", class_split=split
    )


def test_loading_normalises_and_checks(tmp_path):
    prepared(tmp_path)
    found = episodes.load("set", "train", tmp_path)
    assert found.classes == ("a", "b") and found.x.shape == (12, 1, 4, 4)
    (x,) = artifacts.read_npz(tmp_path / "set/train.npz", "x")
    assert numpy.allclose(found.x.numpy(), (x / 255 - 0.5) / 0.25, atol=1e-6)
    with pytest.raises(StageError, match="expected one of"):
        episodes.load("set", "novel", tmp_path)
    (tmp_path / "set/test.npz").write_bytes(b"x")
    with pytest.raises(StageError, match="differs from its manifest"):
        episodes.load("set", "test", tmp_path)
    prepared(tmp_path, SPLIT | {"test": ["a"]})
    with pytest.raises(StageError, match="class a stands in train and test"):
        episodes.load("set", "train", tmp_path)
