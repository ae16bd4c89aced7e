"""Sizes and multiply-adds of the paper's students, decoders and teacher, computed without training, beside the figures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.lib.audit import audit_row, write_audit
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.milan.settings import Decoder, Net

if TYPE_CHECKING:
    from torch import nn

    from stages.lib.vit.cost import Part

CSV = "runs/audit/milan.csv"


@dataclass
class StudentFigures:
    """Parameters of a student: encoder, decoder with mask token and prediction, both, and with fixed positions."""

    net: Net = field(default_factory=Net)
    encoder: int = MISSING
    decoder: int = MISSING
    total: int = MISSING
    with_positions: int = MISSING


@dataclass
class AuditParams:
    """The section `audit` of params/milan/paper.yaml."""

    image: int = field(help="side of the images")
    mask_ratio: float = field(help="share of hidden patches")
    joint: int = field(help="width of the teacher's features")
    decoder: Decoder = field(default_factory=Decoder, help="decoder of all students")
    students: dict[str, StudentFigures] = field(default_factory=dict, help="students by name")
    block_parameters: int = field(help="parameters of a decoder's block, prompting or not")
    prompting_block_macs: int = field(help="MACs of a prompting block, 16-pixel patches")
    full_macs: float = field(help="1e9 MACs of MAE's decoder blocks")
    prompting_macs: float = field(help="1e9 MACs of the prompting decoder's blocks")
    teacher: Net = field(default_factory=Net, help="CLIP's image tower")
    teacher_parameters: int = field(help="its parameters")
    read_from: str = field(help="where the figures were read")


@dataclass
class Config:
    """Command line and parameters of the stage."""

    scale: str = field(default="paper", help="params file of the paper's own settings")
    params: AuditParams = field(default_factory=AuditParams)


def agreed(what: str, parts: "list[Part]", net: "nn.Module") -> int:
    """Parameters by the closed form; StageError where the net's own tensors count differently."""
    from stages.lib import macs

    closed, counted = sum(part.params for part in parts), macs.parameters(net)
    if closed != counted:
        raise StageError(f"parameters of {what}: closed form {closed}, counted {counted}; the closed form is wrong")
    return closed


def student_rows(name: str, told: StudentFigures, params: AuditParams) -> list[dict[str, Any]]:
    """Parameters of one student with the prompting decoder."""
    import torch

    from stages.papers.milan import cost, sampling
    from stages.papers.milan.decoder import Decoder as Net
    from stages.papers.milan.encoder import Encoder

    shape = (3, params.image, params.image)
    patches, width = cost.tiles(shape, told.net.patch), told.net.width
    seen = sampling.visible(patches, params.mask_ratio)
    with torch.device("meta"):
        nets = Encoder(told.net, shape), Net(params.decoder, width, params.image // told.net.patch, params.joint, True)
    encoder = agreed(f"the encoder of {name}", cost.encoder(told.net, shape, seen), nets[0])
    parts = cost.decoder(params.decoder, width, patches, seen, params.joint, prompting=True)
    decoder = agreed(f"the decoder of {name}", parts, nets[1])
    tables = (patches + 1) * (width + params.decoder.width)
    found = [
        ("parameters of the encoder", told.encoder, encoder),
        ("parameters of decoder, mask token and prediction", told.decoder, decoder),
        ("parameters trained", told.total, encoder + decoder),
        ("with fixed positions", told.with_positions, encoder + decoder + tables),
    ]
    return [audit_row("milan", name, what, one, two, 0.0, params.read_from) for what, one, two in found]


def counted_blocks(params: AuditParams, prompting: bool, seen: int, patches: int) -> int:
    """MACs of a decoder's blocks, counted in a forward pass on the meta device."""
    import math

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from stages.papers.milan.decoder import Decoder as Net

    width = params.decoder.width
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net = Net(params.decoder, width, math.isqrt(patches), 1, prompting)
        tokens = torch.empty(1, patches - seen if prompting else patches + 1, width)
        prompts = [torch.empty(1, seen + 1, width)] * prompting
        for block in net.blocks:
            block(tokens, *prompts)
    return counter.get_total_flops() // 2


def decoder_rows(params: AuditParams) -> list[dict[str, Any]]:
    """A block's parameters, and the MACs of both decoders' blocks at 16-pixel patches; closed form and count must agree."""
    from stages.papers.milan import cost, sampling

    patches, told = cost.tiles((3, params.image, params.image), params.teacher.patch), params.read_from
    seen = sampling.visible(patches, params.mask_ratio)
    found = {}
    for prompting in (False, True):
        parts = cost.decoder(params.decoder, params.teacher.width, patches, seen, params.joint, prompting)
        found[prompting], counted = cost.block_macs(parts), counted_blocks(params, prompting, seen, patches)
        if found[prompting] != counted:
            raise StageError(f"MACs of a decoder: closed form {found[prompting]}, counted {counted}; the closed form is wrong")
    one = cost.prompting_block("block", params.decoder.width, patches, seen)
    return [
        audit_row("milan", "decoder", "parameters of a block", params.block_parameters, one.params, 0.0, told),
        audit_row("milan", "decoder", "MACs of a prompting block", params.prompting_block_macs, one.macs, 0.0, told),
        audit_row(
            "milan", "decoder", "1e9 MACs of the blocks, MAE's", params.full_macs, round(found[False] / 1e9, 5), 0.0, told
        ),
        audit_row(
            "milan",
            "decoder",
            "1e9 MACs of the blocks, prompting",
            params.prompting_macs,
            round(found[True] / 1e9, 5),
            0.0,
            told,
        ),
    ]


def teacher_row(params: AuditParams) -> dict[str, Any]:
    """Parameters of CLIP's image tower."""
    import torch

    from stages.papers.milan import cost
    from stages.papers.milan.tower import Shape, Tower

    net = params.teacher
    shape = Shape(params.image, 3, net.patch, net.width, net.depth, net.heads, params.joint)
    with torch.device("meta"):
        tower = Tower(shape)
    computed = agreed("the teacher", cost.tower(shape), tower)
    name, what = "teacher, CLIP ViT-B/16", "parameters of the image tower"
    return audit_row("milan", name, what, params.teacher_parameters, computed, 0.0, params.read_from)


@stage(Config, paper="milan", section="audit")
def main(cfg: Config) -> None:
    """Compute sizes of MILAN's students, decoders and teacher to the digit; write runs/audit/milan.csv.

    One MAC is one multiply-add of a linear map or an attention product, in closed form and counted in a forward pass.
    """
    table = [line for name, one in cfg.params.students.items() for line in student_rows(name, one, cfg.params)]
    write_audit(CSV, [*table, *decoder_rows(cfg.params), teacher_row(cfg.params)])


if __name__ == "__main__":
    main()
