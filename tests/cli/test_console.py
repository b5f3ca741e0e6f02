"""What the progress bar counts."""

import io

from rich.console import Console
from rich.progress import Progress

from cmrsr.cli.console import CountedColumn


def drawn(per_image: int, done: int, total: int) -> str:
    progress = Progress(CountedColumn(per_image), console=Console(file=io.StringIO()))
    progress.add_task("", total=total, completed=done)
    return CountedColumn(per_image).render(progress.tasks[0]).plain


def test_images_and_evaluations_are_counted() -> None:
    assert drawn(41, 41 * 12 + 40, 41 * 60) == "12/60 images, 532/2460 evaluations"
    assert drawn(1, 12, 60) == "12/60 images"
