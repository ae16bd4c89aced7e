"""What is compared: two phases, the first alone, filters along z instead of the second, volumes alone, and 2-D rivals."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Arm:
    """One way to a probability for every voxel.

    `slices` names the net of slices, `filtered` what is done to its probability along z, `volumes` the net of volumes.
    """

    slices: Literal["phase1", "series", "unet_params", "unet_macs", ""] = ""
    filtered: Literal["", "median", "gaussian"] = ""
    volumes: Literal["", "two_phase", "in_sample", "volume", "volume_long"] = ""


ARMS: dict[str, Arm] = {
    "two_phase": Arm("phase1", volumes="two_phase"),
    "phase1": Arm("phase1"),
    "median": Arm("phase1", "median"),
    "gaussian": Arm("phase1", "gaussian"),
    "volume": Arm(volumes="volume"),
    "volume_long": Arm(volumes="volume_long"),
    "in_sample": Arm("phase1", volumes="in_sample"),
    "series": Arm("series"),
    "unet_params": Arm("unet_params"),
    "unet_macs": Arm("unet_macs"),
}
CLASSIFIERS = ("encoder", "convolutions", "pixels", "traces_before", "traces_after")  # on COVID-CT


def find(name: str) -> Arm:
    """The arm of a name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"params.arms: there is no arm {name}; choose from {', '.join(ARMS)}")
    return ARMS[name]


def nets(arms: list[str]) -> list[str]:
    """Names of the nets that these arms need, those of slices first, each once."""
    chosen = [find(name) for name in arms]
    found = [arm.slices for arm in chosen if arm.slices] + [arm.volumes for arm in chosen if arm.volumes]
    return list(dict.fromkeys(found))
