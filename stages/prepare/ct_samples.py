"""The embedded samples of the CT sets: generated scans in the layout of MedSeg's second set, and slices as COVID-CT's.

Scans lie in several orientations, two of them as DICOM series, so that readers have to turn them. gzip and PNG bytes
depend on the build of zlib; both are therefore written without compression.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy

from stages.lib import artifacts
from stages.lib.runtime import derive_seed
from stages.prepare.ct_phantom import Recipe, Scan, draw
from stages.prepare.image_samples import digest

SEED = 2012
RECIPE = Recipe()
CASES = 72
TWICE = 9  # every so many cases, a patient has a second scan
SERIES = (5, 23)  # cases whose image is a DICOM series
SPACING = (6.0, 2.0, 2.0)  # mm of slices, rows, columns
STORED = 65535  # bytes of a deflate block that is not compressed
FOLDERS = {"lesion": "rp_msk", "lung": "rp_lung_msk", "artefact": "rp_artefact_msk"}


def make_all(root: Path) -> dict[str, str]:
    """Write ct_lesion/ and covid_ct/ below root; returns one SHA-256 by folder, as image_samples.digest."""
    files = {"ct_lesion": ct_lesion_files(), "covid_ct": covid_ct_files()}
    for folder, contents in files.items():
        for name, content in contents.items():
            artifacts.write_bytes(root / folder / name, content, durable=False)
    return {folder: digest(contents) for folder, contents in files.items()}


def generator(*names: object) -> numpy.random.RandomState:
    """The stream of one scan or image; RandomState's are frozen."""
    return numpy.random.RandomState(derive_seed(SEED, *names) % 2**32)


# --- volumes --------------------------------------------------------------------------------------


def ct_lesion_files() -> dict[str, bytes]:
    """Contents by path: rp_im, rp_msk, rp_lung_msk and rp_artefact_msk as <case>.nii.gz, and whose scans they are."""
    found, lines, patient = {}, ["case,patient"], 0
    for case in range(1, CASES + 1):
        patient += case % TWICE != 0
        lines.append(f"{case},patient {patient}")
        scan = draw(RECIPE, generator("scan", case))
        if case in SERIES:
            found |= {f"rp_im/{case}/{i:03d}.dcm": dicom(scan, case, i) for i in range(len(scan.hu))}
        else:
            found[f"rp_im/{case}.nii.gz"] = nifti(scan.hu, case)
        for name, folder in FOLDERS.items():
            found[f"{folder}/{case}.nii.gz"] = nifti(labels(scan) if name == "lesion" else getattr(scan, name), case)
    return {"patients.csv": "".join(f"{line}\n" for line in lines).encode(), **found}


def labels(scan: Scan) -> numpy.ndarray:
    """uint8 [D, H, W]: 1, ground glass; 2, consolidation, where a lesion is denser than its texture's mean."""
    from stages.prepare.ct_phantom import AIR_HU, LESION, SPAN_HU

    return scan.lesion * (1 + (scan.hu > AIR_HU + SPAN_HU * (LESION + 0.1))).astype(numpy.uint8)


def nifti(values: numpy.ndarray, case: int) -> bytes:
    """values [D, H, W] in LPS as a gzipped NIfTI file in one of three orientations, by the case's number."""
    import nibabel
    from nibabel import orientations

    affine = numpy.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    affine[:3, 3] = (30.0, 40.0, -20.0)
    image = nibabel.Nifti1Image(numpy.ascontiguousarray(values.transpose(2, 1, 0)), affine)
    codes = (("L", "P", "S"), ("R", "A", "S"), ("P", "I", "R"))[case % 3]
    turn = orientations.ornt_transform(orientations.axcodes2ornt(("L", "P", "S")), orientations.axcodes2ornt(codes))
    return gzipped(image.as_reoriented(turn).to_bytes())


def gzipped(content: bytes) -> bytes:
    """A gzip file of blocks that are not compressed."""
    tail = struct.pack("<II", zlib.crc32(content), len(content))
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated(content) + tail


def deflated(content: bytes) -> bytes:
    """A deflate stream (RFC 1951) of stored blocks."""
    blocks = [content[i : i + STORED] for i in range(0, len(content), STORED)]
    headed = (struct.pack("<BHH", i == len(blocks) - 1, len(one), len(one) ^ 0xFFFF) + one for i, one in enumerate(blocks))
    return b"".join(headed)


def dicom(scan: Scan, case: int, number: int) -> bytes:
    """One slice of a series, stored as unsigned numbers that rescale to HU; file names do not tell the order."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    place = len(scan.hu) - 1 - number
    uid = f"1.2.826.0.1.3680043.10.9999.{case}"
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.{place + 1}"
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, "1.2.826.0.1.3680043.10.9999"
    one = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID, one.Modality = CTImageStorage, f"{uid}.{place + 1}", uid, "CT"
    one.Rows, one.Columns = scan.hu.shape[1:]
    one.PixelSpacing, one.SliceThickness = [SPACING[1], SPACING[2]], SPACING[0]
    one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, SPACING[0] * place]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.RescaleSlope, one.RescaleIntercept = 1, -4096
    one.PixelData = (scan.hu[place].astype(numpy.int32) + 4096).astype("<u2").tobytes()
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


# --- slices of COVID-CT -------------------------------------------------------------------------------

CLASSES = {"CT_COVID": "COVID", "CT_NonCOVID": "NonCOVID"}
PATIENTS, TRAIN_PATIENTS = 40, 26  # of each class; two images each


def covid_ct_files() -> dict[str, bytes]:
    """Contents by path: images whose format betrays the class as the publisher's do, lists of the splits, patients."""
    found: dict[str, bytes] = {}
    lines = ["file,class,patient_id"]
    for folder, kind in CLASSES.items():
        lists: dict[str, list[str]] = {"train": [], "val": []}
        for patient in range(1, PATIENTS + 1):
            for number in range(2):
                name = f"{kind.lower()}-p{patient}-{number}.png"
                found[f"Images-processed/{folder}/{name}"] = picture(kind == "COVID", patient, number)
                lists["train" if patient <= TRAIN_PATIENTS else "val"].append(name)
                lines.append(f"{name},{folder},{kind} {patient}")
        for split, names in lists.items():
            found[f"Data-split/{kind}/{split}CT_{kind}.txt"] = "\n".join(names).encode()  # as theirs, no final newline
    return {"patients.csv": "".join(f"{line}\n" for line in lines).encode(), **found}


def picture(ill: bool, patient: int, number: int) -> bytes:
    """One slice as an image file. Only the ill ones have an alpha channel, or JPEG inside a file called PNG."""
    from PIL import Image

    random = generator("picture", ill, patient, number)
    side = 40 + 8 * random.randint(0, 6)
    recipe = Recipe(depth=3, side=side, lesions=(2, 5) if ill else (0, 0), artefacts=(0, 0) if ill else (0, 1))
    hu = draw(recipe, random).hu[1].astype(numpy.int64)
    grey = numpy.clip((hu + 1000) * 255 // 1400, 0, 255).astype(numpy.uint8)
    kind = random.randint(0, 10)
    if ill and kind == 0:
        buffer = io.BytesIO()
        Image.fromarray(grey).convert("RGB").save(buffer, "JPEG", quality=95)
        return buffer.getvalue()
    if ill and kind < 6:
        return png(numpy.dstack([grey, grey, grey, numpy.full_like(grey, 255)]))
    return png(grey if kind % 2 else numpy.dstack([grey, grey, grey]))


def png(pixels: numpy.ndarray) -> bytes:
    """A PNG file of uint8 [H, W] or [H, W, 3 or 4], not compressed."""
    height, width = pixels.shape[:2]
    colour = {1: 0, 3: 2, 4: 6}[pixels[0, 0].size]
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    data = b"\x78\x01" + deflated(lines) + struct.pack(">I", zlib.adler32(lines))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = (struct.pack(">I", len(b)) + kind + b + struct.pack(">I", zlib.crc32(kind + b)) for kind, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
