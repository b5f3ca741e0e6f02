"""Where tables of results are printed."""

from rich.console import Console

WIDTH = 100


def tables(width: int = WIDTH) -> Console:
    """Standard output; ``width`` columns where it is no terminal: the same table in every log."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)
