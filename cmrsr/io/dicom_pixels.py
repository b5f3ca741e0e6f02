"""The pixels of one DICOM image, decoded when they are wanted."""

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom_read import DicomInstance


def read_pixels(instance: DicomInstance) -> NDArray[np.float32]:
    """The image ``(y, x)`` in the units of the file: rescale slope and intercept applied, nothing inverted."""
    try:
        # From a path, pydicom reads no more than the frame, but it takes twice as long and cannot inflate.
        source = instance.path if instance.n_frames > 1 else pydicom.dcmread(instance.path)
        stored = pixel_array(source, index=instance.frame, raw=True)
    except Exception as error:  # the decoders raise anything from struct.error to their own classes
        reason = " ".join(str(error).split())
        raise UnreadableError(
            f"cannot decode the pixel data of {instance.path} ({reason}); check the file, or decompress it first"
        ) from error
    if stored.shape != instance.matrix:
        raise UnreadableError(
            f"expected {instance.matrix} pixels as in the header, decoded {stored.shape} in {instance.path}"
        )
    pixels = stored.astype(np.float32)
    pixels *= np.float32(instance.slope)
    pixels += np.float32(instance.intercept)
    return pixels
