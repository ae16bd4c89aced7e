"""The parameters of a run, as params/augmented_shortcuts/*.yaml gives them, with their ranges. No torch here."""

from dataclasses import dataclass

from stages.lib.checks import at_least, between
from stages.lib.stage import StageError, field
from stages.lib.vit.settings import Recipe
from stages.papers.augmented_shortcuts.arms import find_arm


@dataclass
class Net:
    """The vision transformer that all arms share, and the width of the circulant blocks."""

    channels: int = field(help="channels that the images must have: 1 for grey, 3 for colour")
    patch: int = field(help="side of a patch in pixels")
    embed: int = field(help="width d of the tokens")
    depth: int = field(help="number of blocks")
    heads: int = field(help="attention heads")
    hidden: int = field(help="width of the MLP; the widened arm has as much more as the paths' parameters pay for")
    blocks: int = field(help="b: a projection is a grid of b x b circulant blocks; must divide embed")
    deviation: float = field(
        help="standard deviation of initial weights, 0.02 in the paper; 0 for Xavier's, better for narrow nets"
    )
    drop_path: float = field(help="stochastic depth of the last block, on attention and MLP only")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name in ("channels", "patch", "embed", "depth", "heads", "hidden", "blocks"):
            at_least(f"net.{name}", getattr(self, name), 1)
        if self.embed % self.blocks:
            raise StageError(f"params.net.blocks={self.blocks}: does not divide embed={self.embed}; choose a divisor")
        at_least("net.deviation", self.deviation, 0)
        between("net.drop_path", self.drop_path, 0.0, 1.0)


@dataclass
class Params:
    """Everything about the trainings on one data set."""

    net: Net = field(default_factory=Net)
    recipe: Recipe = field(default_factory=Recipe)
    average: float = field(help="decay of the weights' moving average, which is then the trained net; 0 for none")
    limit: int = field(help="training images, classes in equal shares; 0 for all")
    probe: int = field(help="images of the evaluation split on which diversity is measured")
    arms: list[str] = field(default_factory=list, help="what is compared, of the names in arms.py")
    untrained: list[str] = field(default_factory=list, help="arms that are only measured with their initial weights")

    def check(self) -> None:
        """StageError for a value out of range."""
        self.recipe.check()
        for name, least in (("limit", 0), ("probe", 1)):
            at_least(name, getattr(self, name), least)
        between("average", self.average, 0.0, 1.0)
        names = [*self.arms, *self.untrained]
        if not self.arms or len(set(names)) != len(names):
            raise StageError(f"params.arms and params.untrained, {', '.join(names)}: expected one or more different names")
        for name in names:
            find_arm(name)
