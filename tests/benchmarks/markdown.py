"""Comparisons as Markdown."""

from collections.abc import Iterable, Sequence

from cmrsr.diagnostics.bench import Comparison


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def comparisons(found: Iterable[Comparison], reference: str) -> str:
    """A row a contender; ``reference``: the contender that the factors of speed are relative to."""
    rows = []
    for one in found:
        size = "x".join(map(str, next(iter(one.shapes.values()), ())))
        rows.append([f"**{one.engine}** {one.graph} {size}, {one.gflop:.1f} GFLOP", *[""] * 8])
        slow = next((m.ms for m in one.backends if m.name == reference), None)
        for m in one.backends:
            rows.append([
                m.name, f"{m.ms:.1f}", f"{m.ms_per_image:.2f}", f"{m.tflop_s:.3g}",
                "" if m.share_of_ceiling is None else f"{m.share_of_ceiling:.0%}",
                "" if slow is None else f"{slow / m.ms:.1f}", "oracle" if m.name == one.oracle else f"{m.error:.1e}",
                "" if m.cold_start_s is None else f"{m.cold_start_s:.2f}",
                "" if m.peak_mb is None else f"{m.peak_mb:.0f}",
            ])  # fmt: skip
        rows += [[f"{name}: skipped, {reason}", *[""] * 8] for name, reason in one.skipped.items()]
    heads = [
        "",
        "ms an evaluation",
        "ms an image",
        "TFLOP/s",
        "of the matrix product",
        f"x {reference}",
        "error",
        "cold start s",
        "MB",
    ]
    return table(heads, rows)
