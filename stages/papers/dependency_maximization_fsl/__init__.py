"""Few-shot learning by dependency maximisation and instance discriminant analysis (Hou, Kung, MLSP 2021, arXiv 2109.02820).

A backbone is trained once by plain classification of base classes and frozen. In a task of new classes a linear classifier
is fitted to the few labels while the dependence (HSIC) between unlabelled features and their predictions is maximised;
pseudo-labelled points whose deletion would hurt the class separability most join the labelled ones, round after round.
`backbone` and `pretraining` make the features, `objective` and `classifier` fit tasks (many at once), `instance` scores
points, `selection` and `selftraining` are the rounds, `arms` names what is compared. `train.py`, `features.py` and
`tasks.py` are the stage scripts, `figures.py` draws.

Follows the text and, where they differ, the official code of the journal version (zejiangh/Semi-FSL), whose peculiarities
are options.
"""
