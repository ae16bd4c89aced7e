"""FedPU: federated learning with positive and unlabeled data (Lin et al., ICML 2022, arXiv 2106.10904).

Every client labels a part of the images of a few classes; its unlabelled images come from several classes, most of which it
has no label for. `partition` and `fedmatch` divide the data, `clients` holds what one client knows, `risk` the corrected
multi-class PU risk, `official` the forms of the official code, `peers` what they are compared with, `objectives` all by name.
`local` is a client's update, `server` drawing, averaging and counting bytes, `rounds` the loop in one process, `experiment` a
run's figures. `federate.py` is the stage; `client.py`, `aggregate.py` and `parity.py` are the same rounds with a stage for
each client.

Equations follow the specification's derivation, which agrees with the structure of the official code
(littleSunlxy/FedPU-torch); the paper's own tables could not be read.
"""
