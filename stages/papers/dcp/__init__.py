"""Discrimination-aware channel pruning, DCP (Zhuang et al., NeurIPS 2018), and kernel pruning, DKP (TPAMI).

Auxiliary losses at intermediate depths (`pivots`, `heads`, `aux_training`) make a net's middle features classify;
each layer then keeps the input channels, or the 2-D kernels, whose gradient of reconstruction plus classification
loss is largest, chosen greedily from an empty layer (`problem`, `selection`, `kernels`). `arms` lists what is compared
with DCP, `prunes` walks a net; `train`, `prune`, `finetune` and `nuisance` are the stage scripts.
"""
