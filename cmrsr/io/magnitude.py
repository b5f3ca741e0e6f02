"""What no task takes: images that are not magnitudes."""

from cmrsr.errors import UnusableError
from cmrsr.io.series import Series


def refuse_maps(series: Series) -> None:
    """Phase images wrap, and maps hold other quantities: neither is what a network has learnt. UnusableError."""
    if series.source.format == "dicom":
        component = series.source.header.table[0][0].component
        if component != "magnitude":
            kind = "a map of another quantity" if component == "map" else f"{component} images"
            raise UnusableError(f"{series.source.name}: {kind}, expected magnitude images; leave them out")
