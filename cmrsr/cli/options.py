"""Options of the command line that commands share, and commands whose options are the fields of a dataclass."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, get_type_hints

import typer

MODEL, OUTPUT, BATCH, DEVICE, STREAM = "Model", "Output", "Batch", "Device", "Stream"  # panels of the help text
PATHS, TESTS = "Options with PATH", "Options without PATH"
TIME_AXIS_HELP = "Array axis of time in NIfTI files, 0 to 3, or none: a single volume. Default: as the header says."
ON_MISSING_HELP = "What to do with holes in a DICOM series: fail, or leave out the incomplete frames or slices."

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT...", help="Files, folders (searched), or .txt lists of both, one path a line."),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Output folder. Default: INPUT_cmrsr next to the input.", rich_help_panel=OUTPUT),
]
Engine = Annotated[
    str, typer.Option("--engine", help="Name of an included engine, or folder of a bundle.", rich_help_panel=MODEL)
]
Device = Annotated[
    str, typer.Option("--device", help="Device to run on: auto, cpu, cuda or cuda:N.", rich_help_panel=DEVICE)
]
BackendOption = Annotated[
    Literal["auto", "openvino", "onnxruntime", "tensorrt"],
    typer.Option("--backend", help="Library that runs the engine.", rich_help_panel=DEVICE),
]
PrecisionOption = Annotated[
    Literal["auto", "bf16", "f16", "f32"],
    typer.Option("--precision", help="Arithmetic of the engine. auto: the fastest.", rich_help_panel=DEVICE),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict-device", help="Fail where the device is absent. Default: fall back.", rich_help_panel=DEVICE
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Processors to use. Default: all.", rich_help_panel=DEVICE)
]
SEED_HELP = "Noise seed. The same seed reproduces the result bit for bit."
Seed = Annotated[int, typer.Option("--seed", help=SEED_HELP, rich_help_panel=MODEL)]
TimeAxisOption = Annotated[str | None, typer.Option("--time-axis", help=TIME_AXIS_HELP, rich_help_panel=BATCH)]
OnMissingOption = Annotated[
    Literal["fail", "drop-frame", "drop-slice"],
    typer.Option("--on-missing", help=ON_MISSING_HELP, rich_help_panel=BATCH),
]
FormatOption = Annotated[
    Literal["same", "nifti", "dicom"],
    typer.Option("--format", help="File format of the results. same: that of the input.", rich_help_panel=OUTPUT),
]
Force = Annotated[
    bool, typer.Option("--force", help="Recompute cases whose outputs already exist.", rich_help_panel=OUTPUT)
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", help="Process part I of N of the batch. An array job sets it by itself.", rich_help_panel=BATCH
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write report.html.", rich_help_panel=OUTPUT)]
Samples = Annotated[
    int,
    typer.Option(
        "--samples",
        help="Number of samples. The result is their mean; several also give their spread.",
        rich_help_panel=MODEL,
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", rich_help_panel=BATCH)]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print notes on every case.", rich_help_panel=BATCH)]
Steps = Annotated[
    int,
    typer.Option(
        "--steps",
        help="Diffusion steps. 1: best estimate; 5 with --samples 8: mean and uncertainty.",
        rich_help_panel=MODEL,
    ),
]
Reader = Annotated[
    str,
    typer.Option("--reader", help="Engine of `function` that finds the heart in the cine.", rich_help_panel=MODEL),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", help="Images computed at a time. It does not change the result.", rich_help_panel=BATCH
    ),
]


class Request(Protocol):
    """A dataclass with ``arguments``, the command line as it was typed, and a field for each option."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


R = TypeVar("R", bound=Request)


def command(request: type[R], run: Callable[[R], int]) -> Callable[..., int]:
    """What typer takes for a command: its options are the annotated fields of ``request``, which ``run`` is given.

    In the help text inputs and output come first, then what the class itself declares, then what it inherits.
    """
    hints = get_type_hints(request, include_extras=True) | {"context": typer.Context}
    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    order = dict.fromkeys(("inputs", "out", *request.__annotations__, *(field.name for field in fields(request))))
    known = {field.name: field for field in fields(request)}
    for field in (known[name] for name in order if name in known):
        if field.name != "arguments":
            default = Parameter.empty if field.default is MISSING else field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])
            )

    def typed(*, context: typer.Context, **options: Any) -> int:
        return run(request(**options, arguments=context.obj))  # type: ignore[call-arg]  # a dataclass's own

    typed.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    typed.__annotations__ = {one.name: one.annotation for one in parameters}
    return typed
