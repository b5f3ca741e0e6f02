"""Virtual scans as NIfTI with a BIDS sidecar, and their truth on the same grid."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.io.nifti.output import StoredType, output_header
from cmrsr.io.nifti.series import NiftiWriter, nifti_writer
from cmrsr.io.outputs import replacing, write_json_atomic
from cmrsr.phantom.scan import LABELS, Sequence, VirtualScan

INT16_MAX = np.iinfo(np.int16).max
SECONDS_DECIMALS = 9
PULSE_SEQUENCES: dict[Sequence, str] = {
    "bssfp": "balanced steady-state free precession",
    "saturation-recovery": "saturation-recovery spoiled gradient echo",
    "molli": "modified Look-Locker inversion recovery",
    "inversion-recovery": "inversion-recovery spoiled gradient echo",
}
# What the last axis of a vector volume holds; a header has 79 characters for it.
COMPONENTS = {"displacement": "mm along R, A, S", "strain": "radial, circumferential, longitudinal (Green-Lagrange)"}
STORED: dict[str, StoredType] = {"float32": "float32", "uint8": "uint8"}


def write_scan_nifti(folder: Path, scan: VirtualScan) -> None:
    """Write ``<name>.nii.gz``, int16 (x, y, z, t) rounded to whole numbers, and ``<name>.json``, its BIDS sidecar.

    The header holds the mean time step, but none for T1: inversion times are no even steps, the sidecar lists them.
    Each file appears whole or not at all, equal scans give equal bytes. Raises OutputError.
    """
    assert scan.frames.max() <= INT16_MAX, (scan.name, scan.frames.max())
    write_json_atomic(folder / f"{scan.name}.json", sidecar(scan))  # first: an image never lies there without its times
    _write(folder / f"{scan.name}.nii.gz", scan, scan.frames, "int16", "virtual patient, not a person")


def write_truth_volumes(folder: Path, scan: VirtualScan, truth_folder: Path) -> None:
    """Write what is true of every voxel: ``<name>_label.nii.gz`` (see ``LABELS``) into ``folder``, beside the scan.

    Into ``truth_folder``: ``<name>_clean.nii.gz`` and ``<name>_<volume>.nii.gz`` for each of ``scan.volumes``, float32
    or uint8 (x, y, z, t), vectors float32 (x, y, z, t, 3). Each file appears whole or not at all. Raises OutputError.
    """
    meaning = ", ".join(f"{value} {name}" for name, value in LABELS.items())
    _write(folder / f"{scan.name}_label.nii.gz", scan, scan.labels, "uint8", f"labels of a virtual patient: {meaning}")
    clean = truth_folder / f"{scan.name}_clean.nii.gz"
    _write(clean, scan, scan.clean, "float32", "virtual patient, without noise")
    for name, values in scan.volumes.items():
        path = truth_folder / f"{scan.name}_{name}.nii.gz"
        if values.ndim == 5:
            _write_vectors(path, scan, name, values)
        else:
            _write(path, scan, values, STORED[values.dtype.name], f"{name} of a virtual patient")


def sidecar(scan: VirtualScan) -> dict[str, Any]:
    """How the scan was made, in BIDS's words and units: seconds, degrees, tesla, mm, beats a minute.

    Times are one number a frame, one list a frame where slices differ, and a single number of a single frame.
    """
    header = scan.header
    fields: dict[str, Any] = {
        "SeriesDescription": header.description,
        "PulseSequenceType": PULSE_SEQUENCES[header.sequence],
        "MagneticFieldStrength": header.field_t,
        "RepetitionTime": round(header.tr_ms / 1000, SECONDS_DECIMALS),
        "EchoTime": round(header.te_ms / 1000, SECONDS_DECIMALS),
        "FlipAngle": header.flip_deg,
        "SliceThickness": header.thickness_mm,
        "SpacingBetweenSlices": header.gap_mm,
        "HeartRate": round(60_000 / header.beat_ms, 2),
        "TriggerTime": _seconds(header.trigger_ms),
    }
    if header.inversion_ms is not None:
        fields["InversionTime"] = _seconds(header.inversion_ms)
    if scan.kind != "t1" and scan.frames.shape[0] > 1:
        fields["FrameTimes"] = _seconds(scan.times_ms)
    if header.contrast:
        fields["ContrastBolusIngredient"] = "GADOLINIUM"
    return {**fields, "Manufacturer": "cmrsr", "ManufacturersModelName": "virtual scanner", "SyntheticData": True}


def _seconds(times_ms: NDArray[np.float64]) -> Any:
    seconds = np.round(times_ms / 1000, SECONDS_DECIMALS)
    if seconds.ndim == 2 and np.ptp(seconds, axis=1).max() == 0:
        seconds = seconds[:, 0]
    return seconds[0] if seconds.shape == (1,) else seconds


def _header_times(scan: VirtualScan) -> NDArray[np.float64] | None:
    return None if scan.kind == "t1" else scan.times_ms


def _write(path: Path, scan: VirtualScan, frames: NDArray[Any], dtype: StoredType, description: str) -> None:
    assert frames.shape == scan.frames.shape, (path.name, frames.shape)
    with nifti_writer(
        path, scan.series(), shape=frames.shape, affine=scan.affine, times_ms=_header_times(scan), dtype=dtype,
        description=description,
    ) as writer:  # fmt: skip
        for frame in frames:
            writer.write(frame)


def _write_vectors(path: Path, scan: VirtualScan, name: str, values: NDArray[np.float32]) -> None:
    """(t, z, y, x, 3) as a NIfTI vector image: the components follow each other, each as a whole series."""
    assert values.shape == (*scan.frames.shape, 3), (path.name, values.shape)
    shape, description = scan.frames.shape, f"{name}, virtual patient: {COMPONENTS.get(name, '3 components')}"
    header = output_header(scan.series(), shape, scan.affine, _header_times(scan), "float32", description)
    header.set_data_shape((*shape[::-1], 3))
    header.set_intent("vector", name=name)
    with replacing(path) as partial:
        writer = NiftiWriter(path, partial, header, (3 * shape[0], *shape[1:]))
        try:
            for component in np.moveaxis(values, -1, 0):
                for frame in component:
                    writer.write(frame)
            writer.finish()
        finally:
            writer.close()
