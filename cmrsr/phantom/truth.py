"""What is true of a virtual patient: labels, AHA segments, displacement and strain on any grid, and the numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmrsr.phantom.heart import N_HEART, OUTSIDE, REACH_MM, Heart, rv_volume_ml, truth_of_labels
from cmrsr.phantom.infarct import N_SEGMENTS, SCAR_FLOW, SEGMENT_NAMES, aha_segment
from cmrsr.phantom.patient import VirtualPatient
from cmrsr.phantom.plane import Plane
from cmrsr.phantom.scan import LABELS
from cmrsr.physics.strain import green_lagrange
from cmrsr.physics.volumes import DENSITY_G_ML

STRAIN_COMPONENTS = ("radial", "circumferential", "longitudinal")
N_DEPTHS, EVERY_THETA, EVERY_Z = 24, 3, 4  # of the wall's quadrature


def labels_at(heart: Heart, points: NDArray[np.float64], a: float) -> NDArray[np.uint8]:
    """``LABELS`` of points (n, 3) in the heart's frame at activation ``a``."""
    found = heart.locate(points, a).labels
    table = truth_of_labels(N_HEART)
    return np.asarray(np.where(found == OUTSIDE, 0, table[found]), dtype=np.uint8)


def maps_at(
    patient: VirtualPatient, plane: Plane, matrix: int, activation: float, breath_mm: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """Truth at the pixels of a scan (matrix, matrix): "label", "aha", and of the tissue that now lies in a pixel

    "displacement" (y, x, 3), RAS mm, since end diastole, without breathing, and "strain" (y, x, 3): Green-Lagrange,
    ``STRAIN_COMPONENTS``, about the long axis. 0 outside the LV's wall.
    """
    pixel = plane.fov / matrix
    rows, columns = np.indices((matrix, matrix)).reshape(2, -1)
    at = plane.centre + pixel * (
        (rows - matrix // 2)[:, None] * plane.along_y + (columns - matrix // 2)[:, None] * plane.along_x
    )
    near = np.flatnonzero(((at - breath_mm) ** 2).sum(1) < REACH_MM**2)
    points = patient.to_heart(at[near] - breath_mm)
    out: dict[str, NDArray[Any]] = {
        "label": np.zeros(matrix**2, np.uint8), "aha": np.zeros(matrix**2, np.uint8),
        "displacement": np.zeros((matrix**2, 3), np.float32), "strain": np.zeros((matrix**2, 3), np.float32),
    }  # fmt: skip
    out["label"][near] = labels_at(patient.heart, points, activation)
    wall = np.isin(out["label"], (LABELS["myocardium"], LABELS["scar"]))[near]
    here, p = near[wall], points[wall]
    m = patient.heart.motion.backward(np.hypot(p[:, 0], p[:, 1]), np.arctan2(p[:, 1], p[:, 0]), p[:, 2], activation)
    out["aha"][here] = aha_segment(patient.heart.lv, m.theta, m.z)
    before = np.stack([m.r * np.cos(m.theta), m.r * np.sin(m.theta), m.z], 1)
    out["displacement"][here] = (p - before) @ patient.turn.T
    f = patient.heart.motion.deformation_gradient(m.r, m.theta, m.z, activation)
    out["strain"][here] = np.diagonal(green_lagrange(f), axis1=-2, axis2=-1)
    return {name: v.reshape(matrix, matrix, *v.shape[1:]) for name, v in out.items()}


def wall_samples(heart: Heart) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """Material points of the wall (n, 3: r, theta, z), their volumes (n,) in mm3, and AHA segments (n,)."""
    q = heart.quadrature
    theta, z = (np.asarray(g)[::EVERY_THETA, ::EVERY_Z] for g in np.broadcast_arrays(q.theta, q.z))
    endo, epi = heart.lv.surfaces(theta, z)
    share = (np.arange(N_DEPTHS) + 0.5) / N_DEPTHS
    # equal volumes through the wall
    r = np.sqrt(endo**2 + share[:, None, None] * (epi**2 - endo**2))
    theta, z = np.broadcast_to(theta, r.shape), np.broadcast_to(z, r.shape)
    cell = (q.z[1] - q.z[0]) * (2 * np.pi / len(q.theta)) * EVERY_THETA * EVERY_Z
    volume = np.broadcast_to((epi**2 - endo**2) / 2 * cell / N_DEPTHS, r.shape)
    inside = heart.lv.below_valve(theta, z, r) & (volume > 0)
    points = np.stack([r[inside], theta[inside], z[inside]], 1)
    return points, volume[inside], aha_segment(heart.lv, points[:, 1], points[:, 2])


def heart_truth(patient: VirtualPatient) -> dict[str, Any]:
    """The numbers of ``truth.json``: volumes, ejection fraction, mass, strain, wall, scar and flow by AHA segment."""
    heart, cycle = patient.heart, patient.cycle
    q, motion = heart.quadrature, heart.motion
    edv, esv = motion.cavity_ml(q, 0.0), motion.cavity_ml(q, 1.0)
    rv_edv, rv_esv = (rv_volume_ml(heart.rv, motion, q, a) for a in (0.0, 1.0))
    points, volume, segment = wall_samples(heart)
    r, theta, z = points.T
    strain = np.diagonal(green_lagrange(motion.deformation_gradient(r, theta, z, 1.0)), axis1=-2, axis2=-1)
    depth = heart.lv.depth(theta, z, r)
    extent = heart.disease.scar_extent(theta, z)
    scar = depth < extent
    flow = patient.perfusion
    wall = thickness(heart, 0.0), thickness(heart, 1.0)
    segments = []
    for s in range(1, N_SEGMENTS + 1):
        here = segment == s
        weight = volume[here] / volume[here].sum()
        share = float((scar[here] * weight).sum())
        kept = 1 - share * (1 - SCAR_FLOW)
        segments.append({
            "segment": s,
            "name": SEGMENT_NAMES[s - 1],
            "strain_es": dict(zip(STRAIN_COMPONENTS, (strain[here] * weight[:, None]).sum(0).tolist(), strict=True)),
            "wall_ed_mm": wall[0][s - 1],
            "wall_es_mm": wall[1][s - 1],
            "scar_share": share,
            "transmurality": float((extent[here] * weight).sum()),
            "mbf_rest_ml_g_min": float(flow.rest[s - 1].mean() * kept),
            "mbf_stress_ml_g_min": float(flow.stress[s - 1].mean() * kept),
        })  # fmt: skip
    total = volume / volume.sum()
    mass = q.wall_ml * DENSITY_G_ML
    rate = 60_000 / cycle.beat_ms
    return {
        "lv": {
            "edv_ml": edv, "esv_ml": esv, "sv_ml": edv - esv, "ef_percent": 100 * (edv - esv) / edv, "mass_g": mass,
            "cardiac_output_l_min": (edv - esv) * rate / 1000, "length_ed_mm": heart.lv.base_z - heart.lv.apex_wall,
            "wall_max_ed_mm": max(w for w in wall[0] if w),
            "strain_es": dict(zip(STRAIN_COMPONENTS, (strain * total[:, None]).sum(0).tolist(), strict=True)),
        },
        "rv": {
            "edv_ml": rv_edv, "esv_ml": rv_esv, "sv_ml": rv_edv - rv_esv,
            "ef_percent": 100 * (rv_edv - rv_esv) / rv_edv,
        },
        "scar": {
            "mass_g": float((volume * scar).sum() / 1000 * DENSITY_G_ML),
            "percent_of_lv": float(100 * (scar * total).sum()),
            "territories": [one.territory for one in heart.disease.scars],
        },
        "ischaemic_territory": heart.disease.ischaemic,
        "segments": segments,
        "heart_rate_bpm": rate,
        "es_time_ms": cycle.systole_ms,
    }  # fmt: skip


def thickness(heart: Heart, a: float) -> list[float]:
    """Mean wall thickness (mm, across the long axis) of the 17 segments at activation ``a``; 0 for the apex."""
    q = heart.quadrature
    theta, z = np.broadcast_arrays(q.theta, q.z)
    k = heart.motion.squeezed(theta, z, a)
    endo2, epi2 = (r**2 for r in heart.lv.surfaces(theta, z))
    zeta = heart.motion.stretch(a)
    wall = (np.sqrt(np.maximum(epi2 - k * endo2, 0)) - np.sqrt((1 - k) * endo2)) / np.sqrt(zeta)
    segment, inside = aha_segment(heart.lv, theta, z), (q.cavity > 0) & (z < heart.lv.base_z)
    means = [wall[inside & (segment == s)] for s in range(1, N_SEGMENTS)]
    return [*(float(m.mean()) if m.size else 0.0 for m in means), 0.0]
