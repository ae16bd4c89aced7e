"""Whether results can be put into the workspace the way that `cache.type` asks for, found out before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo


def ensure_links(repo: Repo) -> None:
    """Try the links from DVC's cache to the workspace; a type among them that copies works anywhere and is not tried.

    DVC finds out when it commits the first result, and then stops every job.

    Raises:
        SystemExit: none of them works; the message says what to do.
    """
    from dvc_objects.fs.generic import test_links

    cache, kinds = repo.cache.local, list(repo.cache.local.cache_types)
    beside = str(Path(repo.root_dir, "any"))
    if "copy" in kinds or test_links(kinds, cache.fs, cache.path, repo.fs, beside):
        return
    raise SystemExit(
        f"error: cache.type {','.join(kinds)} does not work between {cache.path} and {repo.root_dir}: "
        f"add a type that does (`dvc config cache.type {','.join(kinds)},copy`), or move the cache (`dvc cache dir`)"
    )
