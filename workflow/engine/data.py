"""data/ and its version, data.dvc: bring the embedded samples into place and check them.

python -m workflow.engine.data          what `make setup` runs
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workflow.engine.graph import quiet
from workflow.engine.repository import locked, open_repo

if TYPE_CHECKING:
    from dvc.repo import Repo

SAMPLES = ("-m", "stages.prepare.samples")


class DataError(SystemExit):
    """data/ is not what data.dvc says; the message names the files and what to do."""


def ensure_data(repo: Repo) -> None:
    """Make data/ what data.dvc says: as it lies there, else from DVC's cache, else by writing the samples.

    Raises:
        DataError: data/ still differs; nothing was overwritten.
    """
    root = Path(repo.root_dir)
    if not (root / "data.dvc").exists():
        return
    if _matches(repo):
        return
    if not (root / "data" / "sample").exists() and not _checkout(repo):
        subprocess.run([sys.executable, *SAMPLES], cwd=root, check=True)
    if not _matches(repo, adopt=True):
        raise DataError(_difference(repo))


def _stage(repo: Repo):
    return repo.stage.load_one("data.dvc")


def _matches(repo: Repo, adopt: bool = False) -> bool:
    """Whether data/ has the recorded hash; with `adopt` its files also enter DVC's cache."""

    def check() -> bool:
        stage = _stage(repo)
        (out,) = stage.outs
        if not out.exists or out.get_hash() != out.hash_info:
            return False
        if out.changed_cache():
            if not adopt:
                return False
            stage.save()
            stage.commit()
        return True

    with quiet():
        return locked(repo, check)


def _checkout(repo: Repo) -> bool:
    """Restore data/ from the cache; files that are there already and not recorded are left alone."""
    from dvc.exceptions import CheckoutError

    def checkout() -> bool:
        stage = _stage(repo)
        (out,) = stage.outs
        if out.changed_cache() or (out.exists and not out.is_empty):
            return False
        try:
            stage.checkout()
        except CheckoutError:
            return False
        return True

    with quiet():
        return locked(repo, checkout)


def _difference(repo: Repo) -> str:
    """One line: what to do about a data/ that is not the recorded one."""
    files = sum(1 for f in Path(repo.root_dir, "data").rglob("*") if f.is_file())
    return (
        f"error: data/ ({files} files) is not the version that data.dvc records. If you added or changed files, record "
        "them with `dvc add data`; if not, restore them with `rm -r data/sample` and run again"
    )


def main() -> int:
    """Ensure the data of the repository in the current folder."""
    ensure_data(open_repo())
    print("data/ is the version that data.dvc records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
