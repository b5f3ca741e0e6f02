"""The commands and their options. Nothing heavy is imported before a command runs, so that ``--help`` is quick."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

HELP = """Super-resolution of cardiac MR by few-step diffusion. Research software, not a medical device.

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 no readable input, 4 unusable input, 5 engine, 6 device or memory, \
7 cannot write, 8 some cases failed, 130 interrupted.

Add --debug to any command for a traceback.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
evaluate_app = typer.Typer(
    help="Measure a task on your own good data, beside the obvious baselines.", no_args_is_help=True
)
app.add_typer(evaluate_app, name="evaluate")


class PhaseAxis(StrEnum):
    """``row``/``col`` as DICOM says it: ROW is phase encoding along a row, which is the x axis."""

    auto = "auto"
    row = "row"
    col = "col"
    x = "x"
    y = "y"


class Format(StrEnum):
    same = "same"
    nifti = "nifti"
    dicom = "dicom"


class FileFormat(StrEnum):
    nifti = "nifti"
    dicom = "dicom"


class Backend(StrEnum):
    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"


class Precision(StrEnum):
    auto = "auto"
    bf16 = "bf16"
    f16 = "f16"
    f32 = "f32"


class OnMissing(StrEnum):
    fail = "fail"
    drop_frame = "drop-frame"
    drop_slice = "drop-slice"


Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT...", help="Files, folders (searched through), or .txt lists of them.")
]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Output folder; default INPUT_cmrsr beside the input.")]
Engine = Annotated[str, typer.Option("--engine", help="A shipped engine's name, or the folder of a bundle.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
BackendOption = Annotated[Backend, typer.Option("--backend", help="What runs the engine.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Of the engine's arithmetic; auto: the fast.")]
Strict = Annotated[bool, typer.Option("--strict-device", help="An absent device is an error, not a fallback.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Processors to use; default all.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the noise; the same seed gives the same bits.")]
TimeAxisOption = Annotated[
    str | None, typer.Option("--time-axis", help="Array axis of time in NIfTI files (0 to 3); none: a single volume.")
]
OnMissingOption = Annotated[OnMissing, typer.Option("--on-missing", help="What to do with holes in a DICOM series.")]
FormatOption = Annotated[Format, typer.Option("--format", help="Of the output.")]
Force = Annotated[bool, typer.Option("--force", help="Do again what is already done.")]
Shard = Annotated[
    str | None, typer.Option("--shard", help="I/N: this process's part of the batch; an array job sets it.")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Leave out report.html.")]
Samples = Annotated[int, typer.Option("--samples", help="The output is their mean, and their spread if many.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more about every case.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from cmrsr import __version__

        typer.echo(f"cmrsr {__version__}")
        raise typer.Exit


@app.command()
def sr(
    context: typer.Context,
    inputs: Inputs,
    out: Out = None,
    steps: Annotated[
        int,
        typer.Option("--steps", help="1: best estimate; 5 with --samples 8: mean and uncertainty; 50: fine sample."),
    ] = 1,
    samples: Samples = 1,
    seed: Seed = 0,
    engine: Engine = "perfgen-s",
    phase_axis: Annotated[
        PhaseAxis, typer.Option("--phase-axis", help="Of phase encoding; auto: as the spectrum and the header say.")
    ] = PhaseAxis.auto,
    consistency: Annotated[
        str, typer.Option("--consistency", help="Weight of the projection on acquired k-space: auto, off or 0 to 1.")
    ] = "auto",
    roi: Annotated[str, typer.Option("--roi", help="full, heart (found by itself), or X,Y,W,H in pixels.")] = "full",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Follow one folder, or file names on standard input (INPUT -): each file is a frame, each result is "
            "written at once; no report.",
        ),
    ] = False,
    idle: Annotated[
        float | None,
        typer.Option("--idle", help="With --stream: end after so many seconds without a new file; default never."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time; does not change the result.")] = 8,
    format_: FormatOption = Format.same,
    time_axis: TimeAxisOption = None,
    on_missing: OnMissingOption = OnMissing.fail,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    strict_device: Strict = False,
    force: Force = False,
    shard: Shard = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Super-resolve first-pass perfusion series (PerfGen)."""
    from cmrsr.cli.sr import SrRequest, run_sr_command

    request = SrRequest(
        arguments=context.obj, inputs=inputs, out=out, steps=steps, samples=samples, seed=seed, engine=engine,
        phase_axis=phase_axis.value, consistency=consistency, roi=roi, batch_size=batch_size, format=format_.value,
        time_axis=time_axis, on_missing=on_missing.value, device=device, backend=backend.value,
        precision=precision.value, threads=threads, strict_device=strict_device, force=force, shard=shard,
        report=not no_report, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    if stream:
        from cmrsr.cli.sr_stream import run_sr_stream_command

        return run_sr_stream_command(request, idle)
    if idle is not None:
        from cmrsr.errors import UsageError

        raise UsageError(f"--idle {idle:g} without --stream, which it is for")
    return run_sr_command(request)


@app.command()
def interp4d(
    context: typer.Context,
    inputs: Inputs,
    out: Out = None,
    factor: Annotated[
        int | None,
        typer.Option("--factor", help="K frames where there was one, the acquired ones among them; default 2."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Instead: M frames a series, evenly spaced in time.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Not a whole heart beat: nothing between the last frame and the first.")
    ] = False,
    steps: Annotated[
        int, typer.Option("--steps", help="1: best estimate; 5 with --samples 8: mean and uncertainty.")
    ] = 1,
    samples: Samples = 1,
    seed: Seed = 0,
    engine: Engine = "tssc-s",
    consistency: Annotated[
        bool | None,
        typer.Option(help="Correct every new volume across its slices (stage 2); default: as the engine has it."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Slices at a time; does not change the result.")] = 2,
    format_: FormatOption = Format.same,
    time_axis: TimeAxisOption = None,
    on_missing: OnMissingOption = OnMissing.fail,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    strict_device: Strict = False,
    force: Force = False,
    shard: Shard = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Put frames between the frames of 4-D series such as cines (TSSC-Net)."""
    from cmrsr.cli.interp4d import InterpRequest, run_interp_command

    return run_interp_command(
        InterpRequest(
            arguments=context.obj, inputs=inputs, out=out, factor=factor, frames=frames, open=open_, steps=steps,
            samples=samples, seed=seed, engine=engine, consistency=consistency, batch_size=batch_size,
            format=format_.value, time_axis=time_axis, on_missing=on_missing.value, device=device,
            backend=backend.value, precision=precision.value, threads=threads, strict_device=strict_device,
            force=force, shard=shard, report=not no_report, quiet=quiet, verbose=verbose,
        )
    )  # fmt: skip


@app.command()
def function(
    context: typer.Context,
    inputs: Inputs,
    out: Out = None,
    scale: Annotated[
        str, typer.Option("--scale", help="Of the matrix: 1, 2, or auto: 2 where pixels are longer than 2.4 mm.")
    ] = "auto",
    super_resolve: Annotated[
        bool | None,
        typer.Option(help="Restore the images before they are measured; default: where part of k-space is missing."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="To compare with: a folder of label files, or a CSV as function.csv."),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", help="1: best estimate; 5 with --samples 8: mean and uncertainty.")
    ] = 1,
    samples: Samples = 1,
    seed: Seed = 0,
    engine: Engine = "causal-s",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time; does not change the result.")] = 8,
    format_: FormatOption = Format.same,
    time_axis: TimeAxisOption = None,
    on_missing: OnMissingOption = OnMissing.fail,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    strict_device: Strict = False,
    force: Force = False,
    shard: Shard = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Super-resolve short-axis cines and measure the heart: volumes, ejection fraction, masks (causal multitask)."""
    from cmrsr.cli.function import FunctionRequest, run_function_command

    return run_function_command(
        FunctionRequest(
            arguments=context.obj, inputs=inputs, out=out, scale=scale, super_resolve=super_resolve,
            reference=reference, steps=steps, samples=samples, seed=seed, engine=engine, batch_size=batch_size,
            format=format_.value, time_axis=time_axis, on_missing=on_missing.value, device=device,
            backend=backend.value, precision=precision.value, threads=threads, strict_device=strict_device,
            force=force, shard=shard, report=not no_report, quiet=quiet, verbose=verbose,
        )
    )  # fmt: skip


@app.command(epilog="For example: cmrsr mie study/ or cmrsr mie cine.nii.gz t1.nii.gz --ti 100,180,1000,1080,1900,...")
def mie(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="CINE T1: a short-axis cine and the T1 images (not the map) of the same slices; or STUDY...: folders "
            "that hold both.",
        ),
    ],
    out: Out = None,
    ti: Annotated[
        str | None,
        typer.Option("--ti", help="Inversion times in ms of the T1 images in their order, where the files lack them."),
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Probability from which a pixel is scar.")] = 0.5,
    steps: Annotated[int | None, typer.Option("--steps", help="Of the diffusion; default the engine's.")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="The output is their mean, and their spread; default the engine's.")
    ] = None,
    seed: Seed = 0,
    engine: Engine = "cpkdm-s",
    reader: Annotated[
        str, typer.Option("--reader", help="The engine of `function` that finds the heart in the cine.")
    ] = "causal-s",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time; does not change the result.")] = 8,
    format_: FormatOption = Format.same,
    time_axis: TimeAxisOption = None,
    on_missing: OnMissingOption = OnMissing.fail,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    strict_device: Strict = False,
    force: Force = False,
    shard: Shard = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Synthesise late enhancement and outline scar, from a cine and native T1 images without contrast agent (CPKDM).

    The images are SYNTHETIC, and say so in every file.
    """
    from cmrsr.cli.mie import MieRequest, engine_defaults, run_mie_command

    own_steps, own_samples = engine_defaults(engine)
    return run_mie_command(
        MieRequest(
            arguments=context.obj, inputs=inputs, out=out, ti=ti, threshold=threshold,
            steps=own_steps if steps is None else steps, samples=own_samples if samples is None else samples, seed=seed,
            engine=engine, reader=reader, batch_size=batch_size, format=format_.value, time_axis=time_axis,
            on_missing=on_missing.value, device=device, backend=backend.value, precision=precision.value,
            threads=threads, strict_device=strict_device, force=force, shard=shard, report=not no_report, quiet=quiet,
            verbose=verbose,
        )
    )  # fmt: skip


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a TOML file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder: weights, checkpoint, log.")] = Path("runs"),
    data: Annotated[
        str | None, typer.Option("--data", help="phantom, or a folder of full-resolution series; default the recipe's.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", help="Fine-tune: begin from an engine's weights (its name), or those of a run folder."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the recipe, may be repeated.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the run folder.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where virtual patients are kept; default cmrsr in the user's cache.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a system from a recipe, on virtual patients or on your own series (needs the extra `train`)."""
    from cmrsr.cli.train import run_train_command

    run_train_command(recipe, out, start, data, set_ or [], resume, device, cache, quiet)


class ExportPrecision(StrEnum):
    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    int8 = "int8"


class Layout(StrEnum):
    bundle = "bundle"
    triton = "triton"


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An export recipe (TOML), a folder written by `cmrsr train`, or an engine's name or folder.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Bundle folder, default engines/NAME here; of --layout triton, default triton."
        ),
    ] = None,
    precision: Annotated[
        ExportPrecision | None,
        typer.Option(
            "--precision",
            help="f16, bf16: beside f32, and of plans; int8: an engine of its own; default as in the recipe.",
        ),
    ] = None,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Build the TensorRT plans of the engine for this GPU, into the cache.")
    ] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="Plans that the smaller tensorrt_lean runs too.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="Of --tensorrt and --verify: cuda or cuda:N.")] = "cuda",
    layout: Annotated[
        Layout, typer.Option("--layout", help="triton: a model repository for Triton Inference Server.")
    ] = Layout.bundle,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all backends of this machine; too large an error: exit 5.")
    ] = False,
) -> None:
    """Compile trained weights to an engine bundle: ONNX, parity check, manifest (needs the extra `train`).

    An engine that exists gets TensorRT plans, a check on every backend, or a model repository.
    """
    from cmrsr.cli.export import ExportRequest, run_export_command

    run_export_command(
        ExportRequest(
            source=source, out=out, precision=precision.value if precision else None, tensorrt=tensorrt,
            portable=portable, device=device, triton=layout is Layout.triton, verify=verify,
        )
    )  # fmt: skip


class PhantomKind(StrEnum):
    study = "study"
    cine = "cine"
    perfusion = "perfusion"
    t1 = "t1"
    lge = "lge"


class PhantomGroup(StrEnum):
    """The groups of the ACDC challenge."""

    mixed = "mixed"
    normal = "normal"
    infarct = "infarct"
    dilated = "dilated"
    hypertrophic = "hypertrophic"
    rv = "rv"


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    kind: Annotated[
        PhantomKind, typer.Option("--kind", help="Which scan; study: all four of the same body.")
    ] = PhantomKind.study,
    subjects: Annotated[int, typer.Option("--subjects", help="How many virtual patients.")] = 1,
    seed: Seed = 0,
    format_: Annotated[FileFormat, typer.Option("--format", help="Of the scans; the truth is NIfTI and JSON.")] = (
        FileFormat.nifti
    ),
    group: Annotated[PhantomGroup, typer.Option("--group", help="Of disease, as in ACDC.")] = PhantomGroup.mixed,
    ef: Annotated[
        float | None, typer.Option("--ef", help="Left-ventricular ejection fraction, percent; default drawn.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Phases of a cine, beats of a perfusion series; default drawn.")
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option("--slices", help="Short-axis slices; default: cine and LGE cover the heart, the others have 3."),
    ] = None,
    matrix: Annotated[int | None, typer.Option("--matrix", help="Pixels along x and y; default drawn.")] = None,
    fraction: Annotated[
        float,
        typer.Option("--fraction", help="Share of perfusion's phase lines that is acquired; below 1: input for sr."),
    ] = 1.0,
    long_axis: Annotated[bool, typer.Option("--long-axis", help="Cine also in 2-, 3- and 4-chamber view.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Patients made at a time; default all cores.")
    ] = None,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="Leave out each patient's overview.png.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write scans of virtual patients (cine, perfusion, T1, LGE of one body), with the truth beside them."""
    from cmrsr.cli.phantom import PhantomRequest, run_phantom_command

    run_phantom_command(
        PhantomRequest(
            out=out, kind=kind.value, subjects=subjects, seed=seed, format=format_.value, group=group.value, ef=ef,
            frames=frames, slices=slices, matrix=matrix, fraction=fraction, long_axis=long_axis, workers=workers,
            picture=not no_picture, quiet=quiet,
        )
    )  # fmt: skip


@evaluate_app.command("sr")
def evaluate_sr(
    context: typer.Context,
    inputs: Inputs,
    out: Out = None,
    fraction: Annotated[float, typer.Option("--fraction", help="Share of the phase lines that is kept.")] = 0.35,
    axes: Annotated[str, typer.Option("--axes", help="Phase-encoding axes to try: x, y or xy.")] = "xy",
    crop: Annotated[int, typer.Option("--crop", help="Heart window in pixels that is scored; 0: whole image.")] = 96,
    every: Annotated[int, typer.Option("--every", help="Use every n-th frame.")] = 1,
    engine: Engine = "perfgen-s",
    settings: Annotated[
        str, typer.Option("--settings", help="STEPSxSAMPLES[@CONSISTENCY], separated by commas.")
    ] = "1x1,5x1,5x8",
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time.")] = 8,
    time_axis: TimeAxisOption = None,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> int:
    """Degrade full-resolution series, restore them, and compare with the original and the baselines."""
    from cmrsr.cli.evaluate import EvaluateRequest, run_evaluate_sr_command

    return run_evaluate_sr_command(
        EvaluateRequest(
            arguments=context.obj, inputs=inputs, out=out, fraction=fraction, axes=axes, crop=crop, every=every,
            engine=engine, settings=settings, seed=seed, batch_size=batch_size, time_axis=time_axis, device=device,
            backend=backend.value, precision=precision.value, threads=threads, quiet=quiet,
        )
    )  # fmt: skip


class InterpProtocol(StrEnum):
    holdout_frames = "holdout-frames"
    ed_es = "ed-es"
    uvi = "uvi"
    tssc = "tssc"


@evaluate_app.command("interp4d")
def evaluate_interp4d(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DATA]...", help="4-D series: files, folders (ACDC's layout too), or .txt lists."),
    ] = None,
    out: Out = None,
    protocol: Annotated[
        InterpProtocol | None,
        typer.Option(
            "--protocol",
            help="holdout-frames: every K-th frame is known (default); ed-es: end-diastole and end-systole are "
            "(default of virtual patients); uvi, tssc: as published on ACDC.",
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", help="K of holdout-frames: every K-th frame is kept; default 4.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Not a whole beat: the last frame does not lead back.")] = False,
    crop: Annotated[
        int, typer.Option("--crop", help="Heart window in pixels, scored beside the whole image; 0: none.")
    ] = 0,
    es: Annotated[int | None, typer.Option("--es", help="Frame of end-systole, from 1; default found.")] = None,
    gaps: Annotated[
        str | None, typer.Option("--gaps", help="Score also with every n-th frame kept, for instance 2,4,8.")
    ] = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Score so many virtual patients instead of DATA.")
    ] = None,
    speed: Annotated[
        int | None, typer.Option("--speed", help="Virtual hearts beat so many times as fast: 1, 2, 3, 4 or 6.")
    ] = None,
    engine: Engine = "tssc-s",
    settings: Annotated[str, typer.Option("--settings", help="STEPSxSAMPLES, separated by commas.")] = "1x1",
    seed: Annotated[int, typer.Option("--seed", help="Of the noise and of the virtual patients.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Slices at a time.")] = 2,
    time_axis: TimeAxisOption = None,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> int:
    """Hide frames of 4-D series, restore them from the others, and compare with the true ones and the baselines."""
    from cmrsr.cli.evaluate_interp4d import EvaluateInterpRequest, run_evaluate_interp_command

    return run_evaluate_interp_command(
        EvaluateInterpRequest(
            arguments=context.obj, inputs=data or [], out=out, protocol=protocol and protocol.value, keep=keep,
            open=open_, crop=crop, es=es, gaps=gaps, subjects=subjects, speed=speed, engine=engine, settings=settings,
            seed=seed, batch_size=batch_size, time_axis=time_axis, device=device, backend=backend.value,
            precision=precision.value, threads=threads, quiet=quiet,
        )
    )  # fmt: skip


@evaluate_app.command("function")
def evaluate_function(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DATA]...", help="Short-axis cines: files, folders (as of ACDC, too), .txt lists."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder of label NIfTI named like the scans, or a CSV table of values."),
    ] = None,
    out: Out = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Score so many virtual patients instead of DATA.")
    ] = None,
    scale: Annotated[
        int, typer.Option("--scale", help="2: measure at half resolution and restored too; 1: full resolution alone.")
    ] = 2,
    crop: Annotated[
        int, typer.Option("--crop", help="Heart window in pixels, scored beside the whole image; 0: none.")
    ] = 96,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", help="Name or folder of an engine; several (or with commas): a row each."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Of the diffusion.")] = 1,
    samples: Samples = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise and of the virtual patients.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time.")] = 8,
    time_axis: TimeAxisOption = None,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> int:
    """Measure cines at full resolution, at half of it and super-resolved; compare with reference values or labels."""
    from cmrsr.cli.evaluate_function import EvaluateFunctionRequest, run_evaluate_function_command

    return run_evaluate_function_command(
        EvaluateFunctionRequest(
            arguments=context.obj, inputs=data or [], labels=labels, out=out, subjects=subjects, scale=scale, crop=crop,
            engines=engine or ["causal-s"], steps=steps, samples=samples, seed=seed, batch_size=batch_size,
            time_axis=time_axis, device=device, backend=backend.value, precision=precision.value, threads=threads,
            quiet=quiet,
        )
    )  # fmt: skip


@evaluate_app.command("mie")
def evaluate_mie(
    context: typer.Context,
    studies: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[STUDY]...", help="Folders with cine, T1 images and late enhancement of each patient."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder of scar masks named like the late enhancement; default beside it."),
    ] = None,
    out: Out = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Score so many virtual patients instead of STUDY.")
    ] = None,
    groups: Annotated[
        str, typer.Option("--groups", help="Of the virtual patients, in turn, separated by commas.")
    ] = "normal,infarct",
    slices: Annotated[int, typer.Option("--slices", help="T1 slices of a virtual patient, 1 to 3.")] = 3,
    frames: Annotated[int, typer.Option("--frames", help="Phases of the cine of a virtual patient.")] = 20,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps the scans of virtual patients.")
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap/--no-swap", help="Also T1 images of one patient with the cine of the next.")
    ] = True,
    lpips: Annotated[
        Path | None, typer.Option("--lpips", help="ONNX file of LPIPS: two images (n, 3, y, x) to a distance (n).")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", help="Name or folder of an engine; several (or with commas): a row each."),
    ] = None,
    reader: Annotated[
        str, typer.Option("--reader", help="The engine of `function` that finds the heart in the cine.")
    ] = "causal-s",
    steps: Annotated[int, typer.Option("--steps", help="Of the diffusion.")] = 5,
    samples: Samples = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise and of the virtual patients.")] = 1000,
    ti: Annotated[
        str | None,
        typer.Option("--ti", help="Inversion times in ms of the T1 images in their order, where the files lack them."),
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Probability from which a pixel is scar.")] = 0.5,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time.")] = 8,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> int:
    """Synthesise late enhancement; compare it and its scar with acquired enhancement, beside simple baselines."""
    from cmrsr.cli.evaluate_mie import EvaluateMieRequest, run_evaluate_mie_command

    return run_evaluate_mie_command(
        EvaluateMieRequest(
            arguments=context.obj, inputs=studies or [], labels=labels, out=out, subjects=subjects, groups=groups,
            slices=slices, frames=frames, cache=cache, swap=swap, lpips=lpips, engines=engine or ["cpkdm-s"],
            reader=reader, steps=steps, samples=samples, seed=seed, ti=ti, threshold=threshold, batch_size=batch_size,
            device=device, backend=backend.value, precision=precision.value, threads=threads, quiet=quiet,
        )
    )  # fmt: skip


@evaluate_app.command("phantom")
def evaluate_phantom(
    context: typer.Context,
    real: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[REAL]...", help="Real scans to compare with: files, folders, or .txt lists of them."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Output folder.")] = Path("phantom_evaluation"),
    subjects: Annotated[
        int, typer.Option("--subjects", help="Virtual subjects that are measured: so many healthy, so many of all.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of the virtual patients.")] = 1,
    images: Annotated[
        int, typer.Option("--images", help="Virtual patients that are scanned, of every kind among the real scans.")
    ] = 8,
    quiet: Quiet = False,
) -> None:
    """Compare virtual patients with normal values, with definitions of disease, and with real scans."""
    from cmrsr.cli.evaluate_phantom import EvaluatePhantomRequest, run_evaluate_phantom_command

    run_evaluate_phantom_command(
        EvaluatePhantomRequest(
            arguments=context.obj, inputs=real or [], out=out, subjects=subjects, seed=seed, images=images, quiet=quiet
        )
    )


@app.command()
def info(
    selftest: Annotated[
        bool, typer.Option("--selftest", help="Check engines, backends and tasks against what was released.")
    ] = False,
    bench: Annotated[bool, typer.Option("--bench", help="Measure how fast the engines are here.")] = False,
    engines: Annotated[
        list[str] | None,
        typer.Option("--engine", help="Of --selftest and --bench: a name or folder, may be repeated; default all."),
    ] = None,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    threads: Threads = None,
    json_: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> int:
    """Version, devices, backends, and the engines with their digests; whether all works, and how fast."""
    from cmrsr.cli.info import InfoRequest, run_info_command

    return run_info_command(
        InfoRequest(
            selftest=selftest, bench=bench, engines=engines or [], device=device, backend=backend.value,
            threads=threads, as_json=json_,
        )
    )  # fmt: skip
