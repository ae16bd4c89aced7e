"""Pictures side by side: corrupted, restored by several methods, clean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from matplotlib.figure import Figure

INCHES = 1.9  # of a cell


def picture_grid(
    rows: Sequence[Sequence[numpy.ndarray]],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]] = (),
    names: Sequence[str] = (),
) -> Figure:
    """A figure of images uint8 [H, W, 3], one row a scene and one column a method; pixels are shown as squares.

    Args:
        rows: The images; those of a row may differ in size and are shown equally large.
        columns: Titles above the first row.
        captions: A line below each image, such as its PSNR.
        names: A word to the left of each row.
    """
    from matplotlib import pyplot

    shape = (INCHES * len(columns), (INCHES + (0.22 if captions else 0)) * len(rows) + 0.3)
    figure, axes = pyplot.subplots(len(rows), len(columns), figsize=shape, squeeze=False, layout="constrained")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axis = axes[i][j]
            axis.imshow(image, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            for edge in axis.spines.values():
                edge.set_visible(False)
            if captions:
                axis.set_xlabel(captions[i][j], fontsize="small")
            if i == 0:
                axis.set_title(columns[j], fontsize="medium")
        if names:
            axes[i][0].set_ylabel(names[i])
    return figure
