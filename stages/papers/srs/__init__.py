"""Soft-Root-Sign (Zhou, Li, Huo, Kung 2020, arXiv 2003.00547): a bounded, smooth activation with two trainable parameters.

    SRS(x) = x / (x / alpha + exp(-x / beta)),  0 < alpha, 0 < beta < e alpha

No official code is known. `activation.py` and `layer.py` are the function and its layer, `replace.py` puts it in place of every
ReLU of a net. The paper's three families of experiments: `classify.py` (and `train.py` for convolutional nets), `translate.py`,
`generate.py`.
"""
