"""The parameters of a run, as params/hcvrd/*.yaml gives them, with their ranges. No torch here: wrong input is fast."""

import math
from dataclasses import dataclass

from stages.lib.checks import above, at_least, between, one_of, share
from stages.lib.stage import StageError, field
from stages.papers.hcvrd.arms import find


@dataclass
class Backbone:
    """The convolutional net whose feature maps all arms share."""

    channels: list[int] = field(default_factory=list, help="channels of its layers")
    strides: list[int] = field(default_factory=list, help="strides of its layers")
    region: int = field(help="side in pixels to which a union box is resampled")
    epochs: int = field(help="passes over the annotated training relations: subject, predicate and object are learnt")
    batch: int = field(help="regions a step")
    lr: float = field(help="learning rate of AdamW, cosine to 0")
    weight_decay: float = field(help="decoupled weight decay")
    palette: float = field(help="largest change of a channel's gain, an augmentation")

    def check(self) -> None:
        """StageError for a value out of range."""
        if not self.channels or len(self.channels) != len(self.strides) or min([*self.channels, *self.strides]) < 1:
            raise StageError(
                f"params.backbone.channels={list(self.channels)}, strides={list(self.strides)}: expected one stride a layer"
            )
        for name, least in (("region", 8), ("epochs", 1), ("batch", 2)):
            at_least(f"backbone.{name}", getattr(self, name), least)
        above("backbone.lr", self.lr)
        between("backbone.weight_decay", self.weight_decay, 0.0, math.inf)
        between("backbone.palette", self.palette, 0.0, 1.0)


@dataclass
class Metric:
    """Regions and bags in one space, and how their distance is learnt."""

    width: int = field(help="k, dimensions of the common space")
    hidden: int = field(help="width of the hidden layers of both encoders")
    cells: int = field(help="a region's map is averaged to so many rows and columns")
    bag: int = field(help="images of a bag; arms without grouping have as many images a step in bags of one")
    bags: int = field(help="bags a step")
    loss: str = field(help="softmax over -d / temperature to all prototypes of the step, or triplet")
    temperature: float = field(help="of the softmax, in training and scoring")
    margin: float = field(help="of the triplet loss")
    web_weight: float = field(help="weight of the loss of the web classifier")
    metric_weight: float = field(help="weight of the loss of the metric")
    seen_share: float = field(help="share of the classifier of seen labels in their scores; the rest is the metric's")

    def check(self) -> None:
        """StageError for a value out of range."""
        for name, least in (("width", 2), ("hidden", 1), ("cells", 1), ("bag", 1), ("bags", 2)):
            at_least(f"metric.{name}", getattr(self, name), least)
        one_of("metric.loss", self.loss, ("softmax", "triplet"))
        above("metric.temperature", self.temperature)
        for name in ("margin", "web_weight", "metric_weight"):
            between(f"metric.{name}", getattr(self, name), 0.0, math.inf)
        share("metric.seen_share", self.seen_share)


@dataclass
class Descent:
    """AdamW with a cosine to 0; all arms have the same steps."""

    steps: int = field(help="steps of every arm")
    batch: int = field(help="annotated regions a step, labels drawn evenly")
    lr: float = field(help="learning rate")
    weight_decay: float = field(help="decoupled weight decay")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("descent.steps", self.steps, 1)
        at_least("descent.batch", self.batch, 2)
        above("descent.lr", self.lr)
        between("descent.weight_decay", self.weight_decay, 0.0, math.inf)


@dataclass
class Detector:
    """What stands for the detector: annotated boxes and classes, made uncertain."""

    jitter: float = field(help="largest shift of a box's side, of its length")
    missed: float = field(help="share of boxes that are not found")
    certainty: float = field(help="logit of the true class; the noise of all logits has deviation 1")
    versions: int = field(help="jittered regions of each training relation")

    def check(self) -> None:
        """StageError for a value out of range."""
        between("detector.jitter", self.jitter, 0.0, 0.5)
        between("detector.missed", self.missed, 0.0, 1.0)
        at_least("detector.certainty", self.certainty, 0.0)
        at_least("detector.versions", self.versions, 1)


@dataclass
class Context:
    """The context-aware peer."""

    words: int = field(help="dimensions of a word's vector; hashed, for published vectors are not at hand")
    rank: int = field(help="dimensions of the context q; 50 in its code")

    def check(self) -> None:
        """StageError for a value out of range."""
        at_least("context.words", self.words, 1)
        at_least("context.rank", self.rank, 1)


@dataclass
class Scoring:
    """How predictions are listed and counted."""

    recall_at: list[int] = field(default_factory=list, help="K of recall, predictions of an image")
    per_pair: int = field(help="labels that a pair of boxes may give; 0 for all")
    overlap: float = field(help="least intersection over union of a match")

    def check(self) -> None:
        """StageError for a value out of range."""
        if not self.recall_at or min(self.recall_at) < 1 or sorted(set(self.recall_at)) != list(self.recall_at):
            raise StageError(f"params.scoring.recall_at={list(self.recall_at)}: expected numbers from 1 on in ascending order")
        at_least("scoring.per_pair", self.per_pair, 0)
        share("scoring.overlap", self.overlap, 0.01)


@dataclass
class Params:
    """A section of params/hcvrd/<scale>.yaml."""

    arms: list[str] = field(default_factory=list, help="arms that are trained and measured")
    backbone: Backbone = field(default_factory=Backbone)
    metric: Metric = field(default_factory=Metric)
    descent: Descent = field(default_factory=Descent)
    detector: Detector = field(default_factory=Detector)
    context: Context = field(default_factory=Context)
    scoring: Scoring = field(default_factory=Scoring)

    def check(self) -> None:
        """StageError for an arm that does not exist, or none, or one twice."""
        for name in self.arms:
            find(name)
        if not self.arms or len(set(self.arms)) != len(self.arms):
            raise StageError(f"params.arms={list(self.arms)}: expected one or more different arms")
