"""FocusFormer: focusing on what we need via architecture sampler (Liu, Cai, Zhuang, arXiv 2208.10861, 2022).

AutoFormer trains one supernet with uniformly drawn sub-networks and then searches it by evolution; FocusFormer trains it
with what a sampler draws for resource budgets, and reads the architecture of a budget from that sampler. `space` and `cost`
hold the search space and its closed forms, `supernet` the entangled weights, `transformer` the stand-alone nets,
`sampler`, `rewards`, `estimator` and `reinforce` the architecture sampler, `training` both trainings, `choosing` the
searches, `deployment` the decode. `train.py`, `search.py` and `oracle.py` are the stage scripts, `figures.py` draws.

AutoFormer's part follows its official code. No code of FocusFormer is public: the sampler is a reconstruction from PNAG,
of the same authors' circle, and from ShiftNAS's description.
"""
