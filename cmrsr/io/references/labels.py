"""Reference labels from a folder of NIfTI files that are named like the scans."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.inputs import natural_key
from cmrsr.io.nifti.file import read_header
from cmrsr.io.nifti.header import file_shape
from cmrsr.io.nifti.series import nifti_stem, read_nifti
from cmrsr.io.references.names import Name, parse_folder, parse_name
from cmrsr.io.references.reference import Labelled, Labels, Reference, reference_of_labels
from cmrsr.io.series import Series
from cmrsr.physics.volumes import LV, MYOCARDIUM, RV

SCAR = 4  # of virtual patients: infarcted myocardium
SAME_PLACE = 0.5  # voxels that the corners of a label file may lie from those of the images
SAME_SPACING = 0.02  # of a voxel's size: writers round; a volume is as wrong as all three together
# Share of a cavity's outline that lies against myocardium: a ring around the LV, a third for the septum around the RV.
ENCLOSED = 0.6
Affine = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    folder: tuple[str, ...]  # below the root, as ``parse_folder`` has it
    name: Name
    is_label: bool  # by its name or its folders


class LabelReferences:
    """The label files below a folder, or a single one. UnreadableError where there are none."""

    def __init__(self, path: Path) -> None:
        self._root = path if path.is_dir() else path.parent
        self._files = [_file(one, self._root) for one in sorted(_walk(path), key=natural_key)]
        if not self._files:
            raise UnreadableError(f"{path}: no NIfTI file in it; expected labels that are named like the scans")

    def of(self, case_name: str, series: Series) -> Reference | None:
        """The reference of a case by its name; None where no file has it.

        A label file bears the name of the scan, alone or with a word such as ``label`` or ``_gt`` before or behind it,
        in the same folder below the root, if there are several; with the phase (ED, ES, frame01), where it holds one
        frame of several. Among the images themselves it is known by such a word in its name or its folder's.
        UnusableError: it holds no labels, lies on another grid, or several could be meant.
        """
        own = {path.resolve() for path in series.source.paths}
        among_images = any(self._root.resolve() in path.parents for path in own)
        names = _names(case_name)
        found: Sequence[_File] = ()
        for folder, name in names:
            fitting = [
                one
                for one in self._files
                if one.name.base == name.base and one.path.resolve() not in own and _same_phase(one.name, name, series)
            ]
            labels = [one for one in fitting if one.is_label]
            found = _in_place(labels or ([] if among_images else fitting), folder, case_name)
            if found:
                break
        if not found:
            return None
        return self._read(found, series, _frame_names(series, names[0][1]))

    def _read(self, files: Sequence[_File], series: Series, frame_names: tuple[str, ...]) -> Reference:
        labelled: list[Labelled] = []
        notes: list[str] = []
        volumes: list[tuple[Labels, int | None, str]] = []
        spacing = (0.0, 0.0, 0.0)
        for one in files:
            frames, spacing = _volumes(one.path, series)
            for frame, phase, labels in _placed(one, frames, series, frame_names):
                volumes.append((labels, frame, phase))
        frames_said = [frame for _, frame, _ in volumes if frame is not None]
        if twice := {frame + 1 for frame in frames_said if frames_said.count(frame) > 1}:
            paths = ", ".join(str(one.path) for one in files[:3])
            raise UnusableError(f"{paths}: several labels of frame {min(twice)}; leave one of them in the folder")
        codes = [labels for labels, _, _ in volumes]
        source = ", ".join(one.path.name for one in files)
        if _exchanged(source, codes):
            notes.append(f"{source}: the cavity inside the myocardium has the label {RV} and was taken as LV (as M&Ms)")
            codes = [np.where(a == RV, LV, np.where(a == LV, RV, a)).astype(np.uint8) for a in codes]
        for labels, (_, frame, phase) in zip(codes, volumes, strict=True):
            if frame is None:
                notes.append(f"{source}: which frame of the series it is was not said, so masks are not compared")
            labelled.append(Labelled(labels=labels, frame=frame, phase=phase))
        return reference_of_labels(
            source, labelled, spacing, n_frames=series.n_frames, paths=tuple(one.path for one in files),
            notes=tuple(dict.fromkeys(notes)),
        )  # fmt: skip


# --- which files ------------------------------------------------------------------------------------------------------


def _walk(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for parent, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith("_cmrsr"))
        for name in files:
            if name.lower().endswith((".nii", ".nii.gz")) and not name.startswith("."):
                yield Path(parent, name)


def _file(path: Path, root: Path) -> _File:
    folder, in_labels = parse_folder(path.relative_to(root).parts[:-1])
    name = parse_name(nifti_stem(path))
    return _File(path=path, folder=folder, name=name, is_label=name.is_label or in_labels)


def _names(case_name: str) -> list[tuple[tuple[str, ...], Name]]:
    """Folder and name under which labels may lie: as the case's, or as those of the folders of a DICOM series."""
    parts = PurePosixPath(case_name).parts
    return [(parse_folder(parts[: n - 1])[0], parse_name(parts[n - 1])) for n in range(len(parts), 0, -1)]


def _same_phase(label: Name, case: Name, series: Series) -> bool:
    """Whether the file may hold a frame of the case: of a case of one phase, only that one."""
    if series.n_frames > 1 or not case.phases or not label.phases:
        return True
    return set(label.phases) <= set(case.phases)


def _in_place(files: Sequence[_File], folder: tuple[str, ...], case_name: str) -> list[_File]:
    """Those in the case's own folder below the root, else in the only folder that has any."""
    by_folder: dict[tuple[str, ...], list[_File]] = {}
    for one in files:
        by_folder.setdefault(one.folder, []).append(one)
    if folder in by_folder:
        return by_folder[folder]
    below = [key for key in by_folder if folder and (key[-len(folder) :] == folder or folder[-len(key) :] == key)]
    chosen = below if below else list(by_folder)
    if len(chosen) > 1:
        paths = ", ".join(str(by_folder[key][0].path) for key in chosen[:3])
        raise UnusableError(f"{case_name}: several label files could be meant ({paths}); keep them in folders as scans")
    return by_folder[chosen[0]] if chosen else []


def _frame_names(series: Series, case: Name) -> tuple[str, ...]:
    """What each frame of a series is called: that of files of one frame each, which were joined, or of a pair."""
    paths = series.source.paths
    if len(paths) == series.n_frames and series.source.format == "nifti":
        called = [parse_name(nifti_stem(path)).phases for path in paths]
        if all(len(phases) == 1 for phases in called):
            return tuple(phases[0] for phases in called)
    if len(case.phases) == series.n_frames:
        return case.phases
    return ("ED", "ES") if series.n_frames == 2 else ()


# --- what is in them --------------------------------------------------------------------------------------------------


def _volumes(path: Path, series: Series) -> tuple[list[Labels], tuple[float, float, float]]:
    """The time points of a label file on the grid of the series, and the file's spacing (z, y, x)."""
    shape = file_shape(read_header(path))
    is_time = len(shape) == 3 and series.shape[1] == 1 and shape[2] == series.n_frames > 1
    file = read_nifti(path, time_axis=2 if is_time else "none" if len(shape) == 3 else None)
    return [_on_grid(path, _codes(path, frame), file.affine, series) for frame in file], file.spacing_mm


def _codes(path: Path, frame: NDArray[np.float32]) -> Labels:
    values = np.unique(frame)
    if not np.isin(values, (0, RV, MYOCARDIUM, LV, SCAR)).all():
        odd = next(v for v in values if v not in (0, RV, MYOCARDIUM, LV, SCAR))
        raise UnusableError(
            f"{path}: the value {odd:g} is no label; expected 0 background, 1 RV cavity, 2 LV myocardium, 3 LV cavity"
        )
    labels = frame.astype(np.uint8)
    labels[labels == SCAR] = MYOCARDIUM
    return labels


def _on_grid(path: Path, labels: Labels, affine: Affine, series: Series) -> Labels:
    """Labels (z, y, x) in the order of the series' voxels; UnusableError unless both grids are one."""
    to_series = np.linalg.inv(series.affine) @ affine  # of voxels (x, y, z)
    turn = np.rint(to_series[:3, :3])
    size = np.array(series.shape[:0:-1])
    fits = (np.abs(turn).sum(0) == 1).all() and (np.abs(turn).sum(1) == 1).all()
    if fits:
        source = np.abs(turn).argmax(1)  # label axis behind each axis of the series
        step = turn[np.arange(3), source]
        fits = np.array_equal(np.array(labels.shape[::-1])[source], size)
    if not fits:
        raise UnusableError(
            f"{path}: labels of {_by(labels.shape[::-1])} voxels, expected the grid of the images, {_by(tuple(size))}"
        )
    ratio = np.linalg.norm(to_series[:3, :3], axis=0)
    if np.abs(ratio - 1).max() > SAME_SPACING:
        axis = int(np.abs(ratio - 1).argmax())
        own, wanted_mm = (float(np.linalg.norm(a[:3, axis])) for a in (affine, affine / np.append(ratio, 1.0)))
        raise UnusableError(f"{path}: labels every {own:.3g} mm, expected every {wanted_mm:.3g} mm as the images")
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in labels.shape[::-1]])).reshape(3, -1)
    placed = to_series[:3, :3] @ corners + to_series[:3, 3:]
    wanted = np.where(step[:, None] > 0, corners[source], size[:, None] - 1 - corners[source])
    away = float(np.abs(placed - wanted).max())
    if away > SAME_PLACE:
        raise UnusableError(
            f"{path}: labels that lie {away:.1f} voxels from the images; expected the same position, size and spacing"
        )
    turned = labels.transpose(2 - source[::-1])[tuple(slice(None, None, int(s)) for s in step[::-1])]
    return np.ascontiguousarray(turned)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _placed(
    file: _File, frames: list[Labels], series: Series, frame_names: tuple[str, ...]
) -> Iterator[tuple[int | None, str, Labels]]:
    """The labelled time points of a file, with the frame of the series and the phase where they are known."""
    phase = file.name.phases[0] if len(file.name.phases) == 1 else ""
    named = phase if phase in ("ED", "ES") else ""
    if len(frames) == 1:
        if series.n_frames == 1:
            yield 0, named, frames[0]
        elif phase in frame_names:
            yield frame_names.index(phase), named, frames[0]
        elif phase.isdigit():
            if not 1 <= int(phase) <= series.n_frames:
                raise UnusableError(f"{file.path}: frame {phase} by its name, but the series has {series.n_frames}")
            yield int(phase) - 1, "", frames[0]
        else:
            yield None, named, frames[0]
        return
    if len(frames) != series.n_frames:
        raise UnusableError(f"{file.path}: labels of {len(frames)} frames, expected {series.n_frames} as the series")
    drawn = [t for t, labels in enumerate(frames) if labels.any()]
    if not drawn:
        raise UnusableError(f"{file.path}: no voxel is labelled; expected labels of the heart")
    for t in drawn:
        yield t, "", frames[t]


def _exchanged(source: str, volumes: list[Labels]) -> bool:
    """Whether the codes of both cavities are exchanged (M&Ms: 1 LV, 3 RV), by which of them the myocardium encloses.

    UnusableError where only one cavity has a code and nothing tells which it is.
    """
    present = {int(code) for labels in volumes for code in np.unique(labels)} - {0}
    if present == {RV}:
        raise UnusableError(f"{source}: the only label is {RV}, the RV cavity; expected {LV} for the LV cavity")
    if not {RV, MYOCARDIUM} <= present:
        return False
    return _enclosed(volumes, RV) > max(ENCLOSED, _enclosed(volumes, LV))


def _enclosed(volumes: list[Labels], cavity: int) -> float:
    """Share of a cavity's outline within the slices that lies against myocardium."""
    against, outline = 0, 0
    for labels in volumes:
        for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[:, :, 1:], labels[:, :, :-1])):
            for inside, outside in ((a, b), (b, a)):
                edge = outside[(inside == cavity) & (outside != cavity)]
                against += int(np.count_nonzero(edge == MYOCARDIUM))
                outline += edge.size
    return against / outline if outline else 0.0
