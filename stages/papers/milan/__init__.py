"""MILAN: masked image pretraining on language assisted representation (Hou, Sun, Chen, Xie, Kung, arXiv 2208.06049, 2022).

A masked autoencoder that reconstructs what a frozen image encoder, trained with captions, makes of the whole image:
`tower` is that encoder (CLIP's), `contrast` its training on captions or on views of images, `checkpoint` reads one from disk
and `convert.py` prepares it; `sampling` draws the visible patches by its attention, `encoder` and `decoder` are the student
with the prompting decoder, `losses` and `pretraining` its training, `transfer` and `localisation` its evaluation, `scenes` the
generated data. `teach.py`, `pretrain.py` and `evaluate.py` are the stage scripts, `figures.py` draws.
"""
