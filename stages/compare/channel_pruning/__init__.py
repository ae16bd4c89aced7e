"""Channel-pruning methods side by side: one net, the same data, seeds, MACs and sample passes.

Every method ends at one of three shares of the dense net's MACs after as many passes as the dense net has with its extra
ones: `train` makes the dense nets, `prune` applies DCP, DI, L1 and random order to them and fine-tunes, `explore` trains
CHEX and the thin net from scratch, `gate` trains ManiDP's gates. `table` gathers what they measured. The methods are the
papers' own code and settings; `settings` holds what is common.
"""
