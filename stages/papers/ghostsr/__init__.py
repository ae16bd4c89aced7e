"""GhostSR (Nie et al., arXiv 2101.08525): half of a layer's maps are convolved, the others are shifted copies of them.

`shift` and `ghost` are the module, `clustering` and `inheritance` take it from a pre-trained net, `conversion` says which
layers, `exported` is what remains for inference, `edsr`, `rdn`, `carn` and `imdn` are the nets.
"""
