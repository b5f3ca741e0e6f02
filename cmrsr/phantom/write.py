"""Virtual patients on disk: the scans, and beside them everything that is known of them."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from cmrsr.errors import UsageError
from cmrsr.io.outputs import output_errors, write_json_atomic
from cmrsr.phantom.dicom import write_scan_dicom
from cmrsr.phantom.examination import Protocol
from cmrsr.phantom.nifti import write_scan_nifti, write_truth_volumes
from cmrsr.phantom.patient import EF_LIMITS, Group, draw_patient
from cmrsr.phantom.scan import LABELS
from cmrsr.phantom.scans import scan_patient
from cmrsr.phantom.truth import STRAIN_COMPONENTS, heart_truth
from cmrsr.version import __version__

WORKER_BYTES = 3 * 2**29  # a patient's largest scan with its truth, and what the process needs besides


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Which virtual patients to write, and how. Raises UsageError for what cannot be."""

    out: Path
    n_subjects: int
    seed: int
    protocol: Protocol
    file_format: Literal["nifti", "dicom"]
    group: Group | None = None
    ef_percent: float | None = None

    def __post_init__(self) -> None:
        if self.n_subjects < 1:
            raise UsageError(f"--subjects {self.n_subjects}: expected at least 1")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: expected 0 or more")
        low, high = (100 * limit for limit in EF_LIMITS)
        if self.ef_percent is not None and not low <= self.ef_percent <= high:
            raise UsageError(f"--ef {self.ef_percent:g}: expected {low:g} to {high:g} (percent)")


def write_study(study: Study, n_workers: int | None = None) -> Iterator[Path]:
    """Write every patient's folder, several at a time; yields each as it is done, in order.

    The same files whatever the number of workers: a patient depends on the seed and its own number alone.
    Raises OutputError when something cannot be written.
    """
    with output_errors(study.out):
        study.out.mkdir(parents=True, exist_ok=True)
    jobs = [(study, subject) for subject in range(1, study.n_subjects + 1)]
    n_workers = min(len(jobs), n_workers or default_workers())
    if n_workers == 1:
        yield from map(write_patient, jobs)
        return
    with get_context("spawn").Pool(n_workers) as pool:
        yield from pool.imap(write_patient, jobs)


def default_workers() -> int:
    """As many as there are processors, and as fit into the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4 * WORKER_BYTES
    return max(1, min(cores, memory // WORKER_BYTES))


def write_patient(job: tuple[Study, int]) -> Path:
    """One patient's folder: the scans with ``*_label.nii.gz`` beside them, ``truth/`` and ``truth.json``."""
    study, subject = job
    ef = None if study.ef_percent is None else study.ef_percent / 100
    patient = draw_patient(study.seed, subject, study.group, ef)
    folder = study.out / patient.identity.name
    scans: dict[str, Any] = {}
    for scan in scan_patient(patient, study.protocol):
        if study.file_format == "dicom":
            write_scan_dicom(folder / scan.name, scan, patient.identity)
        else:
            write_scan_nifti(folder, scan)
        write_truth_volumes(folder, scan, folder / "truth")
        scans[scan.name] = scan.truth
    truth = {
        "software": f"cmrsr {__version__}",
        "note": "a virtual patient, not a person",
        "seed": study.seed,
        "subject": asdict(patient.identity) | {"bsa_m2": patient.identity.bsa_m2},
        "group": patient.group,
        "field_t": patient.field_t,
        "labels": LABELS,
        "strain_components": STRAIN_COMPONENTS,
        **heart_truth(patient),
        "scans": scans,
    }
    write_json_atomic(folder / "truth.json", truth)
    return folder
