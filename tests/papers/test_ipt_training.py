"""IPT's contrastive term in both forms, corrupted pairs, rates and clipping, inference of whole images."""

import dataclasses
import math

import numpy
import pytest
import torch
from torch import nn

from stages.lib.errors import StageError
from stages.lib.restoration.patches import PairedPatches
from stages.lib.restoration.sets import Pair, Photograph, scaled_pair, tensor
from stages.papers.ipt import inference, training
from stages.papers.ipt.closeness import closeness
from stages.papers.ipt.contrastive import code_form, contrastive, paper_form
from stages.papers.ipt.pairs import Paired, Synthesis, corrupt, patch, patches
from stages.papers.ipt.settings import Measurement, Recipe
from stages.papers.ipt.tasks import OFFICIAL, task
from tests.papers.test_ipt_net import CONTRAST, colours, net_of

torch.set_num_threads(1)
RECIPE = Recipe(steps=4, batch=2, lr=1e-3, lr_cnn=1e-3, schedule="cosine", milestones=[], gamma=0.5, clip=0.0)
MEASURE = Measurement(crop=0, stride=6, margin=3, chunk=8, ensemble=False, kept=1)


def photograph(seed: int, height: int = 60, width: int = 50) -> Photograph:
    return Photograph(f"p{seed}", numpy.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(numpy.uint8))


def synthesis(tasks=OFFICIAL, repetition: int = 0, layers: int = 1) -> Synthesis:
    rain = [Photograph(f"r{i}", numpy.repeat(photograph(9 + i).pixels[..., :1] // 3, 3, 2)) for i in range(layers)]
    return Synthesis([photograph(1), photograph(2)], rain, tasks, 12, repetition)


# --- the contrastive term -------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_equal_tokens_give_the_logarithm_of_all_others(tau):
    tokens = torch.ones(3, 4, 5)
    assert float(code_form(tokens, tau)) == pytest.approx(math.log(3 * 4 - 1), rel=1e-5)
    assert float(paper_form(tokens)) == pytest.approx(math.log(2 * 4), rel=1e-5)


def test_forms_are_the_double_sums_that_they_are_printed_as():
    tokens = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    f = nn.functional.normalize(tokens, dim=2)
    everything, paper, code = [(j, i) for j in range(3) for i in range(4)], 0.0, 0.0
    d = {(a, b): float(f[a] @ f[b]) for a in everything for b in everything}
    for j, i in everything:
        others = sum(math.exp(d[(j, i), b]) for b in everything if b[0] != j)
        paper += sum(-math.log(math.exp(d[(j, i), (j, k)]) / others) for k in range(4)) / (3 * 16)
        below = sum(math.exp(d[(j, i), b] / 0.5) for b in everything if b != (j, i))
        code += sum(-math.log(math.exp(d[(j, i), (j, k)] / 0.5) / below) for k in range(4) if k != i) / (12 * 3)
    assert float(paper_form(tokens)) == pytest.approx(paper, rel=1e-5)
    assert float(code_form(tokens, 0.5)) == pytest.approx(code, rel=1e-5)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_the_term_falls_as_images_part_and_knows_no_scale_and_no_order(form):
    tokens = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(0))
    value = float(contrastive(tokens, form, 0.07, 0))
    apart = torch.eye(3, 12)[:, None].expand(3, 4, 12)
    assert float(contrastive(apart, form, 0.07, 0)) < value
    assert float(contrastive(7 * tokens, form, 0.07, 0)) == pytest.approx(value, rel=1e-5)
    assert float(contrastive(tokens[[2, 0, 1]], form, 0.07, 0)) == pytest.approx(value, rel=1e-5)
    assert closeness(apart) == pytest.approx(1.0) and closeness(torch.ones(3, 4, 5)) == pytest.approx(0.0)
    with pytest.raises(StageError, match="1 images of 4 tokens"):
        closeness(apart[:1])


def test_one_image_is_enough_for_the_code_form_alone():
    tokens = torch.randn(1, 4, 5)
    assert code_form(tokens, 0.07).isfinite()
    with pytest.raises(StageError, match="one image"):
        paper_form(tokens)


def test_fewer_tokens_take_part_at_the_same_places_of_all_images():
    tokens = torch.arange(6.0)[None, :, None].expand(2, 6, 3) + torch.randn(2, 6, 3) * 0.1
    some = contrastive(tokens, "code", 0.07, 4, torch.Generator().manual_seed(3))
    places = torch.randperm(6, generator=torch.Generator().manual_seed(3))[:4]
    assert float(some) == pytest.approx(float(code_form(tokens[:, places], 0.07)))


# --- pairs ----------------------------------------------------------------------------------------


def test_a_batch_follows_from_repetition_and_step_and_all_tasks_come_up():
    one, again, other = synthesis(), synthesis(), synthesis(repetition=1)
    drawn = []
    for step in range(40):
        name, corrupted, clean = one.batch(step, 2)
        assert corrupted.shape == (2, 3, 12, 12) and clean.shape[2] == 12 * task(name).scale
        for values in (corrupted, clean):
            assert values.dtype == torch.float32 and values.min() >= 0 and values.max() <= 255
        same = again.batch(step, 2)
        assert same[0] == name and torch.equal(same[1], corrupted) and torch.equal(same[2], clean)
        drawn.append(name)
    assert set(drawn) == set(OFFICIAL) and [other.batch(step, 1)[0] for step in range(40)] != drawn


def test_what_is_corrupted_by_nothing_is_clean_and_a_flat_image_stays_flat():
    clean, dry = colours(), [Photograph("dry", numpy.zeros((20, 20, 3), numpy.uint8))]
    draws = torch.Generator().manual_seed(0)
    assert torch.equal(corrupt(clean, task("derain"), dry, draws), clean)
    assert torch.equal(corrupt(clean, dataclasses.replace(task("denoise30"), sigma=0.0), (), draws), clean)
    for name in ("sr2", "sr3", "sr4"):
        assert torch.equal(corrupt(torch.full((1, 3, 24, 24), 77.0), task(name), (), draws),
                           torch.full((1, 3, 24 // task(name).scale, 24 // task(name).scale), 77.0))  # fmt: skip


def test_noise_has_its_deviation_and_is_not_rounded_and_rain_is_grey():
    grey = torch.full((4, 3, 48, 48), 128.0)
    noisy = corrupt(grey, task("denoise30"), (), torch.Generator().manual_seed(0))
    assert float((noisy - grey).std()) == pytest.approx(30.0, rel=0.03) and not torch.equal(noisy, noisy.round())
    name, rainy, clean = synthesis(["derain"]).batch(0, 3)
    added = rainy - clean
    free = (rainy < 255).all(1, keepdim=True).expand_as(added)
    assert name == "derain" and bool((added >= 0).all()) and added.max() > 0
    assert torch.equal(added[free], added[:, :1].expand_as(added)[free])


def test_photographs_smaller_than_a_patch_are_enlarged_and_larger_ones_are_not():
    small, large = photograph(1, 8, 30), photograph(2, 40, 40)
    assert patch(small, 12, torch.Generator().manual_seed(0)).shape == (3, 12, 12)
    found = patches([large], 12, 5, torch.Generator().manual_seed(0))
    whole = {tuple(pixel) for pixel in large.pixels.reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in found.permute(0, 2, 3, 1).reshape(-1, 3).int().tolist()} <= whole


def test_pools_without_photographs_or_rain_are_refused():
    with pytest.raises(StageError, match="no photograph"):
        Synthesis([], (), ["sr2"], 12, 0)
    with pytest.raises(StageError, match="rain streaks"):
        Synthesis([photograph(1)], (), ["derain"], 12, 0)
    pairs = PairedPatches([scaled_pair(photograph(1), 2)], 12)
    assert Paired(pairs, "sr2", 0).batch(3, 2)[1].shape == (2, 3, 12, 12)
    with pytest.raises(StageError, match="pairs of scale 2, expected 3"):
        Paired(pairs, "sr3", 0)


# --- steps ----------------------------------------------------------------------------------------


def test_rates():
    cosine = training.rate_of(RECIPE, 1.0)
    assert cosine(0) == 1.0 and cosine(2) == pytest.approx(0.5) and cosine(3) > 0
    steps = training.rate_of(dataclasses.replace(RECIPE, steps=300, schedule="step", milestones=[2 / 3]), 5e-5)
    assert (steps(0), steps(199), steps(200)) == (5e-5, 5e-5, 2.5e-5)


def test_gradients_are_limited_tensor_by_tensor_and_other_tasks_stay():
    net = net_of().train()
    learner = training.Trainee(net, dataclasses.replace(RECIPE, clip=1e-3), 1e-3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    training.objective(net, "sr2", colours(), colours(2, 24), CONTRAST).backward()
    seen = {}
    learner.optimiser.step = lambda lr: seen.update({i: float(p.grad.norm()) for i, p in enumerate(learner.optimiser.held)
                                                     if p.grad is not None})  # fmt: skip
    learner.after_step()
    assert max(seen.values()) <= 1e-3 * 1.001 and sum(value > 0.9e-3 for value in seen.values()) > len(seen) / 2
    del learner.optimiser.step
    learner.after_step()
    for name, value in net.state_dict().items():
        part, _, rest = name.partition(".")
        if part in ("heads", "tails", "queries") and rest.split(".")[0] != "sr2":
            assert torch.equal(value, before[name]), name
    assert not torch.equal(net.body.position, before["body.position"])


def test_training_lowers_the_loss_and_gives_the_same_bytes_again():
    found = []
    for _ in range(2):
        net = net_of(["denoise30"], input_skip=True)
        recipe = dataclasses.replace(RECIPE, steps=30, lr=5e-3)
        first = training.objective(net, "denoise30", *synthesis(["denoise30"]).batch(0, 2)[1:], None).detach()
        training.fit(net, synthesis(["denoise30"]), recipe, 5e-3, None, 0, torch.device("cpu"), None, "test")
        last = training.objective(net, "denoise30", *synthesis(["denoise30"]).batch(0, 2)[1:], None).detach()
        assert float(last) < float(first)
        found.append(net.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# --- whole images ---------------------------------------------------------------------------------


class Shift(nn.Module):
    """Stands in for a net that adds a constant."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by


@pytest.mark.parametrize("size", [(12, 12), (31, 45), (7, 40), (5, 3)])
@pytest.mark.parametrize("ensemble", [False, True])
def test_tiles_of_any_image_give_it_back(size, ensemble):
    net = net_of(["denoise30"], input_skip=True)  # a fresh one is the identity
    image = colours(1, 45)[0, :, : size[0], : size[1]]
    options = dataclasses.replace(MEASURE, ensemble=ensemble)
    assert torch.allclose(inference.restore(net, image, task("denoise30"), options), image, atol=1e-3)
    assert torch.allclose(inference.restore(Shift(3.0), image, task("denoise30"), options), image + 3.0, atol=1e-3)
    large = inference.restore(net_of(["sr3"]), image, task("sr3"), options)
    assert large.shape == (3, 3 * size[0], 3 * size[1]) and bool(large.isfinite().all())


def test_measured_pairs_are_middles_of_one_place():
    clean = photograph(3, 61, 50)
    (name, low, high) = inference.opened([scaled_pair(clean, 3)], 24)[0]
    assert name == clean.name and low.shape == (3, 8, 8) and high.shape == (3, 24, 24)
    whole = inference.opened([scaled_pair(clean, 3)], 0)[0]
    assert whole[1].shape == (3, 20, 16) and whole[2].shape == (3, 60, 48)  # 61 x 50 is no multiple of 3
    top, left = (20 - 8) // 2, (16 - 8) // 2
    assert torch.equal(low, whole[1][:, top : top + 8, left : left + 8])
    assert torch.equal(high, whole[2][:, 3 * top : 3 * top + 24, 3 * left : 3 * left + 24])
    same = inference.opened([Pair("rain", clean.pixels, clean.pixels)], 0)[0]
    assert torch.equal(same[1], tensor(clean.pixels))


def test_the_noise_of_an_image_is_the_same_for_all_and_scores_are_dB_on_luminance():
    one, two = (inference.corrupted_copies([photograph(1)], task("denoise30"), 0)[0][1] for _ in range(2))
    assert torch.equal(one, two)
    clean = torch.full((3, 20, 20), 100.0)
    found = inference.score([(clean + 10.0, clean)], task("denoise30"))
    factor = (65.738 + 129.057 + 25.064) / 256
    assert found["psnr_denoise30"] == pytest.approx(10 * math.log10(255**2 / (10 * factor) ** 2), abs=1e-6)
    with pytest.raises(StageError, match="not finite"):
        inference.score([(clean * torch.nan, clean)], task("denoise30"))
