"""A map of one quantity, such as the standard deviation of a result, as one DICOM Parametric Map in floating point."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from cmrsr.errors import OutputError
from cmrsr.io.derivation import Derivation
from cmrsr.io.dicom.objects.common import (
    copy_provenance,
    geometry,
    identity,
    number_in_time,
    refer_to_sources,
    stand_in,
)
from cmrsr.io.dicom.uid import root_of
from cmrsr.io.dicom.write.image import Also, Between, Result, plan_result
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.series import Series, Shape

if TYPE_CHECKING:
    from highdicom.pm import ParametricMap

MIN_WINDOW = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a map shows. name: ContentLabel; contrast: of its ImageType.

    offset: maps are numbered apart from the images of the same result, which count from 1 (see put_series).
    """

    name: str
    contrast: str
    code: Code
    unit: Code
    offset: int


STANDARD_DEVIATION = Quantity(
    name="STDDEV", contrast="STD_DEVIATION", code=codes.SCT.StandardDeviation, unit=codes.UCUM.NoUnits, offset=50
)
PROBABILITY = Quantity(
    name="PROBABILITY", contrast="QUANTITY", code=codes.DCM.Probability, unit=codes.UCUM.NoUnits, offset=70
)
T1_MAP = Quantity(name="T1", contrast="QUANTITY", code=codes.DCM.T1, unit=codes.UCUM.Millisecond, offset=80)


@config.disable_value_validation()  # of the source's identifiers; what is ours is checked by ``put``
def write_parametric_map(
    path: Path,
    like: Series,
    derivation: Derivation,
    frames: Iterable[NDArray[np.float32]],
    *,
    affine: NDArray[np.float64],
    shape: Shape,
    label: str,
    between: Between | None = None,
    quantity: Quantity = STANDARD_DEVIATION,
    also: Also = (),
    synthetic: bool = False,
) -> None:
    """Write ``frames`` (z, y, x), one per time point of ``shape`` = (t, z, y, x), as one file with float pixels.

    All frames are held in memory: a Parametric Map is one file, and its writer (highdicom) takes it as a whole.
    ``label`` names the map, such as "Standard deviation"; ``between``, ``also`` and ``synthetic`` as for
    ``dicom_writer``.
    Raises OutputError for NaN or infinite values.
    """
    data = np.stack([np.asarray(frame, dtype=np.float32) for frame in frames])
    if data.shape != shape:
        raise ValueError(f"expected frames of shape {shape}, got {data.shape}")
    if not np.isfinite(data).all():
        raise OutputError(f"the {label.lower()} holds NaN or infinite values; {path} not written")
    times = like.times_ms if shape[0] == like.n_frames else None
    result = plan_result(
        like,
        derivation,
        shape=shape,
        affine=affine,
        times_ms=times,
        between=between,
        root=root_of(like, derivation),
        offset=quantity.offset,
        suffix=label,
        also=also,
        synthetic=synthetic,
    )
    image = _parametric_map(data, result, label, quantity)
    with replacing(path) as partial, output_errors(path):
        image.save_as(partial, enforce_file_format=True)


def _parametric_map(data: NDArray[np.float32], result: Result, label: str, quantity: Quantity) -> "ParametricMap":
    import highdicom as hd  # takes half a second

    low, high = float(data.min()), float(data.max())
    template = stand_in(result)
    image = hd.pm.ParametricMap(
        source_images=[template],
        pixel_array=np.moveaxis(data, 0, -1),
        **identity(result, "map"),
        **geometry(result),
        contains_recognizable_visual_features=False,
        # highdicom knows channels but no time: each time point is a channel with a mapping of its own.
        real_world_value_mappings=[
            [
                hd.pm.RealWorldValueMapping(
                    lut_label=f"T{t + 1}",
                    lut_explanation=label[:64],
                    unit=quantity.unit,
                    value_range=(low, high),
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=quantity.code,
                )
            ]
            for t in range(len(data))
        ],
        voi_lut_transformations=[
            # The default function does not allow a window narrower than 1.
            hd.VOILUTTransformation(
                window_center=(low + high) / 2,
                window_width=max(high - low, MIN_WINDOW),
                voi_lut_function="LINEAR_EXACT",
            )
        ],
        content_label=quantity.name,
        derived_pixel_contrast=quantity.contrast,
        content_description=label[:64],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    copy_provenance(image, result, template)
    number_in_time(image, [_time_point(groups) for groups in image.PerFrameFunctionalGroupsSequence])
    refer_to_sources(image, result, codes.DCM.UnspecifiedMethodOfCalculation)
    return image


def _time_point(groups: Dataset) -> int:
    """Index of a frame in time, from the label of its channel; a single one is shared by all frames and left out."""
    mappings = groups.get("RealWorldValueMappingSequence")
    return int(mappings[0].LUTLabel[1:]) - 1 if mappings else 0
