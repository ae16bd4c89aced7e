"""The one exception that stages raise for wrong input, and how any failure is put in one line."""

from __future__ import annotations

import errno
import sys
import traceback


class StageError(Exception):
    """Wrong input or an impossible request, told in one line.

    The text names the file or key, says what was expected and what to do. `code` is the exit status.
    """

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(one_line(text))
        self.code = code


def one_line(text: object) -> str:
    """The text with every run of white space, line ends included, made one space."""
    return " ".join(str(text).split())


def describe(error: BaseException) -> str:
    """One line for any exception: the text for wrong input, otherwise what failed and where."""
    if isinstance(error, StageError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
        return "out of memory: use a smaller batch or data limit, or a machine with more memory"
    if isinstance(error, OSError) and error.errno:
        return _operating_system(error)
    frame = traceback.extract_tb(error.__traceback__)
    where = f" ({frame[-1].filename}:{frame[-1].lineno})" if frame else ""
    return one_line(f"{type(error).__name__}: {error}{where}; REPRISE_TRACEBACK=1 shows the whole traceback")


def _operating_system(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    hint = {
        errno.ENOENT: "; run the stage that makes it, or check the path",
        errno.ENOSPC: "; free some space and run again, nothing half-written was kept",
        errno.EACCES: "; check the permissions",
        errno.EROFS: "; the file system is read-only",
    }.get(error.errno or 0, "")
    return one_line(f"{name}{error.strerror or error}{hint}")


def exit_code(error: BaseException) -> int:
    """Exit status for an exception: a StageError's own, 130 for an interrupt, else 1."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, StageError) else 1


def report(error: BaseException, show_traceback: bool = False) -> int:
    """Print the failure to stderr (with the traceback if asked) and return the exit status."""
    if show_traceback:
        traceback.print_exception(error)
    print(f"error: {describe(error)}", file=sys.stderr, flush=True)
    return exit_code(error)
