"""The appearance that all figures share: colours, markers, names, titles and legends."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal, final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from vmonf.metrics import match

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Okabe and Ito's colours, which colour-blind readers can tell apart. Yellow and black come
#: last, because their tints are the hardest to recognise.
OKABE_ITO = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7"),
    *("#56b4e9", "#d55e00", "#f0e442", "#000000"),
)
#: With more components than these colours, components differ in marker as well.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
#: For labels without a component, once all of the colours above are taken.
GREYS = ("#4d4d4d", "#7a7a7a", "#a0a0a0")
#: For text and lines; FAINT for what matters less.
INK = "#333333"
FAINT = "#8c8c8c"
#: Most entries of a legend below a panel, and of any legend.
LEGEND_BELOW = 6
LEGEND_ENTRIES = 12

#: Arguments of all legends outside or in the corner of a panel.
LEGEND: dict[str, Any] = {"loc": "upper left", "borderaxespad": 0, "alignment": "left"}

_SETTINGS = {
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "axes.formatter.use_mathtext": False,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.titlesize": 12.0,
    "figure.titleweight": "normal",
    "figure.dpi": 110.0,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.title_fontsize": 9.5,
    "text.parse_math": False,
    "text.usetex": False,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with these settings, and restore the user's settings afterwards."""
    with matplotlib.rc_context(_SETTINGS):
        yield


@final
class ShownFigure(Figure):
    """A figure that a notebook displays without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, with matplotlib's constrained layout."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def set_title(figure: Figure, sentence: str) -> None:
    """Set the title of the figure, on as many lines as its width needs."""
    lines = textwrap.wrap(sentence, int(11 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", color=INK)


def fit_panels(figure: Figure, width: float, height: float, title: str) -> None:
    """Set the title, and resize the figure until each panel has this size, in inches.

    The layout gives the panels the space that titles and legends leave. The exact size of a
    panel sets the ratio of the scales of its axes. Call it when everything else is drawn.
    """
    engine, place = figure.get_layout_engine(), figure.axes[0].get_subplotspec()
    assert engine is not None
    assert place is not None
    n_rows, n_columns = place.get_gridspec().get_geometry()
    for _ in range(2):  # The lines of the title and the width of the figure depend on each other.
        set_title(figure, title)
        engine.execute(figure)
        panel, (whole_width, whole_height) = figure.axes[0].get_position(), figure.get_size_inches()
        figure.set_size_inches(
            whole_width + n_columns * (width - whole_width * panel.width),
            whole_height + n_rows * (height - whole_height * panel.height),
        )


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


UNLABELLED = Look("unlabelled", "#cccccc")


def component_looks(classes: Sequence[Any] | NDArray[Any]) -> list[Look]:
    """Name, colour and marker of each component.

    Colour and marker depend only on K and the index of the component, so that a component
    looks the same in every figure of a mixture.

    Parameters
    ----------
    classes : sequence of length K
        The name of each component.
    """
    many = len(classes) > len(OKABE_ITO)
    return [
        Look(display_name(name, "component"), colour, MARKERS[index % len(MARKERS) if many else 0])
        for index, (name, colour) in enumerate(zip(classes, palette(len(classes)), strict=True))
    ]


def label_looks(
    label_classes: NDArray[Any],
    codes: NDArray[np.int64],
    clusters: NDArray[np.int64],
    classes: NDArray[Any],
) -> list[Look]:
    """Name, colour and marker of each label.

    A label has the colour of the component of the same name, if there is one, and otherwise
    of the component it is matched with by the number of rows they share. A row whose colour
    by label differs from its colour by cluster is therefore an error of the clustering.
    Labels without a component have colours that no component has.

    Parameters
    ----------
    label_classes : array of shape (L,)
    codes : int array of shape (n,)
        The label of each row, -1 where there is none.
    clusters : int array of shape (n,)
        The component of each row.
    classes : array of shape (K,)
        The name of each component.
    """
    n_components = len(classes)
    known = codes >= 0
    shared = np.zeros((len(label_classes), n_components))
    np.add.at(shared, (codes[known], clusters[known]), 1.0)
    # A mixture fitted without labels numbers its components 0..K-1, and these numbers are
    # unrelated to labels. All other names come from labels.
    if not np.array_equal(classes, np.arange(n_components)):
        same_name = label_classes.astype(str)[:, None] == classes.astype(str)
        shared += same_name * (len(codes) + 1.0)  # An equal name outweighs all rows together.
    component = dict(zip(*match(shared), strict=True))
    components = component_looks(classes)
    unused = zip(cycle([*OKABE_ITO[n_components:], *GREYS]), cycle(MARKERS[::-1]), strict=True)
    looks = []
    for index, name in enumerate(label_classes):
        if index in component:
            like = components[component[index]]
            colour, marker = like.colour, like.marker
        else:
            colour, marker = next(unused)
        looks.append(Look(display_name(name, "label"), colour, marker))
    return looks


def palette(n_colours: int) -> list[str]:
    """Colours for K components: Okabe and Ito's up to eight, then hues of matplotlib's "turbo".

    The hues are brought to three levels of lightness in turn, so that neighbours in hue differ
    in lightness, which colour-blind readers see.
    """
    if n_colours <= len(OKABE_ITO):
        return list(OKABE_ITO[:n_colours])
    hues = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, n_colours))[:, :3]
    lightness = (hues @ [0.299, 0.587, 0.114])[:, None]  # Rec. 601 luma
    wanted = np.resize([0.3, 0.5, 0.7], n_colours)[:, None]
    darker, lighter = hues * wanted / lightness, 1 - (1 - hues) * (1 - wanted) / (1 - lightness)
    return [to_hex(colour) for colour in np.where(wanted < lightness, darker, lighter)]


def display_name(name: Any, kind: str) -> str:
    """Return a name as it is if it is a string, and a number with its kind, as "label 3"."""
    return cut_text(name if isinstance(name, str) else f"{kind} {name}")


def cut_text(text: str, most: int = 32) -> str:
    """Cut a text that has more characters than this, and put it on one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def name_at(axes: Axes, point: Array, name: str) -> None:
    """Write a name at a point, with a white outline that keeps it readable on any colour."""
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


def draw_points(
    axes: Axes, points: Array, codes: NDArray[np.int64], looks: Sequence[Look], size: float
) -> None:
    """Scatter rows of shape (m, 2) by their codes; rows of code -1 are pale and below the rest.

    Rows with the same marker are drawn in the order of the table, so that no group covers
    another.
    """
    x, y = points.T
    pale = codes < 0
    if pale.any():
        pale_size = min(size, 0.6 * point_size(int(pale.sum())))
        axes.scatter(x[pale], y[pale], s=pale_size, c=UNLABELLED.colour, linewidths=0, zorder=2)
    colours = np.array([to_rgb(look.colour) for look in looks])
    markers = np.array([look.marker for look in looks])
    for marker in dict.fromkeys(markers):
        chosen = ~pale & (markers[codes] == marker)
        if chosen.any():
            axes.scatter(
                x[chosen],
                y[chosen],
                s=size,
                c=colours[codes[chosen]],
                edgecolors=_rims(looks)[codes[chosen]],
                linewidths=0.35,
                marker=marker,
                zorder=3,
            )


def _rims(looks: Sequence[Look]) -> Array:
    """Darker colours for the rims of points, so that pale points stand out."""
    return 0.62 * np.array([to_rgb(look.colour) for look in looks])


def point_size(n_points: int) -> float:
    """Return the area of a point: the fewer points, the larger."""
    return float(np.clip(9000.0 / max(n_points, 1), 9.0, 30.0))


def handles(looks: Sequence[Look], form: Literal["point", "patch", "line"]) -> list[Artist]:
    """One legend entry for each look."""
    if form == "patch":
        return [Patch(facecolor=look.colour, label=look.name) for look in looks]
    if form == "line":
        return [Line2D([], [], color=look.colour, linewidth=2, label=look.name) for look in looks]
    point: dict[str, Any] = {"linestyle": "none", "markersize": 6, "markeredgewidth": 0.5}
    return [
        Line2D([], [], marker=look.marker, mfc=look.colour, mec=rim, label=look.name, **point)
        for look, rim in zip(looks, _rims(looks), strict=True)
    ]


def shortened(entries: Sequence[Artist], most: int = LEGEND_ENTRIES) -> list[Artist]:
    """Cut the entries of a legend that has more than this, and state how many are left out."""
    if len(entries) <= most:
        return list(entries)
    rest = Line2D([], [], linestyle="none", label=f"… and {len(entries) - most + 1} more")
    return [*entries[: most - 1], rest]


def legend_beside(
    axes: Axes, entries: Sequence[Artist], title: str | None = None, n_columns: int = 1
) -> None:
    """Put a legend to the right of a panel."""
    place = {"bbox_to_anchor": (1.01, 1.02), "ncols": n_columns}
    axes.legend(handles=entries, title=title, **place, **LEGEND)


def legend_below(
    axes: Axes, entries: Sequence[Artist], width: float, title: str | None = None
) -> None:
    """Put a legend below the name of the horizontal axis of a panel of this width, in inches."""
    below = axes.transAxes + ScaledTranslation(-0.08, -0.5, axes.figure.dpi_scale_trans)
    place = {"bbox_to_anchor": (0, 0), "bbox_transform": below}
    spacing = {"handletextpad": 0.3, "columnspacing": 1.2}
    n_columns = min(len(entries), columns_within(width, entries))
    axes.legend(handles=entries, title=title, ncols=n_columns, **place, **spacing, **LEGEND)


def columns_within(width: float, entries: Sequence[Artist]) -> int:
    """Estimate how many columns of a legend fit into a width, in inches; at least one."""
    longest = max(len(str(entry.get_label())) for entry in entries)
    return max(1, int(width / (0.42 + 0.071 * longest)))
