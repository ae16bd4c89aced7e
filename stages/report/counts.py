"""How many examples a prepare manifest counts: a number for each split, or sets of photographs with their copies."""


def images(count: int | dict) -> int:
    """Images of a split; of photographs the clean ones of all its sets, whose corrupted copies are not counted."""
    return sum(kinds["clean"] for kinds in count.values()) if isinstance(count, dict) else count


def sets(counts: dict) -> list[str]:
    """The sizes of the sets that photographs are tested on, as one text; nothing for other data."""
    test = counts.get("test", 0)
    return [", ".join(f"{name} {kinds['clean']}" for name, kinds in sorted(test.items()))] if isinstance(test, dict) else []
