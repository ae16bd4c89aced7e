"""CLOSE: Curriculum Learning On the Sharing Extent towards better one-shot NAS (Zhou et al., ECCV 2022).

A supernet's cells hold K blocks of operation weights (`glow`) that no edge owns; a gate that reads the architecture as a
graph (`encoder`, `gates`) says which block each edge uses. Training starts with one block, the largest sharing extent, and
adds blocks that inherit weights step by step (`curriculum`, `inheritance`). `space` is NAS-Bench-201's cell space,
`supernet` its net, `training` and `scoring` the one-shot loop; `benchmark` trains a table of stand-alone nets at once, the
truth that rankings are set beside. `darts_net` is the DARTS space's net, `groups` and `nds_net` the spaces without
topology; `trials` and `shakedown` run the paper's own sizes for a few steps. `truth`, `supernets`, `rank`, `figures` and
`audit` are the stage scripts.
"""
