"""Greedy Network Enlarging (Liu et al., 2021): a net is enlarged stage by stage to where its MACs bring most accuracy.

A net is an `allocation`, alpha = (d, w, r): blocks and channels of every stage, side of the input. Budgets T_k form a
geometric ladder from the base's MACs to the target's. At every step each of the 2 S + 1 dimensions is enlarged by itself
to the budget (`growth`), the candidates, all of the same MACs, are scored by short trainings (`proxy`), and the best one
is enlarged further, so that the nets of the ladder contain one another. `exchange` moves MACs between stages at a fixed
budget (off by default). The baselines are `compound` scaling by one phi, one width factor, and random `draws`; `arms`
lists what is compared, `recipe` trains it. `ghostnet`, `efficientnet` and `plain` are the families of nets (`space`).

The authors released the nets that their search found, not the search: sections of it that the abstract leaves open (moves,
tolerance, evaluator, number of steps) are a reconstruction, which the params files mark. The nets themselves are exact:
parameters and MACs of the released S-GhostNets, GhostNet and EfficientNet B0 to B4 are audited to the digit.

Stages: `evaluate.py` (the candidates of a dimension at a step; it says why the fan-out is static), `choose.py`,
`sample.py`, `train.py`, `figures.py`, `audit.py`. A whole search in one process, with any scorer:
`growth.climb(space, search, evaluate) -> [alpha_0, ..., alpha_N]`.
"""
