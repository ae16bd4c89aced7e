"""One small training, run again and again in forked children that stop themselves at a chosen step.

    python tests/lib/resume_runs.py FOLDER STEP...

prints one JSON line a run: the signal's name, the step, the exit status of the first attempt and the SHA-256 of
the weights, losses and generators after the second. STEP 0 stands for the uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
from pathlib import Path

from stages.lib import runtime
from stages.lib.errors import StageError, exit_code


def net():
    """A net with batch norm (buffers) and dropout (the global generator)."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 3)
    )


def digest(model, history) -> str:
    import numpy
    import torch

    found = hashlib.sha256(json.dumps(history).encode())
    for value in model.state_dict().values():
        found.update(value.numpy().tobytes())
    found.update(repr((random.random(), numpy.random.random(), torch.rand(3).tolist())).encode())
    return found.hexdigest()


def attempt(state: Path, stop: int, by: int, epochs: int = 3) -> str:
    """Train 3 epochs of 4 steps; send the signal to oneself after step `stop`. Returns the digest."""
    import numpy
    import torch

    from stages.lib import resume, training
    from stages.lib.data import Split, pad_crop_flip

    # Every epoch is saved here, however fast it is.
    training.SAVE_SHARE = float("inf")
    runtime.prepare(1, "cpu", 5)
    model = net()
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(30, 1, 6, 6, generator=draw), torch.randint(0, 3, (30,), generator=draw)
    count = [0]

    def after_step(_) -> None:
        random.random(), numpy.random.random()  # so that these generators move too
        count[0] += 1
        if count[0] == stop:
            os.kill(os.getpid(), by)

    history = training.train(
        model, Split(x, y, ("a", "b", "c"), (0.0,), (1.0,), "sample"), epochs=epochs, lr=0.1, batch=8, seed=3,
        weight_decay=1e-3, augment=pad_crop_flip(1), mask_hook=after_step, state=state, label="toy",
    )  # fmt: skip
    assert not state.exists(), "the state is removed at success"
    assert resume.SAMPLED > 0
    return digest(model, history)


def child(state: Path, stop: int, by: int) -> tuple[int, str]:
    """(exit status, digest or error) of one attempt in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = 0
        try:
            text = attempt(state, stop, by)
        except StageError as error:
            text, code = str(error), exit_code(error)
        os.write(writer, text.encode())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as handle:
        text = handle.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def main() -> None:
    folder = Path(sys.argv[1])
    import torch  # noqa: F401  once, for all children

    for step in map(int, sys.argv[2:]):
        for by in (signal.SIGTERM, signal.SIGKILL) if step else (signal.SIGTERM,):
            state = folder / f"{step}-{by}.safetensors"
            status, text = child(state, step, by)
            kept = state.exists()
            end, final = child(state, 0, by) if step else (status, text)
            print("RUN " + json.dumps([by.name, step, status, text, kept, end, final]), flush=True)


if __name__ == "__main__":
    main()
