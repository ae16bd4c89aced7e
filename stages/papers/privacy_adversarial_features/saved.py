"""Maps on disk: safetensors by secret, arm, price and layer."""

from pathlib import Path

from stages.lib import artifacts, files
from stages.lib.errors import StageError
from stages.papers.privacy_adversarial_features.arms import PRICED, SINGLE
from stages.papers.privacy_adversarial_features.learning import Found
from stages.papers.privacy_adversarial_features.settings import Compress
from stages.papers.privacy_adversarial_features.tables import SLUG


def folder(scale: str, dataset: str, seed: int) -> Path:
    """Where the maps of a data set lie."""
    return files.RUNS / SLUG / "maps" / scale / dataset / str(seed)


def write(path: Path, found: dict[str, Found], params: Compress) -> Path:
    """Write the maps of a repetition, by secret; the prices are kept beside them."""
    tensors = {
        f"{secret}/{arm}/{price}/{layer}": tensor
        for secret, arms in found.items() for arm, maps in arms.items()
        for price, parts in enumerate(maps) for layer, tensor in enumerate(parts)
    }  # fmt: skip
    artifacts.save_tensors(path, tensors, {"prices": list(params.prices), "price": params.price})
    return path


def read(path: Path, secret: str) -> tuple[Found, int]:
    """Maps of one secret, and the place of the price at which arms are compared. StageError if they are damaged."""
    tensors, record = artifacts.load_tensors(path)
    found: Found = {}
    try:
        prices, place = record["prices"], record["prices"].index(record["price"])
        for arm in (*SINGLE[1:], *PRICED):
            found[arm] = []
            for price in range(len(prices) if arm in PRICED else 1):
                prefix = f"{secret}/{arm}/{price}/"
                layers = 3 if f"{prefix}1" in tensors else 1
                found[arm].append(tuple(tensors[f"{prefix}{layer}"] for layer in range(layers)))
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(f"{path}: lacks maps ({error}); run the stage compress again") from error
    return found, place
