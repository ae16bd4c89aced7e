"""FedPU's risk: unbiased by enumeration, blind to hidden labels, bounded; the official forms and the peers by hand."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from stages.papers.fedpu import objectives, official, peers, risk
from stages.papers.fedpu.clients import Known
from stages.papers.fedpu.risk import Batch
from stages.papers.fedpu.settings import Risk

torch.set_num_threads(1)
OPTIONS = Risk(weight=1.0, eps=0.01, eps_shipped=1e-6, nonnegative=False, threshold=0.95)
DOUBLE = torch.float64


def known(positive: list[int], priors: list[float], unlabelled: list[float] | None = None) -> Known:
    mask = torch.zeros(len(priors), dtype=torch.bool)
    mask[positive] = True
    return Known(mask, torch.tensor(priors, dtype=DOUBLE), torch.tensor(unlabelled or priors, dtype=DOUBLE))


def random_batch(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=DOUBLE)
    return logits, torch.randint(0, 2 * classes, (count,), generator=generator)


# --- unbiasedness ---------------------------------------------------------------------------------


def test_the_pu_form_is_the_supervised_risk_by_enumeration():
    """All images of a finite population as U, all of a positive class as its labelled sample: exact expectations."""
    counts, positive = [2, 4, 6, 3], [0, 2]
    pairs = [(place, label) for label, count in enumerate(counts) for place in range(count)]
    table = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    logits = table[[place for place, _ in pairs]]
    priors = [count / len(pairs) for count in counts]
    own = known(positive, priors)
    y = torch.tensor([label for _, label in pairs])
    p = logits.softmax(1)
    negative = -torch.log(1 - p + OPTIONS.eps)
    wanted = 0.0
    for i in positive:
        attract = priors[i] * -logits.log_softmax(1)[y == i, i].mean()
        push = sum(priors[j] * negative[y == j, i].mean() for j in range(4) if j != i)
        wanted += float(attract + push)
        wanted += float(sum(priors[i] * negative[y == i, j].mean() for j in range(4) if j not in positive))
    # U is the mean over the whole batch, so hidden ones alone would do; labels serve the class means.
    target = torch.where(torch.isin(y, torch.tensor(positive)), y, y + 4)
    found = risk.pu_risk(Batch.of(logits, target), own, OPTIONS)
    assert float(found) == pytest.approx(wanted, abs=1e-10)


def test_without_adapted_priors_a_u_that_excludes_the_labelled_is_biased_by_a_known_amount():
    """With U the unlabelled alone, E_U differs from the full marginal's mean by what the labelled images hold."""
    logits, _ = random_batch(30, 3)
    y = torch.arange(30) % 3
    marked = (y == 0) & (torch.arange(30) < 15)
    negative = risk.negative_loss(logits.softmax(1), OPTIONS.eps)
    full, rest = negative.mean(0)[0], negative[~marked].mean(0)[0]
    share = float(marked.double().mean())
    assert float(full - rest) == pytest.approx(share * float(negative[marked].mean(0)[0] - rest), abs=1e-12)
    batch, own = Batch.of(logits, torch.where(marked, y, y + 3)), known([0], [1 / 3] * 3)
    exact = risk.pu_risk(batch, own, OPTIONS)
    biased = exact - full + rest
    assert abs(float(exact - biased)) > 1e-3
    adapted = (~marked).double().sum() / 30 * rest + marked.double().sum() / 30 * negative[marked].mean(0)[0]
    assert float(adapted) == pytest.approx(float(full), abs=1e-12)


# --- terms ----------------------------------------------------------------------------------------


def test_empty_parts_leave_finite_sums():
    logits, _ = random_batch(8, 3)
    y = torch.arange(8) % 3
    for target in (y, y + 3):
        for name, objective in objectives.OBJECTIVES.items():
            for positive in ([0, 1, 2], [1]):
                value = objective(Batch.of(logits, target), known(positive, [0.3, 0.3, 0.4]), OPTIONS)
                assert bool(value.isfinite()), name


def test_with_all_classes_positive_nothing_is_said_of_others():
    logits, target = random_batch(20, 4)
    batch = Batch.of(logits, target)
    everything, priors = known([0, 1, 2, 3], [0.25] * 4), torch.full((4,), 0.25, dtype=DOUBLE)
    negative = risk.negative_loss(logits.softmax(1), OPTIONS.eps)
    unlabelled = batch.mean(negative, ~batch.labelled).sum() / 4
    correction = -batch.mean((batch.onehot * priors * negative).sum(1), batch.labelled)
    wanted = unlabelled + correction + risk.labelled_cross_entropy(batch)
    assert float(official.code_v1(batch, everything, OPTIONS)) == pytest.approx(float(wanted), abs=1e-12)


def test_the_official_forms_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [0.3, 0.2, 0.1]], dtype=DOUBLE)
    target, own = torch.tensor([1, 4, 5]), known([1], [0.2, 0.5, 0.3], [0.5, 0.25, 0.25])
    p = logits.softmax(1).tolist()

    def low(value: float, eps: float) -> float:
        return -math.log(1 - value + eps)

    cross = -math.log(p[0][1])
    first = (low(p[1][1], 0.01) + low(p[2][1], 0.01)) / 2
    first += 0.25 / 2 * (low(p[0][0], 0.01) + low(p[0][2], 0.01)) - 0.25 * low(p[0][1], 0.01)
    assert float(official.code_v1(Batch.of(logits, target), own, OPTIONS)) == pytest.approx(first + cross, abs=1e-12)
    second = (low(p[1][1], 1e-6) + low(p[2][1], 1e-6)) / 2 / 3 - 0.25 * low(p[0][1], 1e-6)
    assert float(official.code_v2(Batch.of(logits, target), own, OPTIONS)) == pytest.approx(second + cross, abs=1e-12)


def test_renaming_the_classes_changes_nothing_but_the_official_quirk():
    logits, target = random_batch(40, 5)
    priors, order = [0.1, 0.3, 0.2, 0.25, 0.15], [2, 4, 0, 1, 3]
    renamed = torch.tensor([order.index(label % 5) for label in target.tolist()]) + 5 * (target >= 5)
    one = Batch.of(logits, target), known([0, 2], priors)
    other = Batch.of(logits[:, order], renamed), known([order.index(0), order.index(2)], [priors[i] for i in order])
    for name in ("ce_risk", "risk", "positives_only", "one_negative", "pseudo_label", "supervised"):
        objective = objectives.find(name)
        assert float(objective(*one, OPTIONS)) == pytest.approx(float(objective(*other, OPTIONS)), abs=1e-12), name
    assert float(official.code_v1(*one, OPTIONS)) != pytest.approx(float(official.code_v1(*other, OPTIONS)), abs=1e-6)


def test_hidden_labels_never_matter_but_to_the_supervised_bound():
    logits, target = random_batch(40, 5)
    hidden = torch.where(target >= 5, torch.full_like(target, 9), target)
    own = known([0, 3], [0.2] * 5)
    for name, objective in objectives.OBJECTIVES.items():
        values = [float(objective(Batch.of(logits, one), own, OPTIONS)) for one in (target, hidden)]
        assert (values[0] == values[1]) == (name != "supervised"), name


@pytest.mark.parametrize("eps", [0.01, 1e-6])
def test_eps_bounds_the_negative_loss(eps):
    p = torch.tensor([0.0, 0.5, 1.0, 1.0000001])
    values = risk.negative_loss(p, eps)
    assert bool(values.isfinite().all()) and float(values.max()) == pytest.approx(-math.log(eps), rel=1e-5)


def test_unlabelled_images_push_positive_classes_down_and_the_correction_lifts_the_labelled():
    logits, target = random_batch(30, 4)
    logits.requires_grad_()
    own, batch = known([1, 2], [0.25] * 4), Batch.of(logits, target)
    unlabelled, _, correction = official.parts(batch, own, OPTIONS.eps)
    (push,) = torch.autograd.grad(unlabelled[own.positive].sum(), logits, retain_graph=True)
    rows = (target >= 4).nonzero().flatten().tolist()
    assert all(float(push[row, [1, 2]].sum()) > 0 for row in rows)
    (lift,) = torch.autograd.grad(correction, logits)
    assert all(float(lift[row, label]) < 0 for row, label in enumerate(target.tolist()) if label < 4)


def test_the_clamp_acts_class_by_class_and_only_below_zero():
    logits = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0], [0, 0, 9.0]], dtype=DOUBLE)
    own, target = known([0, 1], [0.9, 0.05, 0.05]), torch.tensor([0, 1, 5, 5])
    clamped = Risk(**{**vars(OPTIONS), "nonnegative": True})
    batch = Batch.of(logits, target)
    negative = risk.negative_loss(logits.softmax(1), OPTIONS.eps)
    below = float(negative[:, 0].mean() - 0.9 * negative[0, 0])
    assert below < 0 < float(negative[:, 1].mean() - 0.05 * negative[1, 1])
    gained = float(risk.pu_risk(batch, own, clamped) - risk.pu_risk(batch, own, OPTIONS))
    assert gained == pytest.approx(-below, abs=1e-12)


# --- peers ----------------------------------------------------------------------------------------


def test_pseudo_labels_count_where_the_net_is_sure():
    logits = torch.tensor([[0.0, 1.0], [9.0, 0.0], [0.1, 0.0], [9.0, 0.0]], dtype=DOUBLE)
    target = torch.tensor([0, 3, 2, 1])
    sure = functional.cross_entropy(logits[1:2], torch.tensor([0])) / 2
    wanted = functional.cross_entropy(logits[[0, 3]], target[[0, 3]]) + sure
    found = peers.pseudo_label(Batch.of(logits, target), known([0, 1], [0.5, 0.5]), OPTIONS)
    assert float(found) == pytest.approx(float(wanted), abs=1e-12)


def test_one_negative_takes_the_unknown_classes_together():
    logits, target = random_batch(30, 4)
    logits.requires_grad_()
    batch, own = Batch.of(logits, target), known([1], [0.25] * 4)
    gradient = torch.autograd.grad(peers.one_negative(batch, own, OPTIONS), logits)[0]
    p = logits.detach().softmax(1)
    for row, (i, j) in itertools.product((target >= 4).nonzero().flatten().tolist(), [(0, 2), (2, 3)]):
        # Among unknown classes an unlabelled image moves none more than its share of their probability.
        assert float(gradient[row, i] / gradient[row, j]) == pytest.approx(float(p[row, i] / p[row, j]), rel=1e-9)
