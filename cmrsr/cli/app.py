"""The commands and their options. Nothing heavy is imported before a command runs, so that ``--help`` is quick."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cmrsr.cli.evaluate import EvaluateRequest, run_evaluate_sr_command
from cmrsr.cli.evaluate_function import EvaluateFunctionRequest, run_evaluate_function_command
from cmrsr.cli.evaluate_interp4d import EvaluateInterpRequest, run_evaluate_interp_command
from cmrsr.cli.evaluate_mie import EvaluateMieRequest, run_evaluate_mie_command
from cmrsr.cli.function import FunctionRequest, run_function_command
from cmrsr.cli.interp4d import InterpRequest, run_interp_command
from cmrsr.cli.mie import MieRequest, run_mie_command
from cmrsr.cli.options import (
    ON_MISSING_HELP,
    PATHS,
    TESTS,
    TIME_AXIS_HELP,
    BackendOption,
    Device,
    Quiet,
    Seed,
    Threads,
    command,
)
from cmrsr.cli.sr import run_sr_command
from cmrsr.cli.sr_request import SrRequest

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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from cmrsr.version import __version__

        typer.echo(f"cmrsr {__version__}")
        raise typer.Exit


app.command("sr", help="Super-resolve first-pass perfusion series (PerfGen).")(command(SrRequest, run_sr_command))
app.command("interp4d", help="Increase the temporal resolution of 4-D series such as cines (TSSC-Net).")(
    command(InterpRequest, run_interp_command)
)
app.command(
    "function",
    help="Super-resolve short-axis cines and measure the heart: volumes, ejection fraction, masks (causal multitask).",
)(command(FunctionRequest, run_function_command))
app.command(
    "mie",
    help="Synthesise late enhancement and outline scar, from a cine and native T1 images without contrast agent "
    "(CPKDM).\n\nThe images are SYNTHETIC, and say so in every file.",
    epilog="For example: cmrsr mie study/ or cmrsr mie cine.nii.gz t1.nii.gz --ti 100,180,1000,1080,1900,...",
)(command(MieRequest, run_mie_command))


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
        Literal["f32", "f16", "bf16"] | None,
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
        Literal["bundle", "triton"],
        typer.Option("--layout", help="Layout of the output. triton: a model repository for Triton Inference Server."),
    ] = "bundle",
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
            source=source, out=out, precision=precision, tensorrt=tensorrt,
            portable=portable, device=device, triton=layout == "triton", verify=verify,
        )
    )  # fmt: skip


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    kind: Annotated[
        Literal["study", "cine", "perfusion", "t1", "lge"],
        typer.Option("--kind", help="Scan to simulate. study: all four of the same subject."),
    ] = "study",
    subjects: Annotated[int, typer.Option("--subjects", help="Number of virtual patients.")] = 1,
    seed: Seed = 0,
    format_: Annotated[
        Literal["nifti", "dicom"],
        typer.Option("--format", help="File format of the scans. The ground truth is NIfTI and JSON."),
    ] = ("nifti"),
    group: Annotated[
        Literal["mixed", "normal", "infarct", "dilated", "hypertrophic", "rv"],
        typer.Option("--group", help="Disease group, as in ACDC."),
    ] = "mixed",
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
            out=out, kind=kind, subjects=subjects, seed=seed, format=format_, group=group, ef=ef,
            frames=frames, slices=slices, matrix=matrix, fraction=fraction, long_axis=long_axis, workers=workers,
            picture=not no_picture, quiet=quiet,
        )
    )  # fmt: skip


evaluate_app.command(
    "sr", help="Degrade full-resolution series, restore them, and compare with the original and the baselines."
)(command(EvaluateRequest, run_evaluate_sr_command))
evaluate_app.command(
    "interp4d",
    help="Hide frames of 4-D series, restore them from the others, and compare with the true ones and the baselines.",
)(command(EvaluateInterpRequest, run_evaluate_interp_command))
evaluate_app.command(
    "function",
    help="Measure cines at full resolution, at half of it and super-resolved; compare with reference values or labels.",
)(command(EvaluateFunctionRequest, run_evaluate_function_command))
evaluate_app.command(
    "mie",
    help="Synthesise late enhancement; compare it and its scar with acquired enhancement and with simple baselines.",
)(command(EvaluateMieRequest, run_evaluate_mie_command))


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
        Literal["fail", "drop-frame", "drop-slice"],
        typer.Option("--on-missing", help=ON_MISSING_HELP, rich_help_panel=PATHS),
    ] = "fail",
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
    backend: BackendOption = "auto",
    threads: Threads = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the series in a folder and what each command would do with them; without PATH, describe the installation.

    With PATH, exit code 8 means that some series cannot be read, 3 or 4 that none can.
    """
    from cmrsr.errors import UsageError

    if inputs:
        from cmrsr.cli.info_series import SeriesRequest, run_info_series_command

        if selftest or bench or engines or threads or (device, backend) != ("auto", "auto"):
            raise UsageError("--selftest, --bench and their options are about the installation: leave PATH out")
        return run_info_series_command(
            SeriesRequest(inputs=inputs, time_axis=time_axis, on_missing=on_missing, deep=deep, as_json=json_)
        )
    if deep or time_axis or on_missing != "fail":
        raise UsageError("--deep, --time-axis and --on-missing are about series: name a file or folder")
    from cmrsr.cli.info import InfoRequest, run_info_command

    return run_info_command(
        InfoRequest(
            selftest=selftest, bench=bench, engines=engines or [], device=device, backend=backend,
            threads=threads, as_json=json_,
        )
    )  # fmt: skip
