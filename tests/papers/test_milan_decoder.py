"""MILAN's student: the prompting decoder's promises, the encoder's blindness, and what gets a gradient."""

import pytest
import torch

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.vit.parts import sincos
from stages.papers.milan import cost, losses, sampling
from stages.papers.milan.decoder import Decoder, PromptingBlock
from stages.papers.milan.encoder import Classifier, Encoder, restored
from stages.papers.milan.pretraining import Student
from stages.papers.milan.settings import Decoder as Settings
from stages.papers.milan.settings import Net

torch.set_num_threads(1)
NET, SHAPE = Net(4, 16, 2, 2), torch.Size([1, 16, 16])


def parts(ratio: float = 0.75, depth: int = 2, prompting: bool = True):
    """An encoder, a decoder, images and their division."""
    torch.manual_seed(0)
    encoder = Encoder(NET, SHAPE).eval()
    decoder = Decoder(Settings(12, depth, 2), 16, 4, 5, prompting).eval()
    for parameter in decoder.parameters():  # biases and norms away from 0 and 1, so that nothing holds by chance
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(3, *SHAPE)
    return encoder, decoder, x, sampling.draw(3, 16, ratio, None)


@pytest.mark.parametrize("depth", [1, 3])
def test_prompts_go_through_unchanged(depth):
    encoder, decoder, x, division = parts(depth=depth)
    tokens = encoder(x, division.keep)
    decoded = decoder.decode(tokens, division)
    prompts = decoder.embed(tokens) + torch.cat(
        [
            decoder.positions[:, :1].expand(3, -1, -1),
            sampling.gather(decoder.positions[:, 1:].expand(3, -1, -1), division.keep),
        ],
        1,
    )
    assert torch.equal(decoded[:, 0], prompts[:, 0])
    assert torch.equal(sampling.gather(decoded[:, 1:], division.keep), prompts[:, 1:])
    before = decoder(tokens, division)
    decoder.mask_token.data += 1.0
    after = decoder(tokens, division)
    assert torch.equal(after[:, 0], before[:, 0])
    shown, hidden = (sampling.gather(after[:, 1:] - before[:, 1:], index) for index in (division.keep, division.dump))
    assert (shown == 0).all() and (hidden != 0).any(2).all()


def test_full_decoder_changes_visible_tokens_too():
    encoder, decoder, x, division = parts(prompting=False)
    tokens = encoder(x, division.keep)
    before = decoder(tokens, division)
    decoder.mask_token.data += 1.0
    assert (decoder(tokens, division) != before).any(2).all()


def test_order_of_what_is_looked_at_has_no_influence():
    torch.manual_seed(0)
    block, hidden, prompts = PromptingBlock(12, 2), torch.randn(2, 6, 12), torch.randn(2, 4, 12)
    out, order = block(hidden, prompts), torch.randperm(4)
    assert torch.allclose(block(hidden, prompts[:, order]), out, atol=1e-6)
    order = torch.randperm(6)
    assert torch.allclose(block(hidden[:, order], prompts), out[:, order], atol=1e-6)


def test_predictions_do_not_depend_on_the_order_of_the_division():
    encoder, decoder, x, division = parts()
    other = sampling.divide(torch.cat([division.keep.flip(1), division.dump.flip(1)], 1), division.keep.shape[1])
    first, second = (decoder(encoder(x, one.keep), one) for one in (division, other))
    assert torch.allclose(first, second, atol=1e-5)


def test_prompts_are_not_normalised():
    torch.manual_seed(0)
    block, hidden, prompts = PromptingBlock(12, 2), torch.randn(2, 6, 12), torch.randn(2, 4, 12)
    assert not torch.allclose(block(hidden, prompts), block(hidden, 3.0 * prompts), atol=1e-3)


def test_encoder_does_not_see_hidden_pixels():
    encoder, _, x, division = parts()
    hidden = division.mask().view(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = torch.where(hidden.bool(), torch.randn_like(x), x)
    assert not torch.equal(changed, x)
    assert torch.equal(encoder(changed, division.keep), encoder(x, division.keep))
    everything = torch.arange(16).expand(3, 16)
    assert torch.allclose(encoder(x, everything), encoder(x), atol=1e-6)


@pytest.mark.parametrize("prompting", [True, False])
def test_nothing_hidden(prompting):
    encoder, decoder, x, division = parts(0.0, prompting=prompting)
    tokens = encoder(x, division.keep)
    predicted = decoder(tokens, division)
    assert predicted.shape == (3, 17, 5) and bool(predicted.isfinite().all())
    if prompting:
        places = torch.cat([decoder.positions[:, :1], decoder.positions[:, 1:]], 1)
        alone = decoder.predict(decoder.norm(decoder.embed(encoder(x)) + places))
        assert torch.allclose(predicted, alone, atol=1e-5)


def test_all_that_is_trained_gets_a_gradient_and_positions_do_not():
    encoder, decoder, x, division = parts()
    student = Student(encoder, decoder)
    losses.feature_loss(student(x, division), torch.randn(3, 17, 5)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters())
    assert {name for name, _ in student.named_buffers()} == {"encoder.stem.positions", "decoder.positions"}
    assert torch.equal(decoder.positions, sincos(4, 12)) and (encoder.stem.positions[:, 0] == 0).all()


@pytest.mark.parametrize("prompting", [True, False])
@pytest.mark.parametrize("ratio", [0.75, 0.0])
def test_closed_forms_are_what_runs(prompting, ratio):
    encoder, decoder, x, division = parts(ratio, prompting=prompting)
    seen = division.keep.shape[1]
    own, dec = cost.encoder(NET, SHAPE, seen), cost.decoder(Settings(12, 2, 2), 16, 16, seen, 5, prompting)
    assert sum(part.params for part in own) == macs.parameters(encoder)
    assert sum(part.params for part in dec) == macs.parameters(decoder)
    one = sampling.Division(division.keep[:1], division.dump[:1], division.restore[:1])

    class Whole(torch.nn.Module):
        def forward(self, x):
            return decoder(encoder(x, one.keep), one)

    assert macs.count(Whole(), x[:1]) == sum(part.macs for part in [*own, *dec])


def test_classifier_pools_patches_and_leaves_out_the_encoders_norm():
    encoder, _, x, _ = parts()
    tokens, before = encoder.stem(x), encoder.state_dict()
    net = Classifier(restored(before, encoder.record(), NET, SHAPE, "file"), 10).eval()
    for block in encoder.blocks:
        tokens = block(tokens)
    assert torch.allclose(net(x), net.head(net.norm(tokens[:, 1:].mean(1))), atol=1e-6)
    with pytest.raises(StageError, match="file: holds another encoder"):
        restored(before, encoder.record(), Net(4, 16, 3, 2), SHAPE, "file")


def test_patches_that_do_not_tile():
    with pytest.raises(StageError, match="do not tile"):
        Encoder(Net(5, 16, 2, 2), SHAPE)
    with pytest.raises(StageError, match="do not tile"):
        cost.tiles((1, 16, 16), 5)
