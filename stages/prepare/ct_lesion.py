"""CT volumes with masks of lungs and lesions (MedSeg's second set, or the generated sample in its layout)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    from stages.prepare.ct_cases import Case

GENERATED = "generated sample"
IMAGES = "rp_im"


@dataclass
class Params:
    """params/dataset/ct_lesion.yaml."""

    side: dict[str, int | None] = parameter(help="by source: rows and columns after resampling; null as they are")
    labels: list[int] = parameter(help="values that a lesion mask may have; all but 0 are lesions")
    window: list[float] = parameter(help="HU that become 0 and 255")
    air: float = parameter(help="values are HU where the 1 % quantile is below this")
    quantiles: list[float] = parameter(help="shares of voxels below 0 and 255 where values are not HU")
    patients: int = parameter(help="with fewer patients, slabs of their scans are divided instead")
    slabs: int = parameter(help="slabs of a scan")
    val_share: float = parameter(help="validation's share of the patients")
    test_share: float = parameter(help="test's share of the patients")
    split_seed: int = parameter(help="seed of the division of patients")
    max_bytes: int = parameter(help="largest file that is read")
    max_voxels: int = parameter(help="largest volume that is read")
    official: dict[str, int] = parameter(help="numbers of the publisher's volumes, slices, and slices with lesions")
    sample_sha256: str = parameter(help="one SHA-256 over those of the generated sample's files")


@dataclass
class Config:
    """What the stage needs."""

    ct_source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/ct_lesion"})
def main(cfg: Config) -> None:
    """Read data/<source>/ct_lesion/{rp_im,rp_msk,rp_lung_msk} and write runs/prepare/ct_lesion/volumes.npz and a manifest.

    Volumes are NIfTI files or folders of DICOM slices. Patients are divided; where there are few, slabs of their scans.
    """
    from stages.prepare import ct_cases, ct_volumes, images, provenance

    params, source = cfg.params, cfg.ct_source
    ct_cases.check_params(params)
    root = provenance.folder(source, "ct_lesion")
    names = ct_volumes.cases(root / IMAGES)
    files = ct_cases.Files(root, params.max_bytes)
    owners = ct_cases.patients(files, names)
    side = images.by_source(params.side, source, "side")
    read = [ct_cases.read(files, name, side, params) for name in names]
    settle(files, source, params, read, owners)


def settle(files: Any, source: str, params: Params, read: list[Case], owners: list[str]) -> None:
    """Divide the cases, write volumes.npz and the manifest. Raises StageError for files of wrong origin."""
    from stages.lib import artifacts
    from stages.lib.data import PREPARED
    from stages.prepare import ct_cases, ct_pieces, provenance

    counts = ct_cases.count(read)
    kind, why = ct_cases.origin(files.fingerprint(), counts, params)
    provenance.refuse_misplaced(provenance.EMBEDDED if kind == GENERATED else provenance.REMADE, source, files.root)
    pieces = ct_pieces.divide(read, owners, params)
    folder = PREPARED / "ct_lesion"
    print(f"ct_lesion: {len(read)} volumes of {len(set(owners))} patients in {files.root} ({kind}: {why})", flush=True)
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    artifacts.write_npz(folder / "volumes.npz", **ct_cases.arrays(read, pieces.piece))
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=[folder / "volumes.npz"],
        config={"source": source, "params": asdict(params)},
        dataset="ct_lesion",
        source=source,
        root=files.root.as_posix(),
        files=kind,
        files_because=why,
        sha256=files.fingerprint(),
        classes=["background", "lesion"],
        shape=ct_cases.shape(read),
        counts=pieces.counts(),
        unit=pieces.unit,
        split=pieces.how,
        cases=[
            {"case": one.name, "patient": owner, "hu": one.hu, "oriented": one.oriented, "spacing_mm": list(one.spacing),
             "shape": list(one.image.shape), "window": list(one.window), "labels": one.labels}
            for one, owner in zip(read, owners)
        ],
        about=counts,
    )  # fmt: skip


if __name__ == "__main__":
    main()
