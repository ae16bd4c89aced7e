"""Parameters of the sets that are recordings of subjects."""

from __future__ import annotations

from dataclasses import dataclass

from stages.lib.stage import field


@dataclass
class RecordingParams:
    """How recordings are treated, cut into windows and split by subject."""

    window: int = field(help="samples of a window")
    stride: int = field(help="samples from one window to the next")
    lowpass_hz: float | None = field(help="cut-off of a Butterworth low-pass of third order; null for none")
    max_gap: int = field(help="longest run of missing samples that is interpolated")
    val_share: float = field(help="validation's share of the subjects")
    test_share: float = field(help="test's share of the subjects")
    max_bytes: int = field(help="largest file that is read")
    official: dict[str, int] = field(help="how many subjects, recordings and samples the publisher's set has, where counted")
    sample_sha256: str = field(help="one SHA-256 over those of the embedded sample's files")
