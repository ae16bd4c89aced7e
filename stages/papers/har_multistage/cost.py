"""Parameters and MACs of extractors in closed form. 1 MAC = one multiply-add of a convolution or a linear map."""

import math

from stages.papers.har_multistage.settings import Net


def extractor_cost(shape: tuple[int, ...], net: Net) -> tuple[int, int]:
    """(parameters with affine normalisation, MACs of one window) of an extractor for inputs [C, T] or [C, M, M]."""
    dims, sizes = len(shape) - 1, list(shape[1:])
    kernel = net.stem_kernel_1d if dims == 1 else net.stem_kernel_2d
    weights = shape[0] * net.stem * kernel**dims
    parameters, macs = weights + 2 * net.stem, weights * math.prod(sizes)
    inputs = net.stem
    for outputs in net.widths:
        depthwise = outputs * sum(size**dims for size in net.kernels)
        weights = inputs * outputs + depthwise + len(net.kernels) * outputs * outputs
        norms = outputs * (2 + len(net.kernels))
        if inputs != outputs:
            weights, norms = weights + inputs * outputs, norms + outputs
        parameters, macs = parameters + weights + 2 * norms, macs + weights * math.prod(sizes)
        sizes, inputs = [size // 2 for size in sizes], outputs
    return parameters + inputs * net.feature + net.feature, macs + inputs * net.feature


def single_head(net: Net, classes: int) -> int:
    """Parameters of the head of stage 1."""
    return net.feature * classes + classes


def fusion_head(net: Net, branches: int, classes: int) -> int:
    """Parameters of the head over `branches` features."""
    return branches * net.feature * net.fusion + net.fusion + net.fusion * classes + classes


def merged_parameters(shapes: dict[str, tuple[int, ...]], net: Net, classes: int) -> int:
    """Parameters of the merged net."""
    return sum(extractor_cost(shape, net)[0] for shape in shapes.values()) + fusion_head(net, len(shapes), classes)


def widened(shape: tuple[int, ...], net: Net, classes: int, wanted: int) -> Net:
    """The net whose single branch and head come nearest to `wanted` parameters, all widths in proportion."""
    import dataclasses

    def of(eighths: int) -> Net:
        stem, *widths = (max(1, round(width * eighths / 8)) for width in (net.stem, *net.widths))
        return dataclasses.replace(net, stem=stem, widths=widths)

    def gap(found: Net) -> int:
        return abs(extractor_cost(shape, found)[0] + single_head(found, classes) - wanted)

    best, eighths = of(8), 8
    while gap(of(eighths + 1)) <= gap(best):
        eighths += 1
        best = of(eighths)
    return best
