"""Feature-map discriminant information, DI, for pruning and quantisation (Hou and Kung, arXiv 2005.13796; ICPR 2020).

A channel is worth what a ridge classifier on its layer's feature maps loses without it (`stages.lib.discriminant`);
`criteria` has that score beside those it is compared with, `greedy` removes channels under a budget of MACs, each time
in the layer that costs least accuracy on held-out training images, `structure` gives uniform and transferred widths,
`distillation` and `precision` are this project's reading of two things that the abstract names only. `generator` and
`recall` are the linear-Gaussian test of the criterion alone. `arms` lists what is compared; `train`, `prune`,
`finetune` and `channels` are the stage scripts.

For other comparisons on the same net, data and passes: `greedy.greedy(net, split, budget_macs, score_name, params,
repetition, device)` returns (thin net, record) with any score of `criteria.NAMES`, e.g. di, l1, random.
"""
