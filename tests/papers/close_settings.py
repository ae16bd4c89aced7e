"""Settings that CLOSE's tests share."""

from stages.papers.close.settings import Supernets
from stages.papers.close.shape import EncoderShape, GateShape

GATE = GateShape(EncoderShape(8, 8, 8, [8, 8]), [16], 0.1, 5.0)
SUPERNETS = Supernets(
    epochs=4, batch=20, lr=0.05, momentum=0.9, weight_decay=5e-4, clip=5.0, patience=1, factor=0.5, restart=3,
    schedule=[1, 2, 3], wit_from="prev", gate_at_level="inherit", checkpoints=[1, 4],
)  # fmt: skip
