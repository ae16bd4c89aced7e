"""Augmented Shortcuts for Vision Transformers (Tang et al., NeurIPS 2021).

Beside every identity shortcut of a transformer lie T parallel paths, T_i(Z) = GELU(Z Theta_i), token by token
(`shortcuts`), with block-circulant Theta_i (`circulant`), whose products are taken by FFT, densely, or by a partial
Fourier transform made of matrix products (`partial`), whichever is fastest for the width. `net` is the whole Aug-ViT,
`arms` what is compared. `diversity` measures how different the tokens of a layer are, the paper's r(Z) and its relative
form, and holds the inequalities that its theory rests on.

The official code differs from the paper's formulas: paths take LN(x), not x; with T = 2 each sum is multiplied by 3/4; the
modes with T = 1 have no activation; circulant maps run as dense ones. All are options of an `Arm`.

Stages: `train.py` (all arms of a seed), `figures.py`, `audit.py`, `shakedown.py`.
"""
