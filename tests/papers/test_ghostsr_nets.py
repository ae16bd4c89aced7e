"""GhostSR's backbones, conversion rules, sizes and exported nets."""

import dataclasses

import pytest
import torch

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.restoration.blocks import EDSR
from stages.papers.ghostsr import conversion, cost, experiment, saved
from stages.papers.ghostsr.arms import BEFORE, TRAINED, chosen
from stages.papers.ghostsr.ghost import GhostOptions
from stages.papers.ghostsr.saved import Form
from stages.papers.ghostsr.settings import Backbone, Ghost

SHAPES = {
    "edsr": Backbone("edsr", 2, 12, 3, res_scale=0.1), "rdn": Backbone("rdn", 2, 8, 2, 3), "carn": Backbone("carn", 2, 8, 2),
    "imdn": Backbone("imdn", 2, 16, 2), "skip": Backbone("edsr", 2, 8, 1, bicubic_skip=True, unit=255.0),
}  # fmt: skip
GHOST = Ghost(0.5, 1, False, 10.0, 0.97, 6000.0)
by_shape = pytest.mark.parametrize("name", SHAPES)
torch.set_num_threads(1)


def image(side: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, side, side + 1, generator=torch.Generator().manual_seed(seed)) * 255


@pytest.mark.parametrize(("name", "factor", "options"), [
    ("edsr", 2, GhostOptions()), ("edsr", 4, GhostOptions(0.25, cheap="depthwise")), ("rdn", 3, GhostOptions(0.75, per_channel=True)),
    ("rdn", 2, GhostOptions()), ("carn", 4, GhostOptions()), ("carn", 3, GhostOptions(1.0)), ("imdn", 3, GhostOptions()),
])  # fmt: skip
def test_closed_form_is_what_the_net_has_and_does(name, factor, options):
    shape = dataclasses.replace(SHAPES[name], factor=factor)
    x = image()
    parts = cost.dense(shape, 9, 10)
    net = Form(shape, "ghost", options).build()
    found = cost.total(cost.ghost(parts, options))
    assert macs.parameters(net) == found.parameters + (cost.logits(parts, options) if options.cheap == "shift" else 0)
    sliced = conversion.exported(net)
    assert (macs.parameters(sliced), macs.count(sliced, x)) == (found.parameters, found.macs)
    dense = Form(shape).build()
    assert dense.eval()(x).shape == (1, 3, 9 * factor, 10 * factor)
    assert (macs.parameters(dense), macs.count(dense, x)) == (cost.total(parts).parameters, cost.total(parts).macs)
    converted = {part.layer.name for part in parts if part.converted}
    names = [one.replace(".parts.", ".") for one in conversion.convertible(dense)]
    assert converted == {one.replace("body.parts", "body") for one in names}


@by_shape
def test_exported_nets_have_the_bits_of_trained_ones(name):
    torch.manual_seed(1)
    dense = Form(SHAPES[name]).build()
    for options in (GhostOptions(), GhostOptions(0.3, per_channel=True), GhostOptions(estimator="gumbel_softmax")):
        net = conversion.converted(dense, options, "kmeans", "matched", 0).eval()
        sliced = experiment.checked_export(net, image()[0])
        moved = [pair for module in conversion.sliced_layers(sliced).values() for pair in module.offsets if pair != (0, 0)]
        assert moved and torch.equal(sliced(image()), net(image()))


@torch.no_grad()
@pytest.mark.parametrize("name", ["edsr", "rdn", "carn", "imdn"])
def test_matched_inheritance_is_nearer_to_the_dense_net_than_scrambled(name):
    torch.manual_seed(1)
    dense = Form(dataclasses.replace(SHAPES[name], res_scale=1.0)).build().eval()
    gaps = []
    for inheritance in ("matched", "scrambled"):
        net = conversion.converted(dense, GhostOptions(1.0), "random", inheritance, 0).eval()
        gaps.append(float((net(image()) - dense(image())).abs().mean()))
    # With all filters kept, nothing but the order can be lost; here it is the identity.
    assert gaps == pytest.approx([0.0, 0.0], abs=1e-3)
    options = GhostOptions(0.75, estimator="frozen", logits="centre")
    gaps = [
        sum(
            float((conversion.converted(dense, options, "kmeans", one, seed).eval()(image()) - dense(image())).abs().mean())
            for seed in range(3)
        )
        for one in ("matched", "scrambled")
    ]
    assert gaps[0] < gaps[1]


def test_edsr_converts_the_blocks_and_nothing_else():
    names = conversion.convertible(EDSR(8, 3, 2))
    assert names == [f"body.{i}.conv{k}" for i in range(3) for k in (1, 2)]


def test_narrow_blocks_have_exactly_the_size_of_ghost_blocks():
    shape = SHAPES["edsr"]
    narrow, ghost = (experiment.costs(experiment.form_of(TRAINED[arm], shape, GHOST), 30, 40) for arm in ("narrow", "ghost"))
    assert narrow == ghost
    net = experiment.form_of(TRAINED["narrow"], shape, GHOST).build()
    assert (macs.parameters(net), macs.count(net, image())) == (narrow.parameters, narrow.macs * 90 // 1200)


def test_the_uniformly_narrow_net_has_the_nearest_number_of_parameters():
    shape = Backbone("edsr", 2, 32, 4)
    form = experiment.form_of(TRAINED["uniform"], shape, GHOST)
    ghost = experiment.costs(experiment.form_of(TRAINED["ghost"], shape, GHOST), 8, 8).parameters
    assert ghost == 84995 and form.shape.features == 27 and experiment.costs(form, 8, 8).parameters == 87132


def test_narrow_nets_of_other_backbones_are_refused():
    with pytest.raises(StageError, match="edsr only"):
        experiment.form_of(TRAINED["narrow"], SHAPES["imdn"], GHOST)
    with pytest.raises(StageError, match="edsr only"):
        conversion.narrowed(Form(SHAPES["carn"]).build(), 0.5)
    with pytest.raises(StageError, match="no convolution to convert"):
        conversion.converted(torch.nn.Conv2d(3, 3, 3), GhostOptions(), "kmeans", "none", 0)


@pytest.mark.parametrize("arm", [*TRAINED, *BEFORE])
def test_every_arm_is_saved_and_loaded(arm, tmp_path):
    shape, one = SHAPES["skip"], {**TRAINED, **BEFORE}[arm]
    form = experiment.form_of(one, shape, GHOST)
    net = experiment.start(one, form, experiment.fresh(shape, 3, torch.device("cpu")), 3).eval()
    saved.save(tmp_path / "net.safetensors", net, form)
    again, found = saved.load(tmp_path / "net.safetensors")
    assert found == form and torch.equal(again(image()), net(image()))
    sliced = conversion.exported(net)
    saved.save(tmp_path / "out.safetensors", sliced, form.exported())
    assert torch.equal(saved.load(tmp_path / "out.safetensors")[0](image()), net(image()))


def test_shift_arms_of_a_repetition_start_alike():
    shape = SHAPES["edsr"]
    dense = experiment.fresh(shape, 3, torch.device("cpu"))
    found = [
        conversion.exported(experiment.start(TRAINED[arm], experiment.form_of(TRAINED[arm], shape, GHOST), dense, 3))
        for arm in ("ghost", "drawn")
    ]
    assert torch.equal(found[0].eval()(image()), found[1].eval()(image()))
    assert experiment.offset_figures({"ghost": found[0], "drawn": found[1]})["ghost"]["moved"] == 0.0


def test_unknown_arms():
    with pytest.raises(StageError, match="there is no arm wide"):
        chosen(["ghost", "wide"])


@pytest.mark.parametrize(("words", "said"), [
    ({"name": "vdsr"}, "expected one of edsr"), ({"factor": 5}, "expected one of 2, 3, 4"), ({"blocks": 0}, "1 or more"),
    ({"name": "rdn"}, "convs"), ({"name": "imdn", "features": 10}, "multiple of 4"), ({"unit": 0.0}, "above 0"),
])  # fmt: skip
def test_impossible_backbones(words, said):
    with pytest.raises(StageError, match=said):
        dataclasses.replace(SHAPES["edsr"], **words).check()
