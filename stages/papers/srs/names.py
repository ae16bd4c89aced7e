"""Names of the activations and of the arms of each experiment. No torch here: a wrong name answers at once."""

from stages.lib.errors import StageError

ACTIVATIONS = (
    "relu", "leaky_relu", "prelu", "softplus", "elu", "selu", "swish", "gelu", "tanh", "srs", "srs_frozen", "srs_channels",
)  # fmt: skip


def find_activation(name: str) -> str:
    """The name itself; StageError that lists the activations where there is none of that name."""
    if name not in ACTIVATIONS:
        raise StageError(f"activation {str(name)[:40]}: there is none of that name; choose of {', '.join(ACTIVATIONS)}")
    return name


def find_arms(names: list[str], allowed: tuple[str, ...] = ACTIVATIONS) -> tuple[str, ...]:
    """The names; StageError if there is none, one comes twice or one is not allowed."""
    if not names or len(set(names)) != len(names):
        raise StageError(f"params.arms={list(names)}: expected one or more different activations")
    for name in names:
        if find_activation(name) not in allowed:
            raise StageError(f"params.arms: {name} cannot be used here; choose of {', '.join(allowed)}")
    return tuple(names)
