"""What the tests of stage scripts share: small prepared data sets, workspaces, runs that pass and runs that must fail."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy
import pytest

from stages.lib import artifacts

ROOT = Path(__file__).parents[2]


def prepare(folder: Path, dataset: str, shape: tuple[int, ...], classes: int = 10) -> None:
    """A prepared data set of patterns with noise: learnable, tiny, the contract's files."""
    random = numpy.random.RandomState(0)
    patterns = random.randint(40, 216, (classes, *shape))
    paths = []
    for split, count in (("train", 300), ("val", 60), ("test", 100)):
        y = numpy.arange(count) % classes
        x = numpy.clip(patterns[y] + random.normal(0, 30, (count, *shape)), 0, 255).astype(numpy.uint8)
        paths.append(folder / dataset / f"{split}.npz")
        artifacts.write_npz(paths[-1], x=x, y=y.astype(numpy.int64))
    about = {"mean": [0.5] * shape[0], "std": [0.25] * shape[0], "classes": list(map(str, range(classes)))}
    artifacts.write_manifest(
        folder / dataset / "manifest.json", outputs=paths, dataset=dataset, source="sample", files="embedded sample", **about
    )


def project(folder: Path) -> Path:
    """A folder with the parameters and both small data sets prepared."""
    shutil.copytree(ROOT / "params", folder / "params")
    prepare(folder / "runs/prepare", "cifar10", (3, 32, 32))
    prepare(folder / "runs/prepare", "digits", (1, 8, 8))
    return folder


def outputs(folder: str = "runs") -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def digits(folder: Path) -> Path:
    """A folder with the parameters and digits prepared."""
    shutil.copytree(ROOT / "params", folder / "params")
    prepare(folder / "runs/prepare", "digits", (1, 8, 8))
    return folder


def refusal(capsys: pytest.CaptureFixture, action: Callable[[], object], partly: bool = False) -> str:
    """The one line on stderr of an action that must fail with status 1 and leave everything below runs/ as it was.

    What an interrupted training keeps for its continuation (.scratch) does not count. `partly`: whole new files may be left,
    but no manifest, so that no folder looks complete.
    """
    before = _settled()
    with pytest.raises(SystemExit) as stopped:
        action()
    assert stopped.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    after = _settled()
    new = {Path(name) for name in after.keys() - before.keys()}
    assert {name: after.get(name) for name in before} == before
    assert not [path for path in new if path.suffix == ".tmp" or path.name == "manifest.json"]
    assert partly or not new
    return text


def refuses_damage(capsys: pytest.CaptureFixture, action: Callable[[], object], *paths: Path) -> None:
    """Half of each file, and none of it, must be refused in one line that names the file."""
    for path in paths:
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], None):
            path.unlink(missing_ok=True)
            if damaged is not None:
                path.write_bytes(damaged)
            assert path.name in refusal(capsys, action)
        path.write_bytes(whole)


def _settled() -> dict[str, bytes]:
    return {name: content for name, content in outputs().items() if ".scratch" not in name}


class Stages:
    """The stage scripts of one paper at the smoke scale, run in the current folder."""

    def __init__(self, slug: str, **scripts: ModuleType) -> None:
        self.slug, self.scripts = slug, scripts

    def trained(self, folder: Path) -> Path:
        """A project in which the script `train` has run on both data sets."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(project(folder))
            for dataset in ("cifar10", "digits"):
                self.run("train", dataset=dataset)
        return folder

    def run(self, script: str, *more: str, **keys: object) -> None:
        """Runs a stage script's main with command-line words."""
        words = {"scale": "smoke", "seed": 0, **keys}
        self.scripts[script].main([f"{key}={value}" for key, value in words.items()] + list(more))

    def refused(self, capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
        """The one line of a run that must fail, leaving no half-written file and no folder that looks complete."""
        return refusal(capsys, lambda: self.run(script, *more, **keys), partly=True)

    def rows(self, dataset: str, arm: str, seed: int = 0) -> dict[tuple[int, str], float]:
        """Values of an arm's metrics file by repetition and metric."""
        content = artifacts.read_json(f"runs/{self.slug}/metrics/smoke/{dataset}/{arm}/{seed}.json")
        return {(row["seed"], row["metric"]): row["value"] for row in content["rows"]}
