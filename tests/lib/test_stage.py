"""The frame of stage scripts: what is accepted, and that everything else ends in one line and status 1."""

from __future__ import annotations

import errno
import os
import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = '''
from dataclasses import dataclass, field
from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

@dataclass
class Params:
    epochs: int = parameter(help="passes over the data")
    lr: float = MISSING
    widths: list[int] = MISSING
    decay: float | None = None

    def check(self):
        if self.epochs < 1:
            raise StageError(f"params.epochs={self.epochs}: expected 1 or more")

@dataclass
class Config:
    scale: str = MISSING
    dataset: str = MISSING
    seed: int = MISSING
    threads: int = MISSING
    arms: list[str] = MISSING
    params: Params = field(default_factory=Params)

RAISES = {7: RuntimeError("first\\nsecond"), 8: OSError(28, "No space left on device", "runs/x"), 9: MemoryError()}

@stage(Config, paper="demo", section="{dataset}.train", files=["demo/claim:arms"])
def main(cfg: Config) -> None:
    """Does nothing but print."""
    if cfg.seed in RAISES:
        raise RAISES[cfg.seed]
    print(cfg.params.lr, cfg.params.epochs, cfg.params.widths, cfg.threads, cfg.arms)

if __name__ == "__main__":
    main()
'''
SMALL = """
digits: {train: {epochs: 3, lr: 1e-3, widths: [1, 2]}}
twice: {base: 4, train: {epochs: "${.other}", other: 2, lr: 0.1, widths: [1]}}
text: {train: {epochs: many, lr: 0.1, widths: [1]}}
surplus: {train: {epochs: 1, lr: 0.1, widths: [1], momentum: 0.9}}
short: {train: {epochs: 1, widths: [1]}}
outside: {base: 4, train: {epochs: "${digits.train.epochs}", lr: 0.1, widths: [1]}}
zero: {train: {epochs: 0, lr: 0.1, widths: [1]}}
flat: {train: 3}
"""
GOOD = ["scale=small", "dataset=digits", "seed=0"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a params tree and one script."""
    (tmp_path / "params/demo").mkdir(parents=True)
    (tmp_path / "params/config.yaml").write_text("source: sample\nthreads: 1\ndevice: auto\n")
    (tmp_path / "params/demo/small.yaml").write_text(SMALL)
    (tmp_path / "params/demo/broken.yaml").write_text("digits: {train: [")
    (tmp_path / "params/demo/claim.yaml").write_text("arms: [one, two]\ntitle: x\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRISE_TRACEBACK", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the script in this process as the warm start does; the exit status."""
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    try:
        runpy.run_path("script.py", run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_files_globals_and_command_line_meet_in_one_config(project, monkeypatch, capsys):
    assert run(monkeypatch, *GOOD, "params.epochs=5", "params.widths=[4,5,6]", "threads=2") == 0
    assert capsys.readouterr().out.split("\n")[0] == "0.001 5 [4, 5, 6] 2 ['one', 'two']"


def test_runs_leave_no_trace_in_each_other(project, monkeypatch, capsys):
    """As in a warm process: a failed run, an override, then the plain values again."""
    from hydra.core.global_hydra import GlobalHydra

    run(monkeypatch, *GOOD, "params.lr=9")
    run(monkeypatch, "scale=small")
    assert not GlobalHydra.instance().is_initialized()
    capsys.readouterr()
    assert run(monkeypatch, *GOOD) == 0
    assert capsys.readouterr().out.startswith("0.001 3 ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dataset=digits", "seed=0"], "scale"),
        (["scale=small", "dataset=digits"], "seed"),
        (["scale=huge", "dataset=digits", "seed=0"], "params/demo/huge.yaml"),
        (["scale=broken", "dataset=digits", "seed=0"], "params"),
        (["scale=../config", "dataset=digits", "seed=0"], "scale"),
        (["scale=small", "dataset=cifar", "seed=0"], "cifar"),
        (["scale=small", "dataset=digits", "seed=zero"], "seed"),
        (["scale=small", "dataset=digits", "seed=0.5"], "seed"),
        (["scale=small", "dataset=digits", "seed=null"], "seed"),
        (["scale=small", "dataset=digits", "seed=0,1"], "seed"),
        (["scale=small", "dataset=digits", "seed=1", "seed=2"], "seed"),
        ([*GOOD, "params.rate=0.1"], "params.rate"),
        ([*GOOD, "params.lr=fast"], "params.lr"),
        ([*GOOD, "params.lr.x=1"], "params.lr"),
        ([*GOOD, "params.widths=3"], "params.widths"),
        ([*GOOD, "params=3"], "params"),
        ([*GOOD, "+params.x=3"], "params.x"),
        ([*GOOD, "~params"], "params"),
        ([*GOOD, "colour=red"], "colour"),
        ([*GOOD, "nonsense"], "nonsense"),
        ([*GOOD, "params.epochs=0"], "params.epochs"),
        (["scale=small", "dataset=text", "seed=0"], "text.train"),
        (["scale=small", "dataset=surplus", "seed=0"], "momentum"),
        (["scale=small", "dataset=short", "seed=0"], "params.lr"),
        (["scale=small", "dataset=outside", "seed=0"], "outside.train"),
        (["scale=small", "dataset=zero", "seed=0"], "params.epochs"),
        (["scale=small", "dataset=flat", "seed=0"], "flat.train"),
        (["scale=small", "dataset=digits", "seed=7"], "first second"),
        (["scale=small", "dataset=digits", "seed=8"], "runs/x"),
        (["scale=small", "dataset=digits", "seed=9"], "memory"),
    ],
)
def test_wrong_input_ends_in_one_line_that_names_it(project, monkeypatch, capsys, arguments, named):
    assert run(monkeypatch, *arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert named in err


def test_reference_inside_the_section_is_followed(project, monkeypatch, capsys):
    """The schema has no key `other`, so it is refused by name, after the reference was resolved."""
    assert run(monkeypatch, "scale=small", "dataset=twice", "seed=0") == 1
    assert "other" in capsys.readouterr().err


def test_outside_the_root_is_told(project, monkeypatch, capsys, tmp_path):
    (tmp_path / "params/config.yaml").unlink()
    assert run(monkeypatch, *GOOD) == 1
    assert "params/config.yaml" in capsys.readouterr().err


def test_traceback_only_when_asked(project, monkeypatch, capsys):
    monkeypatch.setenv("REPRISE_TRACEBACK", "1")
    assert run(monkeypatch, "scale=small", "dataset=digits", "seed=7") == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_shows_each_parameter_with_type_value_and_meaning(project, monkeypatch, capsys):
    assert run(monkeypatch, "--help", "scale=small", "dataset=digits") == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "params.epochs" in line).split()
    assert row[1:3] == ["int", "3"]
    assert "passes over the data" in next(line for line in lines if "params.epochs" in line)
    assert {"scale", "dataset", "seed", "threads", "arms", "params.lr", "params.widths", "params.decay"} <= {
        line.split()[0] for line in lines if line.startswith("  ")
    }


def test_reads_lists_files_sections_and_globals(project):
    main = runpy.run_path("script.py")["main"]
    assert set(main.reads) == {
        ("params/config.yaml", "threads"),
        ("params/demo/{scale}.yaml", "{dataset}.train"),
        ("params/demo/claim.yaml", "arms"),
    }


def test_a_script_answers_without_torch_and_fast(project):
    """As a separate process; well under a second of processor time."""
    code = "import runpy, sys; sys.argv = ['script.py', '--help']; runpy.run_path('script.py', run_name='__main__')"
    code += "; sys.exit(int('torch' in sys.modules or 'numpy' in sys.modules))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    end = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.5


def assert_hydra_agrees(paths: list[str]) -> None:
    """That these files of params/ are read without Hydra, as Hydra reads them: repr tells 1 from 1.0 and from True."""
    from stages.lib.composition import composed, plain

    ours = plain(paths)
    assert ours is not None, paths
    for path, mine, hydra in zip(["config", *paths], ours, composed(paths), strict=True):
        assert repr(mine) == repr(hydra), path


def test_hydra_reads_the_shipped_params_as_they_are_read_without_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    folders = [folder for folder in Path("params").iterdir() if folder.is_dir()]
    assert len(folders) > 20
    for folder in folders:
        assert_hydra_agrees([f"{folder.name}/{file.stem}" for file in sorted(folder.glob("*.yaml"))])


def test_defaults_lists_are_hydras(project, monkeypatch, capsys):
    """A scale that takes its settings from another, one that wants a missing one, and a header, which says nothing here."""
    small = (project / "params/demo/small.yaml").read_text()
    (project / "params/demo/more.yaml").write_text("defaults: [small, _self_]\ndigits: {train: {epochs: 7}}\n")
    (project / "params/demo/lost.yaml").write_text("defaults: [nowhere]\n" + small)
    (project / "params/demo/header.yaml").write_text("# @package other.place\n" + small)
    assert run(monkeypatch, *GOOD[1:], "scale=more") == 0
    assert run(monkeypatch, *GOOD[1:], "scale=lost") == 1
    said = capsys.readouterr()
    assert said.out.startswith("0.001 7 ")
    assert "nowhere" in said.err
    odd = "a: [1e-3, 1e3, 1_000, 0x1f, 010, .5, 1., -.inf, 2020-01-01, 1:30, yes, on, ~, null, 1e, '1']\n"
    (project / "params/demo/odd.yaml").write_text(
        odd + "b: {1: x, true: y}\nc: &it {d: 1}\ne: *it\nf: {<<: *it, g: é}\nh: |\n  text\n"
    )
    assert_hydra_agrees(["demo/header", "demo/claim", "demo/odd"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EROFS])
def test_operating_system_errors_name_the_file(number):
    from stages.lib.errors import describe

    assert "runs/y" in describe(OSError(number, "text", "runs/y"))


def test_a_script_refuses_the_modules_of_another_checkout(project, tmp_path):
    """As happens in a clone that uses the environment of another one."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "stages/lib", clone / "stages/lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "stages/__init__.py", clone / "stages")
    (clone / "stages/script.py").write_text(SCRIPT)
    (clone / "params").symlink_to(project / "params")
    ends = [
        subprocess.run(
            [sys.executable, "stages/script.py", "scale=small", "dataset=digits", "seed=1"],
            cwd=clone, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True, check=False,
        )
        for path in (ROOT, clone)
    ]  # fmt: skip
    assert [end.returncode for end in ends] == [1, 0], ends[1].stderr
    assert len(ends[0].stderr.splitlines()) == 1
    assert str(clone) in ends[0].stderr and str(ROOT) in ends[0].stderr
