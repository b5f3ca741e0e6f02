"""``cmrsr help``: the manuals that lie in the rooms they describe."""

import sys
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from cmrsr.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]
WIDEST = 110  # columns: longer lines are hard to read
MANUALS = {  # by topic: folder below the package, and what it is about
    "sr": ("tasks/sr", "super-resolution of first-pass perfusion"),
    "interp4d": ("tasks/interp4d", "temporal super-resolution of 4-D cine"),
    "function": ("tasks/function", "masks, volumes and ejection fraction of a cine"),
    "mie": ("tasks/mie", "synthetic late enhancement from cine and native T1 images"),
    "phantom": ("phantom", "virtual patients"),
    "files": ("io", "which files are read, and how"),
    "batch": ("batch", "outputs, exit codes, shards, no network"),
    "engines": ("engines", "included engines, speed, precision"),
    "gpu": ("runtime", "GPUs, TensorRT and Triton"),
    "training": ("training", "training, fine-tuning, exporting"),
}


def run_help_command(topic: str | None) -> None:
    """Print one manual, or the list of them. UsageError: there is none on that topic."""
    console = Console(highlight=False, width=min(Console().width, WIDEST) if sys.stdout.isatty() else None)
    if topic is None:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, (_, about) in MANUALS.items():
            table.add_row(f"cmrsr help {name}", about)
        console.print(table)
        return
    if topic not in MANUALS:
        raise UsageError(f"help {topic}: expected one of {', '.join(MANUALS)}")
    text = manual(topic).read_text(encoding="utf-8")
    if sys.stdout.isatty():
        console.print(Markdown(text))
    else:
        sys.stdout.write(text)


def manual(topic: str) -> Path:
    """The file of a topic's manual."""
    from cmrsr.runtime.bundle import engines_folder

    folder = engines_folder() if topic == "engines" else PACKAGE / MANUALS[topic][0]
    return folder / "README.md"
