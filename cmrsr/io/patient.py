"""Which patient a series of a batch belongs to."""


def patient_of(name: str) -> str:
    """The patient of a series by its name in the batch: its top folder, or the file name up to the first underscore."""
    top, separator, _ = name.partition("/")
    return top if separator else top.split("_")[0]
