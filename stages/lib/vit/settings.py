"""DeiT's recipe as a params file gives it, with its ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass

from stages.lib.stage import StageError, field


@dataclass
class Recipe:
    """AdamW and what it sees (Touvron et al. 2021)."""

    epochs: int = field(help="passes over the training images")
    batch: int = field(help="images a step")
    lr: float = field(help="learning rate after warm-up; it falls by cosine")
    warmup: int = field(help="passes of linear warm-up")
    lr_start: float = field(help="learning rate at the start of the warm-up")
    lr_end: float = field(help="learning rate at the end of the run")
    weight_decay: float = field(help="of matrices; biases, norms, positions and the class token have none")
    clip: float = field(help="greatest norm of all gradients together, 0 for no limit")
    smoothing: float = field(help="label smoothing, in [0, 1)")
    mixup: float = field(help="alpha of mixup's Beta distribution, 0 for none")
    cutmix: float = field(help="alpha of CutMix's Beta distribution, 0 for none; a batch has one of the two, at even odds")
    erase: float = field(help="probability of random erasing")
    pad: int = field(help="pixels of padding before a random crop, 0 for none")
    flip: bool = field(help="mirror half of the images")

    def check(self, key: str = "params.recipe") -> None:
        """StageError for a value out of range; `key` is where the recipe stands in the params file."""
        for name, least in (("epochs", 1), ("batch", 1), ("warmup", 0), ("pad", 0)):
            if getattr(self, name) < least:
                raise StageError(f"{key}.{name}={getattr(self, name)}: expected {least} or more")
        for name in ("lr", "lr_start", "lr_end", "weight_decay", "clip", "mixup", "cutmix"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise StageError(f"{key}.{name}={getattr(self, name)}: expected a finite number of 0 or more")
        if not 0.0 <= self.smoothing < 1.0:
            raise StageError(f"{key}.smoothing={self.smoothing}: expected a number in [0, 1)")
        if not 0.0 <= self.erase <= 1.0:
            raise StageError(f"{key}.erase={self.erase}: expected a probability")
        if self.warmup >= self.epochs:
            raise StageError(f"{key}.warmup={self.warmup}: expected fewer passes than {key}.epochs={self.epochs}")
