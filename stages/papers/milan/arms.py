"""What is compared: the target of the reconstruction, the decoder, and how the visible patches are drawn."""

from dataclasses import dataclass
from typing import Literal

from stages.lib.errors import StageError

TEACHERS = ("language", "image")  # those that the stage `teach` leaves


@dataclass(frozen=True)
class Arm:
    """One way to pre-train the student. `extra`: with the passes that the teacher costs."""

    target: Literal["language", "image", "untrained", "pixels", "labels", "none"]
    decoder: Literal["prompting", "full"] = "full"
    sampling: Literal["semantic", "random"] = "random"
    extra: bool = False

    @property
    def taught(self) -> bool:
        """Whether its target is a teacher's features."""
        return self.target in ("language", "image", "untrained")


ARMS: dict[str, Arm] = {
    "milan": Arm("language", "prompting", "semantic"),
    "random_mask": Arm("language", "prompting", "random"),
    "full_decoder": Arm("language", "full", "random"),
    "pixels": Arm("pixels"),
    "pixels_extra": Arm("pixels", extra=True),
    "image_teacher": Arm("image", "prompting", "random"),
    "untrained_teacher": Arm("untrained", "prompting", "random"),
    "none": Arm("none"),
    "supervised": Arm("labels"),
}
REFERENCE = "teacher"  # the language teacher itself, probed as the students are


def find(name: str) -> Arm:
    """The arm of a name; StageError that lists the arms where there is none."""
    if name not in ARMS:
        raise StageError(f"params.student.arms: there is no arm {name}; choose from {', '.join(ARMS)}")
    return ARMS[name]
