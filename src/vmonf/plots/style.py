"""One look for every figure: colours, markers, names, sizes and legends."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import Formatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Okabe and Ito's colours, which the colour-blind tell apart; yellow and black come last,
#: for a pale and a grey tint say least.
OKABE_ITO = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
#: With more components than these colours, shapes tell neighbours in hue apart as well.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
#: For labels that no component matches, once all colours are taken.
GREYS = ("#4D4D4D", "#7A7A7A", "#A0A0A0")
INK = "#333333"
FAINT = "#8C8C8C"
#: Longest legend that stands below its panel, and longest legend at all.
LEGEND_BELOW = 6
LEGEND_ENTRIES = 12
#: Longest name before it is cut.
NAME_LENGTH = 32

_SETTINGS = {
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "figure.titlesize": 12.0,
    "figure.titleweight": "normal",
    "figure.dpi": 110.0,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.title_fontsize": 9.5,
    "text.usetex": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with our sizes, and leave the user's settings as they were."""
    with matplotlib.rc_context(_SETTINGS):
        yield


@final
class ShownFigure(Figure):
    """A figure that a notebook shows although pyplot, which would do so, is not involved."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, whose parts are kept from overlapping."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def framed_panels(
    title: str,
    panel_titles: Sequence[str],
    size: tuple[float, float],
    *,
    n_columns: int | None = None,
    below: float = 0.0,
    beside: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels in rows, each of exactly one size.

    Automatic layouts cannot keep two axes to one scale and a legend out of the way at once.

    Parameters
    ----------
    title : str
        The figure's sentence.
    panel_titles : sequence of str
        One a panel; "" for none.
    size : (float, float)
        Width and height of a panel, in inches.
    n_columns : int, optional
        Panels in a row: all unless given.
    below, beside : float, default=0
        Room for legends under the axes' names of each row and to the right of the last panel.
    """
    width, height = size
    n_columns = n_columns or len(panel_titles)
    n_rows = math.ceil(len(panel_titles) / n_columns)
    left, gap, right = 0.95, 0.45, 0.2 + beside
    figure_width = left + n_columns * (width + gap) - gap + right
    titles = [_wrapped(words, width, 11.0) for words in panel_titles]
    sentence = _wrapped(title, figure_width, 12.0)
    panel_top = 0.1 + 0.19 * max(text.count("\n") + 1 if text else 0 for text in titles)
    top = 0.2 + 0.21 * (sentence.count("\n") + 1)
    bottom = 0.62 + below
    row_height = bottom + height + panel_top
    figure_height = n_rows * row_height + top
    figure = ShownFigure(figsize=(figure_width, figure_height))
    figure.set_layout_engine("none")  # Nor one that the user's settings ask for.
    figure.suptitle(
        sentence, x=0.1 / figure_width, y=1 - 0.08 / figure_height, ha="left", va="top", color=INK
    )
    panels = []
    for index, text in enumerate(titles):
        row, column = divmod(index, n_columns)
        place = (
            (left + column * (width + gap)) / figure_width,
            ((n_rows - 1 - row) * row_height + bottom) / figure_height,
            width / figure_width,
            height / figure_height,
        )
        axes = figure.add_axes(place)
        axes.set_title(text, color=INK)
        panels.append(axes)
    return figure, panels


@final
@dataclass(frozen=True)
class Look:
    """How a component or a label is drawn.

    Attributes
    ----------
    name : str
    colour : str
    marker : str
    """

    name: str
    colour: str
    marker: str = "o"


UNLABELLED = Look("unlabelled", "#CCCCCC")


def component_looks(classes: Sequence[Any] | NDArray[Any]) -> list[Look]:
    """Name, colour and marker of each component.

    They depend on nothing but the component's place among the K, so that a component looks
    the same in every figure of a mixture.

    Parameters
    ----------
    classes : sequence of length K
        What each component is called.
    """
    colours = palette(len(classes))
    return [
        Look(plain_name(name, "component"), colour, marker_of(index, len(classes)))
        for index, (name, colour) in enumerate(zip(classes, colours, strict=True))
    ]


def label_looks(
    label_classes: NDArray[Any],
    codes: NDArray[np.int64],
    clusters: NDArray[np.int64],
    classes: NDArray[Any],
) -> list[Look]:
    """Name, colour and marker of each label.

    A label takes the colour of the component of its name, where there is one; otherwise of
    the component that shares most rows with it. So a row that is drawn in one colour by its
    label and in another by its cluster is a disagreement. Labels left over have colours that
    no component has.

    Parameters
    ----------
    label_classes : array of shape (L,)
    codes : int array of shape (n,)
        The label of each row, -1 where there is none.
    clusters : int array of shape (n,)
        The component of each row.
    classes : array of shape (K,)
        What each component is called.
    """
    from scipy.optimize import linear_sum_assignment

    n_components = len(classes)
    known = codes >= 0
    shared = np.zeros((len(label_classes), n_components))
    np.add.at(shared, (codes[known], clusters[known]), 1.0)
    # A mixture that was fitted without labels calls its components 0..K-1: those numbers say
    # nothing about labels. Any other names came from labels.
    if not np.array_equal(classes, np.arange(n_components)):
        # One common name must weigh more than all rows together.
        same_name = np.array([str(a) == str(b) for a in label_classes for b in classes])
        shared += same_name.reshape(shared.shape) * (len(codes) + 1.0)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    component = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    components = component_looks(classes)
    spare = [*OKABE_ITO[n_components:], *GREYS]
    looks, left_over = [], 0
    for index, name in enumerate(label_classes):
        text = plain_name(name, "label")
        if index in component:
            match = components[component[index]]
            looks.append(Look(text, match.colour, match.marker))
        else:
            looks.append(
                Look(text, spare[left_over % len(spare)], MARKERS[-1 - left_over % len(MARKERS)])
            )
            left_over += 1
    return looks


def palette(n_colours: int) -> list[str]:
    """Colours for K components: Okabe and Ito's up to eight, then hues of three lightnesses.

    The hues go once around the circle in the perceptually uniform space OKLCH
    (https://bottosson.github.io/posts/oklab/), and neighbours in hue differ in lightness,
    which the colour-blind see.
    """
    if n_colours <= len(OKABE_ITO):
        return list(OKABE_ITO[:n_colours])
    index = np.arange(n_colours)
    hue = 2.0 * np.pi * index / n_colours + 0.5
    lightness = np.array([0.52, 0.66, 0.80])[index % 3]
    a, b = 0.13 * np.cos(hue), 0.13 * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=1,
    ).clip(0.0, 1.0)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ["#" + "".join(f"{round(255 * part):02X}" for part in colour) for colour in gamma]


def marker_of(index: int, n_components: int) -> str:
    """Circles for all where colours suffice, otherwise one of several shapes."""
    return MARKERS[index % len(MARKERS)] if n_components > len(OKABE_ITO) else MARKERS[0]


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white: 0 is white, 1 the colour itself."""
    red, green, blue = (1.0 - strength * (1.0 - part) for part in to_rgb(colour))
    return red, green, blue


def shade(colour: str) -> tuple[float, float, float]:
    """Return a darker colour, for the rim of a point: even pale ones then stand out."""
    red, green, blue = (0.62 * part for part in to_rgb(colour))
    return red, green, blue


# ---------------------------------------------------------------- words


def plain_name(name: Any, kind: str) -> str:
    """Return the name itself if it is words, or for a number what it counts, as "label 3"."""
    text = str(name)
    if not isinstance(name, str):
        text = f"{kind} {text}"
    return drawable(text)


def drawable(text: str, most: int = NAME_LENGTH) -> str:
    """Cut what is too long, and keep dollar signs from starting a formula."""
    text = " ".join(text.split())
    if len(text) > most:
        text = text[: most - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def set_title(figure: Figure, sentence: str) -> None:
    """Give the figure its sentence, in as many lines as its width needs."""
    figure.suptitle(_wrapped(sentence, figure.get_figwidth(), 12.0), x=0.01, ha="left", color=INK)


def _wrapped(words: str, width: float, font_size: float) -> str:
    return "\n".join(textwrap.wrap(words, int((width - 0.2) / _letter_width(font_size))))


def _letter_width(font_size: float) -> float:
    """Average width of a letter, in inches."""
    return 0.0075 * font_size


def name_at(axes: Axes, point: Array, name: str) -> None:
    """Write a name where its component is densest, readable on any ground."""
    axes.text(
        float(point[0]),
        float(point[1]),
        name,
        ha="center",
        va="center",
        fontsize=9.5,
        fontweight="bold",
        color=INK,
        path_effects=[withStroke(linewidth=3, foreground="white")],
        clip_on=True,
        zorder=6,
    )


def set_ticks(axes: Axes, n_x: int = 6, n_y: int = 6) -> None:
    """Keep tick labels few enough to be read."""
    for axis, n_ticks in ((axes.xaxis, n_x), (axes.yaxis, n_y)):
        axis.set_major_locator(MaxNLocator(n_ticks, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(ShortNumbers())


@final
class ShortNumbers(Formatter):
    """Whole numbers at the ticks, as 5e6: no power of ten in a corner that one overlooks."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Write a single number."""
        return f"{x:g}"

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Write each number with as many digits as tell it from its neighbours."""
        places = np.unique(values)
        step = float(np.diff(places).min()) if len(places) > 1 else 1.0
        return [_short_number(value, step) for value in values]


def _short_number(value: float, step: float) -> str:
    if abs(value) < 1e-6 * step:
        return "0"
    digits = int(np.clip(np.floor(np.log10(abs(value) / step)) + 3, 5, 15))
    number, _, power = f"{value:.{digits}g}".partition("e")
    return (number + (f"e{int(power)}" if power else "")).replace("-", "\u2212")


# ---------------------------------------------------------------- points and legends


def draw_points(
    axes: Axes, points: Array, codes: NDArray[np.int64], looks: Sequence[Look], size: float
) -> None:
    """Scatter rows of shape (m, 2) in the looks of their codes; -1 is drawn faintly below.

    Rows of one marker are drawn in their own order, so that no group hides another.
    """
    unlabelled = codes < 0
    if unlabelled.any():
        axes.scatter(
            points[unlabelled, 0],
            points[unlabelled, 1],
            s=min(size, 0.6 * point_size(int(unlabelled.sum()))),
            c=UNLABELLED.colour,
            linewidths=0,
            zorder=2,
        )
    for marker in dict.fromkeys(look.marker for look in looks):
        ours = [index for index, look in enumerate(looks) if look.marker == marker]
        chosen = np.flatnonzero(np.isin(codes, ours))
        if len(chosen):
            axes.scatter(
                points[chosen, 0],
                points[chosen, 1],
                s=size,
                c=[looks[code].colour for code in codes[chosen]],
                edgecolors=[shade(looks[code].colour) for code in codes[chosen]],
                linewidths=0.35,
                marker=marker,
                zorder=3,
            )


def point_size(n_points: int) -> float:
    """Return the area of a point: large where they are few."""
    return float(np.clip(9000.0 / max(n_points, 1), 9.0, 30.0))


def handles(looks: Sequence[Look], form: Literal["point", "patch", "line"]) -> list[Artist]:
    """One legend entry a look."""
    if form == "patch":
        return [Patch(facecolor=look.colour, label=look.name) for look in looks]
    if form == "line":
        return [Line2D([], [], color=look.colour, linewidth=2, label=look.name) for look in looks]
    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=look.marker,
            markersize=6,
            markerfacecolor=look.colour,
            markeredgecolor=shade(look.colour),
            markeredgewidth=0.5,
            label=look.name,
        )
        for look in looks
    ]


def shortened(entries: Sequence[Artist], most: int = LEGEND_ENTRIES) -> list[Artist]:
    """Cut a legend that is too long, and say how many entries are not in it."""
    if len(entries) <= most:
        return list(entries)
    rest = Line2D([], [], linestyle="none", label=f"… and {len(entries) - most + 1} more")
    return [*entries[: most - 1], rest]


def legend_beside(
    axes: Axes, entries: Sequence[Artist], title: str | None = None, n_columns: int = 1
) -> None:
    """Put a legend to the right of its panel."""
    axes.legend(
        handles=list(entries),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        title=title,
        alignment="left",
        ncols=n_columns,
    )


def room_beside(entries: Sequence[Artist]) -> float:
    """Width of a legend beside a panel, in inches."""
    return 0.75 + _letter_width(9.5) * _longest(entries)


def legend_below(
    axes: Axes, entries: Sequence[Artist], width: float, title: str | None = None
) -> None:
    """Put a legend below its panel of this width, in inches."""
    below_the_name = ScaledTranslation(-0.08, -0.5, axes.figure.dpi_scale_trans)
    axes.legend(
        handles=list(entries),
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=axes.transAxes + below_the_name,
        borderaxespad=0,
        ncols=_columns_below(entries, width),
        title=title,
        alignment="left",
        handletextpad=0.3,
        columnspacing=1.2,
    )


def room_below(entries: Sequence[Artist], width: float, title: str | None = None) -> float:
    """Height of a legend below a panel of this width, in inches."""
    n_rows = math.ceil(len(entries) / _columns_below(entries, width))
    return 0.21 * (n_rows + (title is not None)) if entries else 0.0


def _columns_below(entries: Sequence[Artist], width: float) -> int:
    fitting = int(width / (_letter_width(9.5) * _longest(entries) + 0.42))
    return max(1, min(fitting, len(entries)))


def _longest(entries: Sequence[Artist]) -> int:
    lines = [line for entry in entries for line in str(entry.get_label()).split("\n")]
    return max((len(line) for line in lines), default=0)
