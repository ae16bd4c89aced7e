"""Image restoration: photographs, corruptions, measures, tiled and self-ensembled inference, EDSR's blocks.

Images are RGB with values in 0..255: uint8 arrays [H, W, 3] on disk, float tensors [..., 3, H, W] in computations.
"""
