"""Where a net can be pruned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A prunable place: the INPUT channels of `consumer`, and with them the filters of `producer` and the rows of
    `norm`.

    All three are module paths (`model.get_submodule(site.consumer)`); `block` is the index of the block that holds
    the consumer.
    In a plain net the producer stands in the block before.
    """

    name: str
    block: int
    producer: str
    norm: str
    consumer: str
