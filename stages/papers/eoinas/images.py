"""The pictures: digits at random places of a canvas, the halves of a search, cutout."""

import dataclasses

import torch
from torch import Tensor

from stages.lib import data
from stages.lib.data import Split
from stages.lib.dense import augmentation, limited
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed
from stages.lib.training import Augment
from stages.papers.eoinas.settings import Images

PLACES = 1911  # seed of places and noise: the data are the same for all arms and repetitions


def load(dataset: str, split: str, settings: Images) -> Split:
    """A prepared split as the settings want it: limited (training only), on its canvas, with noise."""
    settings.check()
    found = data.load(dataset, split)
    if split == "train":
        found = limited(found, settings.limit, 0)
    generator = torch.Generator().manual_seed(derive_seed(PLACES, split))
    if settings.canvas:
        found = placed(found, settings.canvas, generator)
    if settings.noise:
        deviation = settings.noise / torch.tensor(found.std, dtype=torch.float32).view(1, -1, 1, 1)
        found = dataclasses.replace(found, x=found.x + deviation * torch.randn(found.x.shape, generator=generator))
    return found


def placed(split: Split, side: int, generator: torch.Generator) -> Split:
    """Each picture at a random place of a black canvas [C, side, side]."""
    count, channels, height, width = split.x.shape
    if side < max(height, width):
        raise StageError(f"images.canvas={side}: expected 0 or a side of {max(height, width)} or more, that of the pictures")
    black = (torch.zeros(1) - torch.tensor(split.mean)) / torch.tensor(split.std)
    canvas = black.view(1, -1, 1, 1).expand(count, channels, side, side).clone()
    rows = torch.randint(0, side - height + 1, (count,), generator=generator)
    columns = torch.randint(0, side - width + 1, (count,), generator=generator)
    for picture, row, column, image in zip(canvas, rows.tolist(), columns.tolist(), split.x, strict=True):
        picture[:, row : row + height, column : column + width] = image
    return dataclasses.replace(split, x=canvas)


def halves(split: Split) -> tuple[Split, Split]:
    """(D_w, D_a): the pictures that train weights and those that train architecture parameters; disjoint, stratified."""
    size = len(split) // 2
    index = data.stratified(split.y.numpy(), {"weights": size, "architecture": size}, derive_seed(PLACES, "halves") % 2**32)
    return tuple(split.take(torch.from_numpy(index[name])) for name in ("weights", "architecture"))


def cutout(x: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """x [N, C, H, W] with a square of side `length` set to 0 in each picture; it may reach over the border."""
    count, _, height, width = x.shape
    row = torch.randint(0, height, (count, 1), generator=generator) - length // 2
    column = torch.randint(0, width, (count, 1), generator=generator) - length // 2
    rows, columns = torch.arange(height) - row, torch.arange(width) - column
    hidden = ((rows >= 0) & (rows < length)).unsqueeze(2) & ((columns >= 0) & (columns < length)).unsqueeze(1)
    return x.masked_fill(hidden.unsqueeze(1).to(x.device), 0.0)


def augment(pad: int, flip: bool, length: int) -> Augment | None:
    """Crop and mirror, then cutout of side `length`, as asked; None leaves pictures as they are."""
    moved = augmentation(pad, flip)
    if not length:
        return moved
    return lambda x, generator: cutout(moved(x, generator) if moved else x, length, generator)
