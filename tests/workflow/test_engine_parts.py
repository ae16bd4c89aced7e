"""Parts of the engine by themselves: commands, snapshots, imports, Python versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.lock import LockError

from tests.workflow.toy import ROOT, executed, sh
from workflow import fingerprint, imports
from workflow.engine.child import in_parallel, processes, python_script
from workflow.engine.declarations import Declarations
from workflow.engine.graph import rule_name
from workflow.engine.job import Snapshot
from workflow.engine.plan import make_plan
from workflow.engine.repository import open_repo, repository_lock
from workflow.engine.rules import Pipeline
from workflow.engine.server import compile_stages


@pytest.mark.parametrize(
    ("cmd", "words"),
    [
        ("python stages/a.py x=1", ["stages/a.py", "x=1"]),
        ("python3 a.py", ["a.py"]),
        ("python a.py | tee log", None),
        ("python a.py > out", None),
        ("python a.py $HOME", None),
        ("python -m a", None),
        ("X=1 python a.py", None),
        ("bash a.sh", None),
    ],
)
def test_only_plain_python_commands_are_run_in_the_fork(cmd: str, words: list[str] | None) -> None:
    assert python_script(cmd) == words


WORKER = """
import os, sys
sys.stdout.write(" ".join([os.environ["RANK"], os.environ["WORLD_SIZE"], *sys.argv[1:]]) + "\\n")
"""


def test_a_stage_with_several_processes_is_started_by_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/a.py").write_text(WORKER)
    command = in_parallel("python stages/a.py x=1 y=2", 2)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == ["0 2 x=1 y=2", "1 2 x=1 y=2"]
    for cmd, count in (
        ("python stages/a.py", 1),
        ("python workflow/fingerprint.py a b", 2),
        ("python stages/a.py | tee log", 2),
    ):
        assert in_parallel(cmd, count) is None


def test_compiled_stages_are_never_older_than_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even after an edit within the same second that leaves the size as it was."""
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "stages/a.py"
    module.parent.mkdir()
    (tmp_path / "stages/__init__.py").touch()
    (tmp_path / "stages/torn.py").write_text("def (")

    def printed() -> str:
        command = [sys.executable, "-c", "import stages.a"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    module.write_text("print(1)")
    compile_stages()
    assert {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")} == {"__init__", "a"}
    assert printed() == "1"
    before = module.stat()
    module.write_text("print(2)")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert printed() == "2"


def test_the_server_keeps_to_one_thread() -> None:
    """A fork takes along what other threads hold locked, not the threads that would let go of it."""
    code = """
import threading
from workflow.engine.server import keep_to_one_thread
keep_to_one_thread()
from dvc.progress import Tqdm
with Tqdm(total=2) as bar:
    bar.update()
assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_processes_are_those_asked_for_or_one_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRISE_PROCESSES", raising=False)
    assert [processes(leases) for leases in ([], [5], [5, 6, 7])] == [1, 1, 3]
    monkeypatch.setenv("REPRISE_PROCESSES", "2")
    assert [processes(leases) for leases in ([], [5, 6, 7])] == [2, 2]


def test_what_most_stages_wait_for_comes_first(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy)
    pipeline = Pipeline(main=True, executing=False, local=True)
    heights = pipeline._heights()
    assert heights["report"] == 0
    for paper in ("dcp", "chex"):
        chain = [heights[f"{paper}_{rule}"] for rule in ("gather", "prune", "train")]
        assert chain == [1, 2, 3]
        assert heights["prepare_numbers"] > max(chain)


def test_rule_names_tell_the_folder() -> None:
    assert rule_name("stages/papers/greedy-network/dvc.yaml", "train") == "greedy_network_train"
    assert rule_name("dvc.yaml", "report") == "report"


def test_snapshot_names_what_differs() -> None:
    before = Snapshot({"a.py": "1"}, {"p.yaml": {"lr": 1}})
    assert before.difference(Snapshot({"a.py": "1"}, {"p.yaml": {"lr": 1}})) == ""
    assert before.difference(Snapshot({"a.py": "2"}, {"p.yaml": {"lr": 1}})) == "a.py"
    assert before.difference(Snapshot({"a.py": "1"}, {"p.yaml": {"lr": 2}})) == "lr in p.yaml"


def test_numbers_as_keys_are_no_change() -> None:
    """JSON, as which the plan is saved, has texts for keys."""
    planned = Snapshot({}, {"p.yaml": {"macs": {"80": 1, "84": [2]}}})
    assert planned.difference(Snapshot({}, {"p.yaml": {"macs": {80: 1, 84: [2]}}})) == ""
    assert planned.difference(Snapshot({}, {"p.yaml": {"macs": {80: 1, 84: [3]}}})) == "macs in p.yaml"


def test_imports_are_followed_transitively_and_inside_functions(tmp_path: Path) -> None:
    files = {
        "stages/run.py": "from stages.lib import one\n",
        "stages/lib/__init__.py": "",
        "stages/lib/one.py": "def f():\n    from .two import g\n    import json\n",
        "stages/lib/two.py": "from stages.lib.deep import h\n",
        "stages/lib/deep/__init__.py": "from stages.lib.deep.part import h\n",
        "stages/lib/deep/part.py": "h = 1\n",
        "stages/lib/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = fingerprint.needed(tmp_path, tmp_path / "stages/run.py")
    assert found == set(files) - {"stages/lib/__init__.py", "stages/lib/unused.py"}


def test_fingerprint_changes_with_any_module_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/run.py").write_text("from stages import part\n")
    (tmp_path / "stages/part.py").write_text("a = 1\n")
    (tmp_path / "stages/other.py").write_text("b = 1\n")
    script = str(ROOT / "workflow/fingerprint.py")
    subprocess.run([sys.executable, script, "stages/run.py", "runs/code/run.json"], cwd=tmp_path, check=True)
    file = Path("runs/code/run.json")
    assert fingerprint.fingerprint_file("stages/run.py") == str(file)
    assert set(json.loads((tmp_path / file).read_text())) == {"stages/run.py", "stages/part.py"}
    (tmp_path / "stages/other.py").write_text("b = 2\n")
    assert fingerprint.edited(tmp_path, file) == ""
    (tmp_path / "stages/part.py").write_text("a = 22\n")
    assert fingerprint.edited(tmp_path, file) == "stages/part.py"
    (tmp_path / "stages/part.py").unlink()
    assert fingerprint.edited(tmp_path, file) == "stages/part.py"


def test_imports_rewrite_changes_one_stage_only() -> None:
    text = "stages:\n  a:\n    cmd: x\n    deps:\n      - stages/old.py\n      - runs/x\n    outs:\n      - o\n  b:\n    deps:\n      - stages/old.py\n"
    after = imports.rewrite(text, "a", {"stages/n.py", "stages/m.py"})
    assert after == text.replace(
        "      - stages/old.py\n      - runs/x\n", "      - stages/m.py\n      - stages/n.py\n      - runs/x\n"
    )


def test_old_python_is_refused_with_one_line() -> None:
    code = (
        "import sys, runpy, collections\n"
        "sys.version_info = collections.namedtuple('v', 'a b c')(3, 9, 1)\n"
        "runpy.run_path('workflow/check_python.py')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Python 3.9" in done.stderr
    assert "3.11" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_stage_outside_the_root_is_refused(toy: Path) -> None:
    path = toy / "stages/prepare/dvc.yaml"
    path.write_text(path.read_text().replace("wdir: ../..", "wdir: .."))
    done = sh(toy, "snakemake --cores 1", check=False)
    assert done.returncode != 0
    assert "set wdir to the repository root" in done.stdout + done.stderr


def test_changed_data_is_refused_until_it_is_recorded(toy: Path) -> None:
    (toy / "data/sample/numbers.txt").write_text("n: 5\n")
    done = sh(toy, "snakemake --cores 1", check=False)
    assert done.returncode != 0
    assert "dvc add data" in done.stdout + done.stderr
    assert executed(toy) == []
    sh(toy, "dvc add -q data && snakemake --cores 2")
    assert len(executed(toy)) > 10


@pytest.mark.parametrize("start", [["sleep", "60"], [sys.executable, "-c", "import time; time.sleep(60)", "repro", "-f"]])
def test_a_plan_for_jobs_waits_for_what_dvc_is_making(fresh_toy: Path, start: list[str]) -> None:
    """Snakemake would delete it before its job asks DVC; `python -m dvc` is noted with another first word than it has."""
    maker = subprocess.Popen(start)
    noted = " ".join(["/somewhere/dvc", *start[1:][-2:]])
    (fresh_toy / ".dvc/tmp").mkdir(exist_ok=True)
    target = str(fresh_toy / "runs/dcp/train/0.json")
    (fresh_toy / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {target: {"pid": maker.pid, "cmd": noted}}}))
    repo = open_repo(fresh_toy)
    with repository_lock(repo):
        with pytest.raises(LockError, match=f"train/0.json.*{noted}"):
            make_plan(repo, restore=True)
        make_plan(repo)  # a look need not wait
        maker.kill()
        maker.wait()
        make_plan(repo, restore=True)


def test_parameters_are_read_as_they_are_at_the_moment(fresh_toy: Path) -> None:
    declarations = Declarations(open_repo(fresh_toy))
    file, stage = fresh_toy / "params/dcp.yaml", ("stages/papers/dcp/dvc.yaml", "train@0")

    def read() -> dict[str, object]:
        (dep,) = (dep for dep in declarations.stage(*stage).deps if isinstance(dep, ParamsDependency))
        return dep.get_hash().value

    assert read() == {"lr": 2}
    file.write_text(file.read_text().replace("lr: 2", "lr: 7"))
    assert read() == {"lr": 7}
    file.write_text("ratio: 3\n")
    with pytest.raises(DvcException, match="lr"):
        read()
    file.write_text("lr: [\n")
    with pytest.raises(DvcException):
        read()


def test_gits_index_is_read_again_when_it_has_changed(fresh_toy: Path) -> None:
    scm = open_repo(fresh_toy).scm
    assert all(scm.is_tracked(str(fresh_toy / name)) for name in ("code/helper.py", "code", "params/dcp.yaml"))
    (fresh_toy / "new").write_text("")
    assert not scm.is_tracked(str(fresh_toy / "new"))
    sh(fresh_toy, "git add new && git rm -q --cached code/helper.py")
    assert scm.is_tracked(str(fresh_toy / "new"))
    assert not scm.is_tracked(str(fresh_toy / "code/helper.py"))
