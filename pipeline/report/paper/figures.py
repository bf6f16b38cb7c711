"""The figures of a report, in a style for print: one column wide, distinct in grey as well.

Lines differ in colour, lightness, dash and marker at once. The files hold no date and no name of
a program, so that the same sweep gives the same bytes. Matplotlib is imported when one is drawn.
"""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.plan.verdict import percent
from pipeline.report.paper.sweep_summary import SweepSummary, VariantRow, state_of
from pipeline.report.words import translate
from pipeline.shared.files import write_bytes
from pipeline.shared.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a column of a two-column paper, inches.
COLUMN = 3.35
#: (colour, dash, marker) of the highlighted lines; lightness grows by steps that grey keeps.
STYLES: Sequence[tuple[str, Any, str]] = (
    ("#000000", "-", "o"),
    ("#123f8c", (0, (5, 1.5)), "s"),
    ("#c0502b", (0, (6, 1.5, 1, 1.5)), "^"),
    ("#3a9a5f", (0, (1.5, 1)), "D"),
    ("#e0a030", (0, (3, 1, 1, 1, 1, 1)), "v"),
    ("#8fc4e8", (0, (8, 2)), "P"),
)
#: Up to this number of classes a cell shows its count.
MOST_COUNTED = 12
LONGEST_NAME = 28
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # journals refuse Type 3
    "svg.fonttype": "none",
    "svg.hashsalt": "pcan",
    "text.usetex": False,
    "savefig.dpi": 300,
}
#: Nothing that differs from one run to the next, or from one machine to another.
_METADATA: Mapping[str, Mapping[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


#: Fonts with Chinese letters, the first that is installed is taken.
CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC"),
    *("Hiragino Sans GB", "Heiti SC", "SimHei", "Noto Sans CJK JP", "Arial Unicode MS"),
)


@functools.lru_cache
def chinese_font() -> str | None:
    """Return an installed font that has Chinese letters, None where there is none."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    listed = {font.fname for font in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in listed:  # installed after matplotlib wrote its list
            with contextlib.suppress(Exception):
                manager.addfont(path)
    names = {font.name for font in manager.ttflist}
    return next((name for name in CHINESE_FONTS if name in names), None)


def figures_in(lang: str) -> str:
    """Return the language of the figures' labels: English where no font can write another."""
    return lang if lang == "en" or chinese_font() else "en"


def is_chinese(summary: SweepSummary, lang: str) -> bool:
    """Return whether a figure has Chinese letters: in its labels, or in names of variants."""
    names = [_name(row) for row in summary.rows]
    names += [variant["name"] for variant in summary.data["variants"]]
    return lang != "en" or any("\u2e80" <= c <= "\uffef" for name in names for c in name)


@contextlib.contextmanager
def style(chinese: bool = False) -> Iterator[None]:
    """Draw in the report's style, whatever the user's own settings are.

    Args:
        chinese: add a font for Chinese letters, where one is installed.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        font = chinese_font() if chinese else None
        if font is not None:
            matplotlib.rcParams["font.family"] = [_STYLE["font.family"], font]
            # Such a font may have no bold letters; matplotlib would say so each time.
            logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            yield


def save(figure: "Figure", folder: Path, *names: str) -> None:
    """Write a figure into files whose suffixes say the format."""
    for name in names:
        kind = name.rpartition(".")[2]
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, metadata=dict(_METADATA[kind]))
        write_bytes(folder / name, stream.getvalue(), durable=False)


def draw_curves(summary: SweepSummary, folder: Path, lang: str = "en") -> None:
    """Write `curves.pdf`, `.svg` and `.png`: top-1 and learning rate of each variant by epoch."""
    with style(is_chinese(summary, lang)):
        figure = _figure(COLUMN, 3.6)
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1])
        shown = summary.rows[: len(STYLES)]
        _others(top, summary, shown)
        handles = [_curve(top, low, row, at) for at, row in enumerate(shown)]
        if summary.data["goal"] is not None:
            top.axhline(
                100 * summary.data["goal"], color="0.35", linewidth=0.6, linestyle=(0, (2, 2))
            )
        _zoom(top, summary, shown)
        _name_goal(top, summary, shown, lang)
        top.set_ylabel(translate("validation top-1 (%)", lang))
        low.set_ylabel(translate("learning rate", lang))
        low.set_xlabel(translate("epoch", lang))
        if any(rate for row in shown for rate in row.trial["lr"] if rate):
            low.set_yscale("log")
        low.xaxis.get_major_locator().set_params(integer=True)
        if handles:
            names = [_label(row) for row in shown]
            legend = figure.legend(handles, names, loc="outside lower center", ncols=2)
            for text in legend.get_texts():
                text.set_parse_math(False)
        save(figure, folder, "curves.pdf", "curves.svg", "curves.png")


def _name_goal(
    axes: "Axes", summary: SweepSummary, shown: Sequence[VariantRow], lang: str
) -> None:
    """Write the goal at the end of its line where fewer points of curves are near."""
    if summary.data["goal"] is None:
        return
    goal = 100 * summary.data["goal"]
    low, high = axes.get_ylim()
    curves = [_points(row.trial, "top1") for row in shown]
    near = [
        epoch
        for epochs, values in curves
        for epoch, value in zip(epochs, values, strict=True)
        if -0.02 < (100 * value - goal) / (high - low) < 0.09
    ]
    last = max((epochs[-1] for epochs, _ in curves if epochs), default=1)
    right = sum(e > 0.75 * last for e in near) < sum(e < 0.25 * last + 1 for e in near)
    axes.annotate(
        translate(f"goal {goal:g}", lang),
        (0.99 if right else 0.01, goal),
        xytext=(0, 1.5),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="bottom",
        ha="right" if right else "left",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0},
        zorder=20,
    )


def _zoom(axes: "Axes", summary: SweepSummary, shown: Sequence[VariantRow]) -> None:
    """Let the highlighted curves fill the height; trials far below them are cut off."""
    values = [100 * value for row in shown for value in _points(row.trial, "top1")[1]]
    if not values:
        return
    values += [100 * summary.data["goal"]] if summary.data["goal"] is not None else []
    margin = 0.06 * (max(values) - min(values)) or 1.0
    axes.set_ylim(min(values) - margin, max(values) + margin)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _others(axes: "Axes", summary: SweepSummary, shown: Sequence[VariantRow]) -> None:
    """Draw the trials that are not highlighted as thin grey lines behind the others."""
    highlighted = {row.name for row in shown}
    for trial in summary.data["trials"]:
        if trial["id"] not in highlighted:
            epochs, values = _points(trial, "top1")
            axes.plot(epochs, [100 * v for v in values], color="0.85", linewidth=0.5, zorder=0)


def _curve(top: "Axes", low: "Axes", row: VariantRow, at: int) -> Any:
    colour, dash, marker = STYLES[at]
    epochs, values = _points(row.trial, "top1")
    every = max(1, len(epochs) // 8)
    line: dict[str, Any] = {"color": colour, "linestyle": dash, "zorder": 3 + len(STYLES) - at}
    marks: dict[str, Any] = {
        "marker": marker,
        "markevery": (at % every, every),
        "markerfacecolor": "white",
    }
    (handle,) = top.plot(epochs, [100 * value for value in values], **line, **marks)
    if row.epoch is not None and row.top1 is not None:
        top.plot([row.epoch], [100 * row.top1], marker, color=colour, zorder=12)
    rates = _points(row.trial, "lr")
    low.plot(*rates, **line, **(marks if len(rates[0]) == 1 else {}))
    return handle


def _points(trial: Mapping[str, Any], key: str) -> tuple[list[int], list[float]]:
    pairs = zip(trial["epochs"], trial[key], strict=True)
    known = [(epoch, value) for epoch, value in pairs if value is not None]
    return [epoch for epoch, _ in known], [value for _, value in known]


def _label(row: VariantRow) -> str:
    name = _short(_name(row))
    return f"{name}, {percent(row.top1, 1)}" if row.top1 is not None else name


def _name(row: VariantRow) -> str:
    return f"{row.label} ({row.plan})" if row.plan else row.label


def _short(text: str) -> str:
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def draw_ladder(summary: SweepSummary, folder: Path, lang: str = "en") -> None:
    """Write `ladder.svg`: the variants in the order in which they were tried, and why.

    Without the sweep file that order is not known: the boxes then stand by reading, unconnected.
    """
    ladder = summary.data["ladder"]
    by_variant = {row.variant: row for row in reversed(summary.rows)}
    path = list(ladder["path"]) if ladder else list(dict.fromkeys(r.variant for r in summary.rows))
    waiting = [
        variant["name"]
        for variant in summary.data["variants"]
        if variant["in_ladder"] and variant["name"] not in path
    ]
    path, waiting = path[:20], waiting[:10]
    with style(is_chinese(summary, lang)):
        figure = _figure(COLUMN, 0.72 * max(1, len(path)) + 0.2 * len(waiting) + 0.2)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(-len(path) - 0.28 * len(waiting), 0.1)
        for at, name in enumerate(path):
            row = by_variant.get(name)
            _box(
                axes,
                -at,
                _short(name),
                _step(row, lang),
                row is summary.winner and row is not None,
            )
            if ladder and at + 1 < len(path):
                _arrow(axes, -at, _why(row))
        for at, name in enumerate(waiting):
            y = -len(path) - 0.28 * at - 0.1
            _text(axes, 0.04, y, translate(f"{_short(name)}: not needed", lang), color="0.4")
        save(figure, folder, "ladder.svg")


def _step(row: VariantRow | None, lang: str) -> str:
    if row is None:
        return translate("next", lang)
    state = translate(state_of(row.trial), lang)
    if row.top1 is None:
        return state
    return f"{state}{translate(f', {percent(row.top1)} at epoch {row.epoch}', lang)}"


def _why(row: VariantRow | None) -> str:
    """Return the rule by which the ladder went on from a variant."""
    verdicts = row.trial["verdicts"] if row is not None else []
    rules = [str(verdict["rule"]) for verdict in verdicts if verdict["next"] and verdict["rule"]]
    return rules[-1] if rules else ""


def _box(axes: "Axes", y: float, title: str, line: str, winner: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    width, face = (1.4, "0.93") if winner else (0.6, "white")
    axes.add_patch(
        FancyBboxPatch(
            (0.03, y - 0.6),
            0.94,
            0.56,
            boxstyle="round,pad=0,rounding_size=0.03",
            linewidth=width,
            facecolor=face,
            edgecolor="black",
        )
    )
    _text(axes, 0.07, y - 0.2, title, fontweight="bold")
    _text(axes, 0.07, y - 0.45, line)


def _arrow(axes: "Axes", y: float, why: str) -> None:
    axes.annotate(
        "",
        xy=(0.12, y - 1.03),
        xytext=(0.12, y - 0.6),
        arrowprops={"arrowstyle": "->", "linewidth": 0.8},
    )
    _text(axes, 0.17, y - 0.82, why, fontsize=6)


def _text(axes: "Axes", x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, va="center", parse_math=False, **style)


def draw_confusion(
    kept: Predictions | None,
    lacking: str,
    folder: Path,
    lang: str = "en",
) -> None:
    """Write `confusion.pdf`: which class each clip of a true class was given.

    Args:
        kept: the winner's predictions; None draws why there are none.
    """
    with style(lang != "en"):
        figure = _figure(COLUMN, 0.85 * COLUMN if kept is not None else 0.8)
        axes = figure.subplots()
        if kept is None:
            axes.set_axis_off()
            _text(axes, 0, 0.5, translate(lacking, lang))
        else:
            _matrix(figure, axes, kept, lang)
        save(figure, folder, "confusion.pdf")


def _matrix(figure: "Figure", axes: "Axes", kept: Predictions, lang: str) -> None:
    import numpy as np

    size = max(*kept.labels, *kept.predicted) + 1
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (np.array(kept.labels), np.array(kept.predicted)), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    picture = axes.imshow(100 * shares, cmap="Greys", vmin=0, vmax=100, interpolation="nearest")
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xlabel(translate("predicted class", lang))
    axes.set_ylabel(translate("true class", lang))
    if size <= MOST_COUNTED:
        axes.set_xticks(range(size))
        axes.set_yticks(range(size))
        for (y, x), count in np.ndenumerate(counts):
            if count:
                shade = "white" if shares[y, x] > 0.5 else "black"
                _text(axes, x, y, str(count), ha="center", color=shade, fontsize=6)
    figure.colorbar(picture, ax=axes, label=translate("% of the true class", lang), shrink=0.75)
