"""The pictures that judge virtual patients: image statistics, heart sizes and diseases beside reality. Never a scan.

Real scans and published values are black or grey, virtual ones in colour.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrsr.errors import UnusableError
from cmrsr.io.series import Kind
from cmrsr.realism.distance import average, distance, n_patients, pixel_mm
from cmrsr.realism.image_statistics import GRADIENT_EDGES, GREY_EDGES, RADII, ImageStatistics
from cmrsr.realism.population import NORMAL_VALUES, Group, HeartMeasures, confusion
from cmrsr.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND_NAMES: Mapping[str, str] = {"perfusion": "Perfusion", "cine": "Cine", "t1": "T1 images", "lge": "LGE"}
VIRTUAL = style.PALETTE[0]
BAND = (10, 90)  # percentiles of the series
GROUP_STYLE: Mapping[Group, tuple[str, str]] = {  # colour and marker: neither alone has to carry the group
    "NOR": ("#5f6b78", "o"),
    "MINF": ("#d55e00", "s"),
    "DCM": ("#0072b2", "D"),
    "HCM": ("#009e73", "^"),
    "RV": ("#cc79a7", "v"),
}
PUBLISHED = "#8b95a1"
PANELS = (
    ("spectrum_db", "Spectrum", RADII, "spatial frequency (cycles / 96 pixels)", "power (dB)"),
    ("grey", "Grey values", 50 * (GREY_EDGES[:-1] + GREY_EDGES[1:]), "% of the grey scale", "% of the pixels"),
    (
        "gradients", "Gradients", (GRADIENT_EDGES[:-1] + GRADIENT_EDGES[1:]) / 2, "% of the grey scale per pixel",
        "% of the pixels",
    ),
)  # fmt: skip
GRADIENT_TICKS = (0.01, 0.03, 0.1, 0.3, 1)
SHARE_TICKS = (0, 1, 3, 10, 20)
INF = float("inf")
# Where ``population.DEFINITIONS`` put men in each plane: colour, name, left, right, bottom, top; women's lower limits.
REGIONS: Mapping[str, tuple[tuple[Group, str, float, float, float, float], ...]] = {
    "lv_edv_index": (
        ("NOR", "NOR", -INF, 90, 50, INF),
        ("MINF", "MINF", -INF, 100, -INF, 40),
        ("DCM", "DCM, MINF", 100, INF, -INF, 40),
    ),
    "max_wall_mm": (
        ("NOR", "NOR", -INF, 12, 50, INF),
        ("HCM", "HCM", 15, INF, 55, INF),
        ("DCM", "DCM, MINF", -INF, 12, -INF, 40),
        ("MINF", "MINF", 12, INF, -INF, 40),
    ),
    "rv_edv_index": (
        ("NOR", "NOR", -INF, 100, 40, INF),
        ("RV", "RV", 110, INF, 40, INF),
        ("RV", "RV", -INF, INF, -INF, 40),
    ),
}
WOMEN: Mapping[str, tuple[float, float]] = {"lv_edv_index": (80, 50), "rv_edv_index": (100, 40)}  # limit, from bottom
WOMEN_LINE: Mapping[str, Any] = {"color": style.INK, "linewidth": 1.1, "linestyle": ":"}
TOP_EF = 90.0  # %, of the axes
GOLDEN = 0.618034  # spreads dots evenly, and the same on every run


def realism_figure(
    real: Mapping[Kind, Sequence[ImageStatistics]], virtual: Mapping[Kind, Sequence[ImageStatistics]]
) -> "Figure":
    """A row for every kind in both groups: spectrum, grey values and gradients, mean and 10-90 % of the series.

    Each title says how far the virtual scans lie from the real ones, in the spread of the real among themselves.
    UnusableError: no kind is in both.
    """
    kinds = [kind for kind in real if real[kind] and virtual.get(kind)]
    if not kinds:
        raise UnusableError(f"found real {_listed(real)}, virtual {_listed(virtual)}; expected a kind that both have")
    figure, grid = style.chart(9.0, 2.7 * len(kinds), n_rows=len(kinds), n_columns=3)
    for row, kind in enumerate(kinds):
        apart = distance(real[kind], virtual[kind])
        panels = grid[3 * row : 3 * row + 3]
        for axes, (key, title, x, x_label, y_label) in zip(panels, PANELS, strict=True):
            scale = 1 if key == "spectrum_db" else 100
            for group, colour, width in ((real[kind], style.REFERENCE, 2.0), (virtual[kind], VIRTUAL, 1.7)):
                low, high = np.percentile([getattr(s, key) for s in group], BAND, axis=0) * scale
                axes.fill_between(x, low, high, color=colour, alpha=0.17, linewidth=0)
                axes.plot(x, scale * average(group, key), color=colour, linewidth=width)
            ratio = apart[key].ratio
            words = title if ratio is None else f"{title}: {ratio:.1f} × real spread"
            style.label(axes, x_label if row == len(kinds) - 1 else "", y_label, words)
            axes.margins(x=0)
            if key == "grey":
                axes.set_xlim(0, 100)
            if key == "gradients":
                axes.set_xticks(np.log10(GRADIENT_TICKS), [f"{100 * tick:g}" for tick in GRADIENT_TICKS])
            if key != "spectrum_db":
                axes.set_yscale("symlog", linthresh=1, linscale=0.6)
                axes.set_yticks(SHARE_TICKS, [str(tick) for tick in SHARE_TICKS])
                axes.set_ylim(0, SHARE_TICKS[-1])
                axes.minorticks_off()
        _name_groups(panels[0], kind, real[kind], virtual[kind])
    return figure


def _name_groups(axes: "Axes", kind: Kind, real: Sequence[ImageStatistics], virtual: Sequence[ImageStatistics]) -> None:
    """What the colours are, in the empty corner above the falling spectrum."""
    lines = [(KIND_NAMES.get(kind, kind), style.INK, "bold")]
    for name, group, colour in (("real", real, style.REFERENCE), ("virtual", virtual, VIRTUAL)):
        n = n_patients(group)
        words = f"{name}: {n} patient{'s' if n > 1 else ''}, {pixel_mm(group):.1f} mm"
        lines.append((words, colour, "normal"))
    for i, (text, colour, weight) in enumerate(lines):
        axes.text(
            0.98, 0.97 - 0.1 * i, text, transform=axes.transAxes, ha="right", va="top", color=colour,
            fontsize=style.TEXT, fontweight=weight,
        )  # fmt: skip


def population_figure(measures: Sequence[HeartMeasures]) -> "Figure":
    """Volumes, ejection fraction and mass of virtual subjects, men and women, beside the published mean and 2 SD."""
    titles = {n.measure: (n.title, n.unit) for n in NORMAL_VALUES}
    figure, panels = style.chart(9.0, 3.1, n_columns=len(titles))
    for axes, (measure, (title, unit)) in zip(panels, titles.items(), strict=True):
        rows = [n for n in NORMAL_VALUES if n.measure == measure]
        for place, normal in enumerate(rows):
            values = np.array([getattr(m, measure) for m in measures if m.sex == normal.sex], dtype=np.float64)
            _interval(axes, place - 0.26, normal.mean, normal.sd, PUBLISHED)
            if values.size:
                spread = 0.36 * ((np.arange(values.size) * GOLDEN) % 1 - 0.5)
                size, alpha = (13.0, 0.55) if values.size <= 60 else (6.0, 0.4)
                axes.scatter(place + 0.16 + spread, values, s=size, color=VIRTUAL, alpha=alpha, linewidths=0, zorder=3)
                _interval(axes, place - 0.12, values.mean(), values.std(ddof=1) if values.size > 1 else 0.0, VIRTUAL)
        style.label(axes, "", unit, title)
        axes.set_xticks(range(len(rows)), ["men" if n.sex == "m" else "women" for n in rows])
        axes.tick_params(axis="x", length=0, labelsize=style.TEXT, labelcolor=style.INK)
        axes.set_xlim(-0.5, len(rows) - 0.5)
        axes.locator_params(axis="y", nbins=7, steps=[1, 2, 5, 10])
        axes.grid(visible=False, axis="x")
    n = len(measures)
    for words, colour in (("published: mean ± 2 SD", PUBLISHED), (f"virtual, {n} subjects: mean ± 2 SD", VIRTUAL)):
        panels[0].plot([], [], color=colour, linewidth=5, solid_capstyle="butt", label=words)
    _legend_above(figure, n_columns=2)
    return figure


def _interval(axes: "Axes", place: float, mean: float, sd: float, colour: str) -> None:
    """A bar of mean ± 2 SD with a notch at the mean."""
    axes.plot([place] * 2, [mean - 2 * sd, mean + 2 * sd], color=colour, linewidth=5, solid_capstyle="butt", zorder=2)
    axes.plot([place - 0.045, place + 0.045], [mean] * 2, color="white", linewidth=1.6, solid_capstyle="butt", zorder=4)


def disease_figure(measures: Sequence[HeartMeasures]) -> "Figure":
    """Every heart in the planes in which the ACDC groups are defined, each group's own region shaded in its colour.

    Filled marks are men, open ones women, for whom some limits are lower (dotted).
    """
    figure, panels = style.chart(9.4, 3.7, n_columns=3)
    ef = "LV ejection fraction (%)"
    planes = (
        ("Left ventricle: size and function", "lv_edv_index", "LV EDV / BSA (mL/m²)", "lv_ef_percent", ef, 20.0),
        ("Left ventricle: wall and function", "max_wall_mm", "thickest wall, diastole (mm)", "lv_ef_percent", ef, 2.0),
        ("Right ventricle", "rv_edv_index", "RV EDV / BSA (mL/m²)", "rv_ef_percent", "RV ejection fraction (%)", 20.0),
    )
    for axes, (title, across, x_label, up, y_label, margin) in zip(panels, planes, strict=True):
        x = np.array([getattr(m, across) for m in measures], dtype=np.float64)
        limits = [limit for region in REGIONS[across] for limit in region[2:4] if np.isfinite(limit)]
        axes.set_xlim(min([x.min(), *limits]) - margin, max([x.max(), *limits]) + margin)
        axes.set_ylim(0, TOP_EF)
        for region in REGIONS[across]:
            _region(axes, *region)
        if across in WOMEN:
            limit, bottom = WOMEN[across]
            axes.plot([limit] * 2, [bottom, TOP_EF], **WOMEN_LINE, zorder=1)
        for m, value in zip(measures, x, strict=True):
            colour, marker = GROUP_STYLE[m.group] if m.group else (style.INK, ".")
            axes.scatter(
                value, getattr(m, up), s=20, marker=marker, linewidths=0.9, edgecolors=colour, alpha=0.8, zorder=3,
                facecolors=colour if m.sex == "m" else "white",
            )  # fmt: skip
        style.label(axes, x_label, y_label, title)
        axes.grid(visible=False)
    meeting = confusion(measures)
    for group, shares in meeting.items():
        colour, marker = GROUP_STYLE[group]
        words = f"{group} {100 * shares[group]:.0f} % of {sum(m.group == group for m in measures)}"
        panels[0].plot([], [], color=colour, marker=marker, markersize=4.5, linestyle="none", label=words)
    if meeting:
        panels[0].plot([], [], **WOMEN_LINE, label="limit for women (open)")
        _legend_above(figure, n_columns=len(meeting) + 1, title="Meet the definition of the group asked for:")
    return figure


def _region(axes: "Axes", group: Group, name: str, left: float, right: float, bottom: float, top: float) -> None:
    """The part of a plane that a group's definition allows, named in the corner away from the middle."""
    from matplotlib.patches import Rectangle

    colour = GROUP_STYLE[group][0]
    x0, x1 = (float(np.clip(x, *axes.get_xlim())) for x in (left, right))
    y0, y1 = (float(np.clip(y, *axes.get_ylim())) for y in (bottom, top))
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=colour, alpha=0.1, linewidth=0, zorder=0))
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=0.8, linestyle="--", alpha=0.7)
    )
    at_left, at_bottom = np.isinf(left), np.isinf(bottom)
    axes.annotate(
        name, (x0 if at_left else x1, y0 if at_bottom else y1), xytext=(4 if at_left else -4, 4 if at_bottom else -4),
        textcoords="offset points", ha="left" if at_left else "right", va="bottom" if at_bottom else "top",
        color=colour, fontsize=style.TEXT, fontweight="bold", zorder=2,
    )  # fmt: skip


def _legend_above(figure: "Figure", n_columns: int, title: str | None = None) -> None:
    figure.legend(
        loc="outside upper left", frameon=False, fontsize=style.TEXT, labelcolor=style.INK, ncols=n_columns,
        handlelength=1.0, columnspacing=2.0, handletextpad=0.5, title=title, title_fontsize=style.TEXT,
        alignment="left",
    )  # fmt: skip


def _listed(groups: Mapping[Kind, Sequence[ImageStatistics]]) -> str:
    return ", ".join(groups) or "nothing"
