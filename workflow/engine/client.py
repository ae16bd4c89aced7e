"""Ask the warm-start server to run one stage: `python -S -E client.py SOCKET ADDRESS`. Standard library only."""

import array
import json
import os
import socket
import sys


def main() -> int:
    """Hand over the standard streams, wait for the exit code; if the server is gone, run the plain job."""
    path, address = sys.argv[1:3]
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        return plain(address)
    message = json.dumps({"address": address, "environment": dict(os.environ)}).encode()
    streams = array.array("i", [0, 1, 2])
    header = len(message).to_bytes(4, "big")
    connection.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(message)
    answer = connection.recv(16)
    # An empty answer means that the server died: the job has failed, and nothing of it was committed.
    return int(answer) if answer else 1


def plain(address: str) -> int:
    """Replace this process by the ordinary job."""
    # sys.executable is empty under -S -E in some builds; the launcher passes the interpreter along.
    python = os.environ.get("REPRISE_PYTHON") or sys.executable
    os.execv(python, [python, "-m", "workflow.engine.job", address])


if __name__ == "__main__":
    sys.exit(main())
