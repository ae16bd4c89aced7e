"""The arms: single linear maps, maps for each privacy price, and their ends without a price."""

from dataclasses import dataclass

LINEAR, KERNEL, HSIC = "linear", "kernel", "hsic"
MINIMAX, CONFUSION, INFORMATION = "minimax", "confusion", "information"


@dataclass(frozen=True)
class Supervised:
    """Criteria of the utility and of the secret, and whether the map is a net."""

    utility: str
    secret: str
    net: bool


@dataclass(frozen=True)
class Played:
    """What the map plays for against the adversaries, and whether it is a net."""

    goal: str
    net: bool


SINGLE = ("raw", "random", "pca", "pls", "dca", "desensitised", "utility_privacy_lda")
SUPERVISED = {
    "di_linear": Supervised(LINEAR, LINEAR, False),
    "kdi_linear": Supervised(KERNEL, KERNEL, False),
    "kdi_mixed": Supervised(LINEAR, KERNEL, False),
    "hsic_linear": Supervised(HSIC, HSIC, False),
    "kdi_net": Supervised(KERNEL, KERNEL, True),
}
PLAYED = {
    "minimax_linear": Played(MINIMAX, False),
    "confusion_linear": Played(CONFUSION, False),
    "minimax_net": Played(MINIMAX, True),
    "confusion_net": Played(CONFUSION, True),
    "closed_adversary_net": Played(INFORMATION, True),
}
PRICED = ("ruca", *SUPERVISED, "minimax_filter", *PLAYED)
FREE = {"kdi_linear_free": "kdi_linear", "kdi_net_free": "kdi_net", "confusion_net_free": "confusion_net"}
ARMS = (*SINGLE, *PRICED, *FREE)
