"""Ask the warm-start server to run one stage: `python -S -E client.py SOCKET ADDRESS`.

It runs once for each job, so it imports next to nothing: `socket` and `json` would take longer than Python's own start (15 ms).
"""

import _socket as socket
import os
import sys


def main() -> int:
    """Hand over the standard streams, wait for the exit code; if the server is gone, run the plain job."""
    path, address = sys.argv[1:3]
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    message = b"\0".join([os.fsencode(address), *(name + b"=" + value for name, value in os.environb.items())])
    header = len(message).to_bytes(4, "big")
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    try:
        connection.connect(path)
        connection.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        connection.sendall(message)
        taken = connection.recv(1)
    except OSError:
        taken = b""
    if not taken:  # no server, or one that ended before it took the job
        return plain(address)
    try:
        answer = connection.recv(16)
    except OSError:
        answer = b""
    if not answer:
        sys.stderr.write("error: the warm-start server died while it ran this job; nothing was committed, run again\n")
        return 1
    return int(answer)


def plain(address: str) -> int:
    """Replace this process by the ordinary job."""
    # sys.executable is empty under -S -E in some builds; the launcher passes the interpreter along.
    python = os.environ.get("REPRISE_PYTHON") or sys.executable
    os.execv(python, [python, "-m", "workflow.engine.job", address])


if __name__ == "__main__":
    sys.exit(main())
