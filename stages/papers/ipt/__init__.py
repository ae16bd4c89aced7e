"""IPT: pre-trained image processing transformer (Chen et al., CVPR 2021).

One transformer with a head, a tail and a query for each task is pre-trained on photographs that are corrupted while it
trains, with a contrastive term between tokens, and then fine-tuned to one task. `attention`, `body` and `network` hold the
net, `initialisation` its start, `cost` its closed forms, `contrastive` both forms of the term and `closeness` what it is
for; `pairs` makes the corrupted patches, `training` steps, `inference` restores images of any size, `peers` are
convolutional nets of equal size. `pretrain.py`, `finetune.py` and `scratch.py` are the stage scripts, `experiment` and
`trials` what they share, `figures.py` draws.

The net follows the official inference code, the training the authors' MindSpore code, except where that applies the tail to
the head's features alone, by which the body would not learn from the images.
"""
