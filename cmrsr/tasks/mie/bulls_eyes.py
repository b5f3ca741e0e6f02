"""Scar, its depth, T1 and strain by AHA segment, as four bull's-eyes on one sheet."""

from typing import TYPE_CHECKING

from cmrsr.report import style
from cmrsr.report.bulls_eye import draw_bulls_eye
from cmrsr.report.figures import SHEET_WIDTH
from cmrsr.tasks.mie.features.scar import SegmentTable
from cmrsr.tasks.mie.scales import STRAIN_LIMITS, STRAIN_MAP, T1_MAP, wall_t1_limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 7.0  # inches
SCAR_MAP = "YlOrBr"  # pale without scar; grey is unknown
SHARE = (0.0, 100.0)
EDGE = "#aab3bd"  # seen beside pale segments and dark ones


def four_bulls_eyes(table: SegmentTable, t1_wall_ms: float) -> "Figure":
    """Scar (%), transmurality (%), T1 (ms) and circumferential strain (%) of the 16 segments.

    t1_wall_ms: of the wall without scar, which chooses the colours of T1; see ``mie_scales``.
    """
    figure, panels = style.chart(SHEET_WIDTH, HEIGHT, n_rows=2, n_columns=2)
    shown = (
        ("Scar", "share of the segment (%)", table.scar_percent, SHARE, SCAR_MAP),
        ("Transmurality of the scar", "depth of the wall (%)", table.transmurality_percent, SHARE, SCAR_MAP),
        ("Native T1", "T1 (ms)", table.t1_ms, wall_t1_limits(t1_wall_ms), T1_MAP),
        ("Circumferential strain, end systole", "strain (%)", table.e_cc_percent, STRAIN_LIMITS, STRAIN_MAP),
    )
    for axes, (title, name, values, limits, colours) in zip(panels, shown, strict=True):
        draw_bulls_eye(axes, values, name=name, limits=limits, colour_map=colours, digits=style.SMALL, edge=EDGE)
        axes.set_title(title, loc="left", fontsize=style.TEXT + 0.5, color=style.INK, fontweight="bold")
    return figure
