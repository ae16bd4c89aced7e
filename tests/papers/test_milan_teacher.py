"""MILAN's teachers: CLIP's tower, its weights on disk, and the contrastive training of small ones."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.lib import artifacts, macs
from stages.lib.errors import StageError
from stages.papers.milan import checkpoint, contrast, convert, cost, tower
from stages.papers.milan.tower import Shape, Tower

torch.set_num_threads(1)
SHAPE = Shape(16, 1, 4, 32, 3, 2, 6)


@pytest.fixture
def net() -> Tower:
    torch.manual_seed(0)
    return Tower(SHAPE).requires_grad_(False).eval()


def test_attention_is_torchs_own(net):
    own, reference = net.transformer.resblocks[0].attn, nn.MultiheadAttention(32, 2, batch_first=True)
    reference.load_state_dict(own.state_dict())  # the same names and shapes
    x = torch.randn(2, 17, 32)
    expected, weights = reference(x, x, x)
    assert torch.allclose(own(x), expected, atol=1e-6)
    assert torch.allclose(own.weights(x), weights, atol=1e-6)


def test_targets_are_all_tokens_projected_and_the_last_blocks_attention(net):
    x = torch.randn(3, 1, 16, 16)
    features, attention = net.targets(x)
    assert features.shape == (3, 17, 6) and attention.shape == (3, 17, 17)
    assert torch.allclose(features[:, 0], net(x), atol=1e-6)  # CLIP itself projects the class token alone
    assert torch.allclose(attention.sum(-1), torch.ones(3, 17), atol=1e-6)
    assert torch.equal(tower.importance(attention), attention[:, 0, 1:])
    tokens, seen = net.embed(x), []
    for block in net.transformer.resblocks:
        seen.append(block.attn.weights(block.ln_1(tokens)))
        tokens = block(tokens)
        last = net.project(tokens), seen[-1]
    assert torch.allclose(features, last[0], atol=1e-6) and torch.allclose(attention, last[1], atol=1e-6)
    two = net.targets(x, 2)[0]
    assert not torch.allclose(two, features, atol=1e-3) and torch.equal(net.targets(x, 1)[0], features)
    assert not features.requires_grad and not net.training
    with pytest.raises(StageError, match=r"images \[1, 16, 16\] was given \[1, 20, 20\]"):
        net.targets(torch.zeros(1, 1, 20, 20))


def test_entropy_of_uniform_and_of_a_single_patch():
    assert tower.entropy(torch.full((2, 16), 0.3)) == pytest.approx(1.0)
    one = torch.zeros(2, 16)
    one[:, 3] = 0.5
    assert tower.entropy(one) == pytest.approx(0.0, abs=1e-6)


def test_closed_form_is_what_runs(net):
    parts = cost.tower(SHAPE)
    assert sum(part.params for part in parts) == macs.parameters(net)

    class Asked(nn.Module):
        def forward(self, x):
            tokens = net.embed(x)
            for block in net.transformer.resblocks:
                tokens = block(tokens)
            return net.project(tokens)

    assert macs.count(Asked(), torch.randn(1, 1, 16, 16)) == sum(part.macs for part in parts)


@pytest.mark.parametrize("shape", [{"patch": 5}, {"heads": 3}])
def test_impossible_towers(shape):
    with pytest.raises(StageError, match="a teacher of"):
        Shape(**{"image": 16, "channels": 1, "patch": 4, "width": 32, "depth": 1, "heads": 2, "joint": 6, **shape})


# --- training -------------------------------------------------------------------------------------


def test_contrastive_loss_with_single_positives_is_clips():
    torch.manual_seed(0)
    first, second, scale = torch.randn(5, 4), torch.randn(5, 4), torch.tensor(7.0)
    logits = 7.0 * nn.functional.normalize(first, dim=1) @ nn.functional.normalize(second, dim=1).T
    plain = [nn.functional.cross_entropy(part, torch.arange(5)) for part in (logits, logits.T)]
    assert contrast.contrastive_loss(first, second, torch.eye(5).bool(), scale) == pytest.approx(float(sum(plain) / 2))
    same = contrast.contrastive_loss(first, second, torch.ones(5, 5).bool(), torch.tensor(1e-6))
    assert same == pytest.approx(math.log(5), abs=1e-4)


def test_text_tower_adds_words_and_the_temperature_has_a_limit():
    torch.manual_seed(0)
    pairing = contrast.Pairing(SHAPE, 0.07, 100.0)
    assert torch.allclose(pairing.read(torch.tensor([[1, 10, 12]])), pairing.read(torch.tensor([[12, 1, 10]])), atol=1e-6)
    assert pairing.sharpness().item() == pytest.approx(1 / 0.07)
    pairing.scale.data.fill_(9.0)
    assert pairing.sharpness().item() == pytest.approx(100.0)


# --- weights on disk ------------------------------------------------------------------------------


def publish(folder: Path, net: Tower, kind: str) -> Path:
    """A file as CLIP's are published: `visual.*` in half precision beside a text tower's tensor."""
    tensors = {f"visual.{name}": value.half() for name, value in net.state_dict().items()}
    tensors["token_embedding.weight"] = torch.zeros(3, 2)
    path = folder / f"clip.{kind}"
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    elif kind == "pt":
        torch.save(tensors, path)
    else:

        class Holder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.visual = net.half()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        torch.jit.trace(Holder(), torch.zeros(1)).save(str(path))
        net.float()
    return path


def run(source: Path, **more: object) -> None:
    words = {"source": source, "sha256": artifacts.sha256(source), "folder": source.parent / "clip", "head_dim": 16, **more}
    convert.main([f"{key}={value}" for key, value in words.items()])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["safetensors", "pt", "torchscript"])
def test_published_weights_are_converted_and_read(tmp_path, net, kind):
    source = publish(tmp_path, net, kind)
    run(source)
    found = checkpoint.read_converted(tmp_path / "clip", artifacts.sha256(source))
    assert found.shape == SHAPE and not found.training and not any(p.requires_grad for p in found.parameters())
    x = torch.randn(2, 1, 16, 16)
    assert torch.allclose(found(x), net(x), atol=2e-2)  # half precision
    before = (tmp_path / "clip/visual.safetensors").read_bytes()
    run(source)
    assert (tmp_path / "clip/visual.safetensors").read_bytes() == before


def refused(capsys, *arguments, **more) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, **more)
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.startswith("error: ") and text.count("\n") == 1, text
    return text


def test_weights_that_cannot_be_converted(tmp_path, net, capsys):
    source = publish(tmp_path, net, "pt")
    assert "SHA-256" in refused(capsys, source, sha256="0" * 64)
    assert "heads do not divide" in refused(capsys, source, head_dim=3)
    assert "head_dim=0" in refused(capsys, source, head_dim=0)
    torch.save({"visual.conv1.weight": torch.zeros(3)}, source)
    assert "conv1.weight" in refused(capsys, source)
    torch.save({"text": torch.zeros(3)}, source)
    assert "no tensor is named visual." in refused(capsys, source)
    torch.save({"visual.proj": Path("a pickled object")}, source)
    assert "state dict of tensors" in refused(capsys, source)
    source.write_bytes(b"nothing")
    assert "state dict of tensors" in refused(capsys, source)


def test_missing_altered_and_misshapen_teachers(tmp_path, net, capsys):
    with pytest.raises(StageError, match=r"convert\.py"):
        checkpoint.read_converted(tmp_path / "clip", "")
    source = publish(tmp_path, net, "safetensors")
    run(source)
    with pytest.raises(StageError, match="convert that file"):
        checkpoint.read_converted(tmp_path / "clip", "f" * 64)
    tensors, record = artifacts.load_tensors(tmp_path / "clip/visual.safetensors")
    with pytest.raises(StageError, match=r"proj: expected \[32, 6\], found \[32, 5\]"):
        checkpoint.assemble({**tensors, "proj": torch.zeros(32, 5)}, SHAPE, "file")
    with pytest.raises(StageError, match=r"extra: expected none of that name"):
        checkpoint.assemble({**tensors, "extra": torch.zeros(1)}, SHAPE, "file")
    artifacts.save_tensors(tmp_path / "other.safetensors", tensors, {**record, "kind": "vit"})
    with pytest.raises(StageError, match="holds no teacher"):
        checkpoint.load(tmp_path / "other.safetensors")
    path = tmp_path / "clip/visual.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(StageError, match="SHA-256"):
        checkpoint.read_converted(tmp_path / "clip", "")
