"""EoiNAS: Exploiting Operation Importance for Differentiable Neural Architecture Search (Xie, Zhou, Kung; arXiv 1911.10511).

A net that holds every candidate operation is trained under Gumbel noise; every few epochs each edge gives up the operation
of least importance, an indicator that joins architecture weight, accuracy and number of draws, until one is left.

search.py      stage: one way of searching, from the random supernet to a genotype and its record
baselines.py   stage: genotypes that are not searched by gradient: random search of equal cost, a random one, printed ones
train.py       stage: a genotype's net trained on its own and measured
fidelity.py    stage: whether the indicator or the architecture weights say what an operation is worth
planted.py     stage: whether a candidate that carries nothing is given up first
figures.py     stage: the found cells as pictures
audit.py       stage: sizes of the printed genotypes, of the search space, of the schedule
shakedown.py   stage: the paper's own settings for a few steps
"""
