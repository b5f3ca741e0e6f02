"""``cmrsr train``."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cmrsr.cli.extras import need

if TYPE_CHECKING:
    from cmrsr.training.loop import Progress as TrainingProgress


def run_train_command(
    recipe_name: str,
    out: Path,
    start: str | None,
    data: str | None,
    overrides: list[str],
    resume: bool,
    device: str,
    cache: Path | None,
    quiet: bool,
) -> None:
    """Train one recipe into ``out/<recipe>``, or from weights of ``--start`` into ``out/<recipe>-tuned``."""
    need("train", "torch", "safetensors")
    from cmrsr.tasks.registry import finish, load_data, load_recipe, train
    from cmrsr.training.cache import default_cache
    from cmrsr.training.start import start_weights

    recipe = load_recipe(recipe_name, overrides, start)
    if recipe.start:
        start_weights(recipe.start)  # images may take long to render: what is not there is said before
    folder = out / (Path(recipe_name).stem + ("-tuned" if start else ""))
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not sys.stderr.isatty()) as bar:
        preparing = bar.add_task("images", total=None)

        def prepared(done: int, total: int) -> None:
            bar.update(preparing, completed=done, total=total)

        loaded = load_data(recipe, data, cache or default_cache(), prepared)
        bar.remove_task(preparing)
        task = bar.add_task("training", total=recipe.optimiser.steps)

        def show(progress: "TrainingProgress") -> None:
            description = f"loss {progress.loss:.3f}, {progress.samples_per_s:.0f} crops/s"
            bar.update(task, completed=progress.step, description=description)
            if progress.gain_db is not None and not quiet:
                gain = f"validation gain over {progress.baseline} {progress.gain_db:+.3f} dB"
                console.print(f"step {progress.step}: {gain}")

        train(recipe, loaded, folder, resume=resume, device=device, on_step=show)
        first = int(os.environ.get("RANK", 0)) == 0  # under torchrun the others have nothing left to do
        if first:
            bar.update(task, description="calibrating the uncertainty")
            finish(recipe, loaded, folder, device)
    if not quiet:
        for line in outcome(folder):
            console.print(line)
        console.print(f"weights: {folder / 'weights.safetensors'}")
        console.print(f"next: cmrsr export {folder} -o engines/{folder.name}")


def outcome(folder: Path) -> list[str]:
    """What fine-tuning gained on the held-out patients; nothing of a run that began from nothing."""
    summary = json.loads((folder / "training.json").read_text())
    before = summary.get("start", {}).get("validation_gain_db")
    if before is None:
        return []
    if summary["step"] == 0:
        return [f"no step was better on the held-out data than the start ({before:+.3f} dB): its weights are kept"]
    gain = summary["validation_gain_db"]
    return [f"best on the held-out data: step {summary['step']}, {gain:+.3f} dB; the start had {before:+.3f} dB"]
