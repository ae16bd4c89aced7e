"""CHEX: CHannel EXploration for CNN model compression (Hou et al., CVPR 2022).

A net is trained once, from random weights, while its channels are pruned and regrown: each layer keeps the filters with
the largest leverage scores (`leverage`), how many is decided over all layers by the BN scales (`allocation`), and a
share that falls by cosine comes back, drawn by what the kept filters cannot express, with the values it last had
(`regrowth`). `exploration` holds the masks and does this inside `stages.lib.training`; `arms` lists what is compared;
`explore.py` is the stage script, `shakedown` also builds torchvision's detectors with these masks.

For a comparison of methods on the same net, data and passes: `stages.papers.chex.runs.explore(net, split, params,
repetition, device, state) -> (thin net, record)`.
"""
