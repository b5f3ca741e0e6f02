"""The pixels of one DICOM image, decoded when they are wanted."""

import numpy as np
from numpy.typing import NDArray

from cmrsr.errors import UnreadableError
from cmrsr.io.dicom.read.header import LAYOUT, header_in, stored_pixels
from cmrsr.io.dicom.read.instance import DicomInstance
from cmrsr.io.dicom.read.stored import frame
from cmrsr.io.dicom.read.window import CutOffError


def read_pixels(instance: DicomInstance) -> NDArray[np.float32]:
    """The image ``(y, x)`` in the units of the file: rescale slope and intercept applied, nothing inverted.

    Raises UnreadableError, and nothing else.
    """
    try:
        with instance.path.open("rb") as file:
            header = header_in(file, instance.path, LAYOUT)
            stored = frame(stored_pixels(header, file), instance.frame)
    except UnreadableError as error:
        raise UnreadableError(f"cannot decode the pixel data of {instance.path} ({error})") from error
    except OSError as error:
        raise UnreadableError(f"cannot decode the pixel data of {instance.path} ({error.strerror})") from error
    except CutOffError as error:
        raise UnreadableError(f"cannot decode the pixel data of {instance.path} (cut off)") from error
    if stored.shape != instance.matrix:
        raise UnreadableError(
            f"expected {instance.matrix} pixels as in the header, decoded {stored.shape} in {instance.path}"
        )
    pixels = stored.astype(np.float32)
    pixels *= np.float32(instance.slope)
    pixels += np.float32(instance.intercept)
    return pixels
