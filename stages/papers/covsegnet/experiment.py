"""What the arms make of tested scans, and what they cost."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev

import torch
from torch import Tensor, nn

from stages.lib import files
from stages.papers.covsegnet import arms, filters, inference, nets, overlap, phases
from stages.papers.covsegnet.scans import Scan
from stages.papers.covsegnet.settings import Settings

Values = dict[str, float]


def load(folder: Path, settings: Settings, repetition: int, repeats: int) -> dict[str, nn.Module]:
    """The nets of all arms. Raises StageError for damaged files and other nets than the settings describe."""
    found = {}
    for name in arms.nets(settings.arms):
        of = phases.slice_record if arms.ARMS[name].slices == name else phases.volume_record
        found[name] = nets.load(files.weights(folder, name, repetition, repeats), of(settings, name))
    return found


@dataclasses.dataclass(frozen=True)
class Bench:
    """Nets and how they are asked."""

    settings: Settings
    found: Mapping[str, nn.Module]
    device: torch.device

    def probabilities(self, scan: Scan) -> dict[str, Tensor]:
        """P [D, H, W] by arm."""
        slices: dict[str, Tensor] = {}
        done = {}
        for name in self.settings.arms:
            arm = arms.ARMS[name]
            if arm.slices and arm.slices not in slices:
                slices[arm.slices] = inference.by_slices(self.found[arm.slices], scan.image, self.device)
            done[name] = self._answer(arm, scan, slices.get(arm.slices))
        return done

    def _answer(self, arm: arms.Arm, scan: Scan, p: Tensor | None) -> Tensor:
        part = self.settings.volumes
        if arm.volumes:
            x = scan.image[None] if p is None else inference.enhanced(scan.image, p, part.roi_mode)
            return inference.by_windows(self.found[arm.volumes], x, part.window, part.overlap, self.device)
        if arm.filtered:
            return filters.median(p) if arm.filtered == "median" else filters.gaussian(p, self.settings.z_sigma)
        return p

    def cost(self, name: str, size: Sequence[int]) -> Values:
        """Parameters, and 1e6 multiply-adds a slice, of all nets that an arm asks for a scan of this size."""
        arm, total, weight = arms.ARMS[name], 0.0, 0
        for net, nd in ((arm.slices, 2), (arm.volumes, 3)):
            if net:
                here = [min(want, have) for want, have in zip(self.settings.volumes.window, size, strict=True)]
                into = 1 if nd == 2 else phases.volume_record(self.settings, net)["into"]
                shape = (1, into, *(size[1:] if nd == 2 else here))
                asked = nets.multiply_adds(self.found[net], torch.zeros(shape, device=self.device))
                total += asked if nd == 2 else asked * size[1] * size[2] / (here[0] * here[1] * here[2])
                weight += nets.parameters(self.found[net])
        return {"parameters": float(weight), "megamacs": total / 1e6}


def measured(p: Tensor, scan: Scan, threshold: float) -> Values:
    """All measures of one scan, Dice on voxels outside artefacts, and the share of artefacts taken for lesions."""
    found, truth, false = p >= threshold, scan.lesion.ne(0), scan.artefact.ne(0)
    values = overlap.measures(found, truth, scan.spacing)
    clean = overlap.dice(found & ~false, truth & ~false)
    return values | {"dice_clean": clean, "artefact": int((found & false).sum()) / max(1, int(false.sum()))}


def table(bench: Bench, scans: Sequence[Scan]) -> dict[str, Values]:
    """By arm the mean of every measure over scans, the deviation of Dice, and the cost."""
    by_arm: dict[str, list[Values]] = {name: [] for name in bench.settings.arms}
    for scan in scans:
        for name, p in bench.probabilities(scan).items():
            by_arm[name].append(measured(p, scan, bench.settings.threshold))
    done = {}
    for name, rows in by_arm.items():
        means = {key: fmean(row[key] for row in rows) for key in rows[0]}
        cost = bench.cost(name, tuple(scans[0].image.shape))
        done[name] = means | {"dice_deviation": pstdev(row["dice"] for row in rows)} | cost
    return done
