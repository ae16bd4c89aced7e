"""HCVRD: a benchmark for large-scale human-centered visual relationship detection (Zhuang, Wu, Shen, Reid, van den Hengel,
AAAI 2018), and its webly-supervised model.

A category is a whole triplet (subject, predicate, object). `relations` reads the prepared set, `boxes` handles boxes and
regions, `backbone` gives the features that all arms share; `attention` makes evidence of a label from bags of noisy web
images, `metric` compares a pair of boxes with it, `context` is the context-aware peer; `nets` and `training` are the arms,
`scoring` and `recall` measure them, `experiment` is one repetition. The body of the paper could not be read: the model is put
together from its digest and from the code of the two works it builds on. `train.py` is the stage script, `figures.py` draws.
"""
