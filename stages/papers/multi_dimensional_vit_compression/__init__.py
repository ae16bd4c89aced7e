"""Multi-dimensional vision transformer compression by a dependency-guided Gaussian-process search (Hou and Kung, CVPRW 2022).

Heads, neurons of the MLPs and tokens of a trained transformer are removed together, so that its FLOPs meet a budget.
Dependence on the net's own prediction (HSIC) says WHICH heads and neurons of a block go (`ranking`), the attention of the
class token which tokens are averaged into one (`tokens`), and a Gaussian process with expected improvement HOW MANY of
each (`space`, `gaussian_process`, `searching`). Candidates inherit the trained weights through gates (`gated`); the winner
is cut out (`surgery`) and fine-tuned. `cost` holds both FLOPs models. `train.py`, `search.py` and `finetune.py` are the
stage scripts, `figures.py` draws.

The method follows the official code, zejiangh/Multi-dimensional-vit-compression; its known defects are not copied, and
where that matters the docstrings say so.
"""
