"""``cmrsr sr``."""

from functools import partial

from cmrsr.cli.batch_command import BatchTask, MakeReportCase, run_batch_command
from cmrsr.cli.sr_request import SrRequest, opening, sr_options
from cmrsr.errors import UsageError


def run_sr_command(request: SrRequest) -> int:
    """Find the series, super-resolve each, write ``run.json`` and ``report.html``; the exit code of the batch."""
    from cmrsr.tasks.sr.files import SrFiles
    from cmrsr.tasks.sr.run import evaluations_per_image

    if request.stream:
        from cmrsr.cli.sr_stream import run_sr_stream_command

        return run_sr_stream_command(request)
    if request.idle is not None:
        raise UsageError(f"--idle {request.idle:g} without --stream, which it is for")
    options = sr_options(request)
    task = BatchTask(
        title="Perfusion super-resolution", name="sr", options=options, report_case=_report_case,
        files=partial(SrFiles, save_samples=request.save_samples),
        per_image=lambda bundle: evaluations_per_image(bundle.manifest.diffusion.build(), options),
        opening=lambda bundle: opening(options, bundle),
    )  # fmt: skip
    return run_batch_command(request, task)


def _report_case() -> MakeReportCase:
    from cmrsr.tasks.sr.report import report_case

    return report_case
