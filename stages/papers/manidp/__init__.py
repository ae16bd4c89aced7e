"""Manifold regularized dynamic network pruning, ManiDP (Tang et al., CVPR 2021).

Small gates predict each channel's saliency from the layer's input; a layer computes only the channels whose saliency
reaches a threshold that comes from the whole training set (`gates`, `gated`, `thresholds`). The sparsity pressure on an
image falls with its loss, and the images' similarities in the saliencies are aligned with those in the features
(`losses`). `sliced` executes the active channels alone, `cost` counts each image's MACs. `nets` holds the CIFAR nets,
`arms` what is compared with ManiDP; `train` and `gate` are the stage scripts.

For comparisons of methods on one net, data set and number of passes: `experiment.gate_and_train(dense_net, split,
params, repetition, device) -> (net, record)` and `experiment.measure(net, split, device) -> {accuracy, macs, ...}`.
"""
