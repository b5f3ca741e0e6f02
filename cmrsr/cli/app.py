"""The commands and their options. Nothing heavy is imported before a command runs, so that ``--help`` is quick."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

HELP = """Super-resolution of cardiac MR by few-step diffusion. Research software, not a medical device.

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 no readable input, 4 unusable input, 5 engine, 6 device or memory, \
7 cannot write, 8 some cases failed, 130 interrupted.

Manuals: cmrsr help. Add --debug to any command for a traceback.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
evaluate_app = typer.Typer(
    help="Measure a task on your own full-resolution data, compared with simple baselines.", no_args_is_help=True
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
    Backend, typer.Option("--backend", help="Library that runs the engine.", rich_help_panel=DEVICE)
]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="Arithmetic of the engine. auto: the fastest.", rich_help_panel=DEVICE)
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
OnMissingOption = Annotated[OnMissing, typer.Option("--on-missing", help=ON_MISSING_HELP, rich_help_panel=BATCH)]
FormatOption = Annotated[
    Format,
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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from cmrsr.version import __version__

        typer.echo(f"cmrsr {__version__}")
        raise typer.Exit


@app.command()
def sr(
    context: typer.Context,
    inputs: Inputs,
    out: Out = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            help="Diffusion steps. The image is the best estimate for any number; 2 or more also give its standard "
            "deviation map (_std).",
            rich_help_panel=MODEL,
        ),
    ] = 1,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="Samples drawn for the standard deviation map with 2 or more steps. Default: 8.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    realism: Annotated[
        float,
        typer.Option(
            "--realism",
            help="Move the image from the best estimate (0) towards one sample (1): more texture, up to 3 dB less "
            "PSNR. Needs 2 or more steps.",
            rich_help_panel=MODEL,
        ),
    ] = 0.0,
    save_samples: Annotated[
        bool,
        typer.Option(
            "--save-samples",
            help="Write every single sample to files of its own as well (_sample1 and so on).",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    seed: Seed = 0,
    engine: Engine = "perfgen-s",
    phase_axis: Annotated[
        PhaseAxis,
        typer.Option(
            "--phase-axis",
            help="Axis of phase encoding. auto: from the spectrum and the header.",
            rich_help_panel=MODEL,
        ),
    ] = PhaseAxis.auto,
    consistency: Annotated[
        str,
        typer.Option(
            "--consistency",
            help="Weight of the projection on acquired k-space: auto (the engine's), off, or 0 to 1.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    roi: Annotated[
        str,
        typer.Option(
            "--roi",
            help="Region to restore: full, heart (detected automatically), or X,Y,W,H in pixels.",
            rich_help_panel=MODEL,
        ),
    ] = "full",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Follow one folder, or file names on standard input (INPUT -): each file is one frame, each result "
            "is written at once. No report is made.",
            rich_help_panel=STREAM,
        ),
    ] = False,
    idle: Annotated[
        float | None,
        typer.Option(
            "--idle",
            help="With --stream: stop after so many seconds without a new file. Default: never.",
            rich_help_panel=STREAM,
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", help="Images computed at a time. It does not change the result.", rich_help_panel=BATCH
        ),
    ] = 8,
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
        phase_axis=phase_axis.value, consistency=consistency, roi=roi, realism=realism, save_samples=save_samples,
        batch_size=batch_size, format=format_.value,
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
        typer.Option(
            "--factor",
            help="Multiply the number of frames by K; acquired frames are kept. Default: 2.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", help="Instead of --factor: M frames per series, evenly spaced in time.", rich_help_panel=MODEL
        ),
    ] = None,
    open_: Annotated[
        bool,
        typer.Option(
            "--open",
            help="The series does not cover a full cardiac cycle: no frames between the last and the first.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            help="Diffusion steps. 1: best estimate; 5 with --samples 8: mean and uncertainty.",
            rich_help_panel=MODEL,
        ),
    ] = 1,
    samples: Samples = 1,
    seed: Seed = 0,
    engine: Engine = "tssc-s",
    consistency: Annotated[
        bool | None,
        typer.Option(
            help="Correct every new volume across its slices (stage 2). Default: as the engine defines.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", help="Slices computed at a time. It does not change the result.", rich_help_panel=BATCH
        ),
    ] = 2,
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
    """Increase the temporal resolution of 4-D series such as cines (TSSC-Net)."""
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
        str,
        typer.Option(
            "--scale", help="Matrix scale: 1, 2, or auto: 2 where pixels are longer than 2.4 mm.", rich_help_panel=MODEL
        ),
    ] = "auto",
    super_resolve: Annotated[
        bool | None,
        typer.Option(
            help="Restore the images before they are measured. Default: where part of k-space is missing.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Reference to compare with: a folder of label files, or a CSV like function.csv.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            help="Diffusion steps. 1: best estimate; 5 with --samples 8: mean and uncertainty.",
            rich_help_panel=MODEL,
        ),
    ] = 1,
    samples: Samples = 1,
    seed: Seed = 0,
    engine: Engine = "causal-s",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", help="Images computed at a time. It does not change the result.", rich_help_panel=BATCH
        ),
    ] = 8,
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
        typer.Option(
            "--ti",
            help="Inversion times of the T1 images in ms, in their order. Default: from the files.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", help="Probability from which a pixel is classified as scar.", rich_help_panel=MODEL
        ),
    ] = 0.5,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Diffusion steps. Default: as the engine defines.", rich_help_panel=MODEL),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="Number of samples. The result is their mean, with their spread. Default: as the engine defines.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    seed: Seed = 0,
    engine: Engine = "cpkdm-s",
    reader: Annotated[
        str,
        typer.Option("--reader", help="Engine of `function` that finds the heart in the cine.", rich_help_panel=MODEL),
    ] = "causal-s",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", help="Images computed at a time. It does not change the result.", rich_help_panel=BATCH
        ),
    ] = 8,
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
    recipe: Annotated[str, typer.Argument(help="Name of an included recipe, or a TOML file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder for weights, checkpoint and log.")] = Path(
        "runs"
    ),
    data: Annotated[
        str | None,
        typer.Option("--data", help="phantom, or a folder of full-resolution series. Default: the recipe's."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", help="Fine-tune: begin with the weights of an engine (its name) or of a run folder."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value of the recipe: key=value. May be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in the run folder.")] = False,
    device: Annotated[str, typer.Option("--device", help="Device to train on: cpu or cuda.")] = "cpu",
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder that keeps virtual patients. Default: cmrsr in the user's cache."),
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
        typer.Option("-o", "--out", help="Bundle folder. Default: engines/NAME here; with --layout triton: triton."),
    ] = None,
    precision: Annotated[
        ExportPrecision | None,
        typer.Option(
            "--precision",
            help="f16 or bf16: in addition to f32, and for plans. Default: the recipe's.",
        ),
    ] = None,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt", help="Build the TensorRT plans of the engine for this GPU and keep them in the cache."
        ),
    ] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="Build plans that the smaller tensorrt_lean also runs.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="Device for --tensorrt and --verify: cuda or cuda:N.")
    ] = "cuda",
    layout: Annotated[
        Layout,
        typer.Option("--layout", help="Layout of the output. triton: a model repository for Triton Inference Server."),
    ] = Layout.bundle,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare all backends of this machine. Exit code 5 if an error is too large."),
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
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    kind: Annotated[
        PhantomKind, typer.Option("--kind", help="Scan to simulate. study: all four of the same subject.")
    ] = PhantomKind.study,
    subjects: Annotated[int, typer.Option("--subjects", help="Number of virtual patients.")] = 1,
    seed: Seed = 0,
    format_: Annotated[
        FileFormat, typer.Option("--format", help="File format of the scans. The ground truth is NIfTI and JSON.")
    ] = (FileFormat.nifti),
    group: Annotated[PhantomGroup, typer.Option("--group", help="Disease group, as in ACDC.")] = PhantomGroup.mixed,
    ef: Annotated[
        float | None, typer.Option("--ef", help="Left-ventricular ejection fraction in percent. Default: random.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Phases of a cine, beats of a perfusion series. Default: random.")
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option("--slices", help="Short-axis slices. Default: cine and LGE cover the heart, the others have 3."),
    ] = None,
    matrix: Annotated[int | None, typer.Option("--matrix", help="Pixels along x and y. Default: random.")] = None,
    fraction: Annotated[
        float,
        typer.Option(
            "--fraction", help="Fraction of phase-encoding lines acquired in perfusion. Below 1: input for sr."
        ),
    ] = 1.0,
    long_axis: Annotated[bool, typer.Option("--long-axis", help="Add cines in 2-, 3- and 4-chamber view.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Patients simulated at a time. Default: one per processor.")
    ] = None,
    no_picture: Annotated[
        bool, typer.Option("--no-picture", help="Do not write overview.png for each patient.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate scans of virtual patients (cine, perfusion, T1, LGE of one subject), with their ground truth."""
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
    fraction: Annotated[
        float, typer.Option("--fraction", help="Fraction of phase-encoding lines that is kept.")
    ] = 0.35,
    axes: Annotated[str, typer.Option("--axes", help="Phase-encoding axes to evaluate: x, y or xy.")] = "xy",
    crop: Annotated[int, typer.Option("--crop", help="Heart window to score, in pixels. 0: the whole image.")] = 96,
    every: Annotated[int, typer.Option("--every", help="Evaluate every n-th frame.")] = 1,
    engine: Engine = "perfgen-s",
    settings: Annotated[
        str,
        typer.Option(
            "--settings",
            help="Settings to compare, separated by commas: STEPSxSAMPLES, then rL for --realism L or m for the mean "
            "of the samples alone, then @CONSISTENCY. 5x1r1 is a single sample.",
        ),
    ] = "1x1,5x8,5x1r1",
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images computed at a time.")] = 8,
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
        typer.Argument(
            metavar="[DATA]...", help="4-D series: files, folders (also in the layout of ACDC), or .txt lists."
        ),
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
        int | None, typer.Option("--keep", help="For holdout-frames: keep every K-th frame. Default: 4.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="The series does not cover a full cardiac cycle (no wrap-around).")
    ] = False,
    crop: Annotated[
        int, typer.Option("--crop", help="Heart window in pixels, scored in addition to the whole image. 0: none.")
    ] = 0,
    es: Annotated[
        int | None, typer.Option("--es", help="Frame of end-systole, counted from 1. Default: detected.")
    ] = None,
    gaps: Annotated[
        str | None, typer.Option("--gaps", help="Also score with every n-th frame kept, for instance 2,4,8.")
    ] = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Number of virtual patients to score instead of DATA.")
    ] = None,
    speed: Annotated[
        int | None, typer.Option("--speed", help="Factor by which virtual hearts beat faster: 1, 2, 3, 4 or 6.")
    ] = None,
    engine: Engine = "tssc-s",
    settings: Annotated[
        str, typer.Option("--settings", help="Settings to compare: STEPSxSAMPLES, separated by commas.")
    ] = "1x1",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise and of the virtual patients.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Slices computed at a time.")] = 2,
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
        typer.Argument(
            metavar="[DATA]...", help="Short-axis cines: files, folders (also in the layout of ACDC), or .txt lists."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder of label NIfTI files named like the scans, or a CSV table of values."),
    ] = None,
    out: Out = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Number of virtual patients to score instead of DATA.")
    ] = None,
    scale: Annotated[
        int, typer.Option("--scale", help="2: also measure at half resolution, and restored. 1: full resolution only.")
    ] = 2,
    crop: Annotated[
        int, typer.Option("--crop", help="Heart window in pixels, scored in addition to the whole image. 0: none.")
    ] = 96,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", help="Name or folder of an engine. Several, or separated by commas: one row each."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Diffusion steps.")] = 1,
    samples: Samples = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise and of the virtual patients.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images computed at a time.")] = 8,
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
        typer.Option("--labels", help="Folder of scar masks named like the late enhancement. Default: next to it."),
    ] = None,
    out: Out = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="Number of virtual patients to score instead of STUDY.")
    ] = None,
    groups: Annotated[
        str, typer.Option("--groups", help="Disease groups of the virtual patients, in turn, separated by commas.")
    ] = "normal,infarct",
    slices: Annotated[int, typer.Option("--slices", help="T1 slices of a virtual patient, 1 to 3.")] = 3,
    frames: Annotated[int, typer.Option("--frames", help="Cine phases of a virtual patient.")] = 20,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps the scans of virtual patients.")
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap/--no-swap", help="Also score T1 images of one patient with the cine of the next.")
    ] = True,
    lpips: Annotated[
        Path | None, typer.Option("--lpips", help="ONNX file of LPIPS, from two images (n, 3, y, x) to a distance (n).")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", help="Name or folder of an engine. Several, or separated by commas: one row each."),
    ] = None,
    reader: Annotated[
        str,
        typer.Option("--reader", help="Engine of `function` that finds the heart in the cine.", rich_help_panel=MODEL),
    ] = "causal-s",
    steps: Annotated[int, typer.Option("--steps", help="Diffusion steps.")] = 5,
    samples: Samples = 8,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise and of the virtual patients.")] = 1000,
    ti: Annotated[
        str | None,
        typer.Option(
            "--ti",
            help="Inversion times of the T1 images in ms, in their order. Default: from the files.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", help="Probability from which a pixel is classified as scar.", rich_help_panel=MODEL
        ),
    ] = 0.5,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images computed at a time.")] = 8,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    precision: PrecisionOption = Precision.auto,
    threads: Threads = None,
    quiet: Quiet = False,
) -> int:
    """Synthesise late enhancement; compare it and its scar with acquired enhancement and with simple baselines."""
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
        typer.Argument(metavar="[REAL]...", help="Real scans to compare with: files, folders, or .txt lists of both."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Output folder.")] = Path("phantom_evaluation"),
    subjects: Annotated[
        int,
        typer.Option(
            "--subjects", help="Virtual subjects to measure: so many healthy ones, and so many of all groups."
        ),
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the virtual patients.")] = 1,
    images: Annotated[
        int, typer.Option("--images", help="Virtual patients to scan, for every kind of scan among the real ones.")
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


@app.command("help")
def help_(
    topic: Annotated[
        str | None, typer.Argument(metavar="[TOPIC]", help="A command, or files, batch, engines, gpu, training.")
    ] = None,
) -> None:
    """Print the manual of a command or of another topic; without one, the list of topics."""
    from cmrsr.cli.manual import run_help_command

    run_help_command(topic)


@app.command()
def info(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Files, folders (searched through), or .txt lists of them: list the series in them, and what each "
            "command would do with each. Nothing is written.",
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="With PATH: also read the voxels, as the commands do.", rich_help_panel=PATHS)
    ] = False,
    time_axis: Annotated[str | None, typer.Option("--time-axis", help=TIME_AXIS_HELP, rich_help_panel=PATHS)] = None,
    on_missing: Annotated[
        OnMissing, typer.Option("--on-missing", help=ON_MISSING_HELP, rich_help_panel=PATHS)
    ] = OnMissing.fail,
    selftest: Annotated[
        bool,
        typer.Option(
            "--selftest",
            help="Run a self-test: compare engines, backends and tasks with the release.",
            rich_help_panel=TESTS,
        ),
    ] = False,
    bench: Annotated[
        bool, typer.Option("--bench", help="Measure the speed of the engines on this machine.", rich_help_panel=TESTS)
    ] = False,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine", help="Engine to test, by name or folder; may be repeated. Default: all.", rich_help_panel=TESTS
        ),
    ] = None,
    device: Device = "auto",
    backend: BackendOption = Backend.auto,
    threads: Threads = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the series in a folder and what each command would do with them; without PATH, describe the installation.

    With PATH, exit code 8 means that some series cannot be read, 3 or 4 that none can.
    """
    from cmrsr.errors import UsageError

    if inputs:
        from cmrsr.cli.info_series import SeriesRequest, run_info_series_command

        if selftest or bench or engines or threads or (device, backend) != ("auto", Backend.auto):
            raise UsageError("--selftest, --bench and their options are about the installation: leave PATH out")
        return run_info_series_command(
            SeriesRequest(inputs=inputs, time_axis=time_axis, on_missing=on_missing.value, deep=deep, as_json=json_)
        )
    if deep or time_axis or on_missing is not OnMissing.fail:
        raise UsageError("--deep, --time-axis and --on-missing are about series: name a file or folder")
    from cmrsr.cli.info import InfoRequest, run_info_command

    return run_info_command(
        InfoRequest(
            selftest=selftest, bench=bench, engines=engines or [], device=device, backend=backend.value,
            threads=threads, as_json=json_,
        )
    )  # fmt: skip
