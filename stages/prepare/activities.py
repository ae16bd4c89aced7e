"""Generated activities of wearable sensors: sensor_signals in windows, with more subjects than a file in the tree would hold.

No transformation of a window shows its label whole: see sensor_signals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stages.lib.checks import at_least, between
from stages.lib.stage import StageError, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from stages.prepare.sensor_recordings import Recording

CODES = 12  # activities that sensor_signals tells apart


@dataclass
class Params:
    """params/dataset/activities.yaml."""

    seed: int = parameter(help="seed of all subjects and recordings")
    subjects: int = parameter(help="how many")
    classes: int = parameter(help=f"activities, of {CODES}")
    windows: int = parameter(help="windows of a subject and activity, which overlap by half")
    window: int = parameter(help="samples of a window")
    channels: int = parameter(help="channels; those from the seventh on hold noise only")
    val_share: float = parameter(help="validation's share of the subjects")
    test_share: float = parameter(help="test's share of the subjects")

    def check(self) -> None:
        """Ranges that types do not tell."""
        for name, least in (("seed", 0), ("subjects", 3), ("classes", 2), ("windows", 1), ("window", 8), ("channels", 3)):
            at_least(name, getattr(self, name), least)
        if self.classes > CODES or self.channels % 3:
            raise StageError(
                f"params.classes={self.classes}, params.channels={self.channels}: expected at most {CODES}, and a multiple of 3"
            )
        for name in ("val_share", "test_share"):
            between(name, getattr(self, name), 0.0, 1.0)


@dataclass
class Config:
    """What the stage needs."""

    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/activities"})
def main(cfg: Config) -> None:
    """Generate all recordings and write runs/prepare/activities/windows.npz and a manifest.

    The last subjects are test, those before them val.
    """
    from stages.prepare import sensor_output
    from stages.prepare.sensor_recordings import Treatment

    params = cfg.params
    channels = tuple(f"sensor{place // 3 + 1}_{'xyz'[place % 3]}" for place in range(params.channels))
    recordings = [record(number, code, params) for number in range(1, params.subjects + 1) for code in range(params.classes)]
    as_it_is = Treatment(0, 0, None, 50.0)
    arrays, _ = sensor_output.collect(recordings, as_it_is, params.window, params.window // 2, channels)
    found = sensor_output.Collected(
        arrays, [one.name for one in recordings], [f"activity {code}" for code in range(params.classes)], channels,
        as_it_is.rate_hz, {number: {} for number in range(1, params.subjects + 1)}, "subject", {},
    )  # fmt: skip
    split = sensor_output.split_groups(arrays["group"], {"val": params.val_share, "test": params.test_share})
    sensor_output.save(
        "activities", found, split, source="sample", config=cfg, files="generated sample",
        division="the last subjects are test, those before them val",
    )  # fmt: skip
    print(f"activities: {len(split)} windows of {params.subjects} subjects", flush=True)


def record(number: int, code: int, params: Params) -> Recording:
    """One subject's recording of one activity, from seeds of their own; in units of the carrier's amplitude."""
    import numpy

    from stages.lib.runtime import derive_seed
    from stages.prepare.sensor_recordings import Recording
    from stages.prepare.sensor_signals import UNIT, person, signal

    def stream(*names: object) -> numpy.random.RandomState:
        return numpy.random.RandomState(derive_seed(params.seed, *names) % 2**32)

    who = person(stream("person", number), params.channels, number % 2)
    samples = params.window // 2 * (params.windows + 1)
    values = signal(stream("recording", number, code), code, who, samples, params.window) / UNIT
    return Recording(f"{number}/{code}", number, code, number, values)


if __name__ == "__main__":
    main()
