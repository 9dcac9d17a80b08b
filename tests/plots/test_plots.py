"""Figures of fitted mixtures: their parts, their words, and what they leave alone."""

import importlib
import itertools
import pickle
import sys

import matplotlib
import numpy as np
import pandas
import polars
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from sklearn.exceptions import NotFittedError

from vmonf import FlowMixture, plots
from vmonf.judge import Verdict
from vmonf.plots.pairs import between_share
from vmonf.plots.rows import MOST_POINTS, limits
from vmonf.plots.style import (
    OKABE_ITO,
    UNLABELLED,
    component_looks,
    handles,
    label_looks,
    palette,
    shortened,
)
from vmonf.plots.training import _likelihood_limits

KINDS_BY_FEATURES = {
    1: ("density", "training", "sizes"),
    2: ("regions", "density", "training", "pairs", "sizes"),
    5: ("training", "pairs", "sizes"),
}


def blobs(n_features, n_classes, n_rows=180):
    """Rows in well separated classes, and the class of each."""
    random = np.random.default_rng(n_features)
    labels = np.arange(n_rows) % n_classes
    centres = 8.0 * random.normal(size=(n_classes, n_features))
    return centres[labels] + random.normal(size=(n_rows, n_features)), labels


def fitted(X, y=None, n_components=3, **settings):
    quick = {"flow__n_layers": 2, "flow__hidden": (8,), "posterior__hidden": (16,)}
    settings = {"max_epochs": 3, "random_state": 0, **quick, **settings}
    return FlowMixture(n_components).set_params(**settings).fit(X, y)


@pytest.fixture(scope="module")
def mixtures():
    """A mixture for each number of features, with its rows."""
    found = {}
    for n_features in KINDS_BY_FEATURES:
        X, labels = blobs(n_features, 3)
        flow = "nsf" if n_features == 1 else "realnvp"
        found[n_features] = (fitted(X, flow=flow), X, labels)
    return found


@pytest.fixture(scope="module")
def plane(mixtures):
    return mixtures[2]


@pytest.fixture(scope="module")
def named():
    """A mixture fitted to a DataFrame, with some labels, of names that could be trouble."""
    X, classes = blobs(2, 3)
    names = np.array(["_low $5", "a very long name of a class that nobody can read", "high"])
    labels = names[classes].astype(object)
    labels[::2] = "-1"
    table = pandas.DataFrame(X, columns=["$price", "weight (g)"])
    return fitted(table, labels.astype(str), n_components=4), table, labels.astype(str)


def legend_texts(figure, place=-1):
    """What the legends of a figure say, or one of them."""
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    return [text.get_text() for text in legends[place].get_texts()]


def legend_colours(figure, place=-1):
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    colours = {}
    for handle, text in zip(legends[place].legend_handles, legends[place].get_texts(), strict=True):
        if hasattr(handle, "get_markerfacecolor") and handle.get_marker() not in ("None", ""):
            colour = handle.get_markerfacecolor()
        elif hasattr(handle, "get_facecolor"):
            colour = handle.get_facecolor()
        else:
            colour = handle.get_color()
        colours[text.get_text()] = to_hex(colour)
    return colours


def point_colours(axes):
    """Colours of the points in a panel."""
    points = [part for part in axes.collections if isinstance(part, PathCollection)]
    return {to_hex(colour) for part in points for colour in part.get_facecolors()}


def title(figure):
    return figure.get_suptitle().replace("\n", " ")


def words_of(figure):
    """Every title, axis name and legend that is drawn, with its place in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    parts = [figure._suptitle]
    for axes in figure.axes:
        if axes.get_legend() is not None:
            parts.append(axes.get_legend())
        if axes.axison:
            parts += [axes._left_title, axes.xaxis.label, axes.yaxis.label]
    written = [part for part in parts if not hasattr(part, "get_text") or part.get_text()]
    return [(part, part.get_window_extent(renderer)) for part in written]


def assert_readable(figure):
    """No words overlap, and none leave the figure."""
    placed = words_of(figure)
    assert len(placed) > 1
    whole = figure.bbox
    for part, box in placed:
        assert box.x0 >= whole.x0 - 2, part
        assert box.y0 >= whole.y0 - 2, part
        assert box.x1 <= whole.x1 + 2, part
        assert box.y1 <= whole.y1 + 2, part
    for (one, box), (other, other_box) in itertools.combinations(placed, 2):
        width = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        height = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert width <= 1 or height <= 1, (one, other)


# ---------------------------------------------------------------- dispatch and errors


def test_auto_chooses_by_the_number_of_features(mixtures):
    for n_features, kind in ((1, "density"), (2, "regions"), (5, "pairs")):
        mixture, X, _ = mixtures[n_features]
        assert title(plots.plot(mixture, X)) == title(plots.plot(mixture, X, kind=kind))


@pytest.mark.parametrize(
    ("n_features", "kind"),
    [(d, kind) for d, kinds in KINDS_BY_FEATURES.items() for kind in kinds],
)
@pytest.mark.parametrize("given", ["nothing", "rows", "labels"])
def test_every_kind_says_what_one_sees_and_overlaps_nothing(mixtures, n_features, kind, given):
    mixture, X, labels = mixtures[n_features]
    figure = plots.plot(
        mixture,
        None if given == "nothing" else X,
        labels if given == "labels" else None,
        kind=kind,
    )
    assert title(figure).endswith(".")
    assert_readable(figure)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_the_choice_of_the_number(n_classes):
    X, _ = blobs(2, n_classes)
    mixture = fitted(X, n_components="auto", max_components=6, max_epochs=0)
    figure = plots.plot(mixture, kind="number")
    assert_readable(figure)
    assert title(figure).replace("\n", " ") == str(mixture.number_)
    above, below = figure.axes
    np.testing.assert_allclose(above.lines[0].get_ydata(), mixture.number_.agreement)
    np.testing.assert_allclose(below.lines[0].get_ydata(), mixture.number_.score)


def test_a_number_that_was_given(plane):
    with pytest.raises(ValueError, match=r"did not search .* fit with n_components='auto'\.$"):
        plots.plot(plane[0], kind="number")


def test_unknown_kind(plane):
    with pytest.raises(ValueError, match=r"kind='pie' is not known: choose one of auto, regions"):
        plots.plot(plane[0], kind="pie")


def test_kinds_that_do_not_fit_the_number_of_features(mixtures):
    with pytest.raises(ValueError, match=r"of 2 features, and this mixture has 1: choose kind='de"):
        plots.plot(mixtures[1][0], kind="regions")
    with pytest.raises(ValueError, match=r"of 2 features, and this mixture has 5: choose kind='pa"):
        plots.plot(mixtures[5][0], kind="regions")
    with pytest.raises(ValueError, match=r"of 1 or 2 features, and this mixture has 5"):
        plots.plot(mixtures[5][0], kind="density")
    with pytest.raises(ValueError, match=r"Pairs need at least 2 features, and this mixture has 1"):
        plots.plot(mixtures[1][0], kind="pairs")


@pytest.mark.parametrize("kind", ["regions", "pairs", "sizes"])
def test_labels_that_do_not_fit_the_rows(plane, kind):
    mixture, X, labels = plane
    with pytest.raises(ValueError, match=r"labels need the rows they belong to: give X as well"):
        plots.plot(mixture, labels=labels, kind=kind)
    with pytest.raises(ValueError, match=r"labels has shape \(3,\) and X has 180 rows: give one"):
        plots.plot(mixture, X, labels[:3], kind=kind)
    with pytest.raises(ValueError, match=r"Unknown label type: continuous"):
        plots.plot(mixture, X, X[:, 0], kind=kind)


def test_rows_that_do_not_fit_the_mixture(plane):
    mixture, X, _ = plane
    with pytest.raises(ValueError, match=r"X has 1 features, but FlowMixture is expecting 2"):
        plots.plot(mixture, X[:, :1])
    with pytest.raises(ValueError, match=r"X contains NaN in row 0"):
        plots.plot(mixture, np.full((3, 2), np.nan))


@pytest.mark.parametrize("kind", plots.KINDS)
def test_unfitted(kind):
    with pytest.raises(NotFittedError):
        plots.plot(FlowMixture(), kind=kind)


def test_settings_of_pairs(mixtures):
    mixture = mixtures[5][0]
    with pytest.raises(ValueError, match=r"of='best' is not known: choose 'auto', 'features' or"):
        plots.plot_pairs(mixture, of="best")
    with pytest.raises(ValueError, match=r"n_features=1 must be at least 2: pairs need two"):
        plots.plot_pairs(mixture, n_features=1)


def test_missing_matplotlib_is_one_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("vmonf.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"^Plots need matplotlib: pip install 'vmonf\[plots\]'.$"
    ):
        importlib.import_module("vmonf.plots")


# ---------------------------------------------------------------- what is left alone


def test_global_state_is_left_alone(mixtures):
    # The name of the backend is left out: to ask for it would choose one.
    names = [name for name in matplotlib.rcParams if name != "backend"]
    before = {name: matplotlib.rcParams[name] for name in names}
    pyplot_before = "matplotlib.pyplot" in sys.modules
    for n_features, kinds in KINDS_BY_FEATURES.items():
        mixture, X, labels = mixtures[n_features]
        for kind in kinds:
            plots.plot(mixture, X, labels, kind=kind)
    assert {name: matplotlib.rcParams[name] for name in names} == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_before
    if pyplot_before:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_neither_the_mixture_nor_the_rows_change(named):
    mixture, table, labels = named
    state, rows = pickle.dumps(mixture), table.copy()
    for kind in KINDS_BY_FEATURES[2]:
        plots.plot(mixture, table, labels, kind=kind)
    assert pickle.dumps(mixture) == state
    pandas.testing.assert_frame_equal(table, rows)
    assert mixture.feature_names_in_.tolist() == ["$price", "weight (g)"]


def test_same_random_state_same_figure(plane):
    mixture, X, _ = plane

    def points(random_state):
        figure = plots.plot(mixture, X, random_state=random_state)
        return np.concatenate([part.get_offsets() for part in figure.axes[-1].collections])

    np.testing.assert_array_equal(points(3), points(3))
    np.testing.assert_array_equal(points(3), points(np.random.RandomState(3)))
    assert not np.array_equal(points(3), points(4))


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_saving(named, tmp_path, ending):
    mixture, table, labels = named
    for kind in KINDS_BY_FEATURES[2]:
        path = tmp_path / f"{kind}.{ending}"
        plots.plot(mixture, table, labels, kind=kind).savefig(path)
        assert path.stat().st_size > 5_000


def test_a_notebook_shows_a_figure(plane):
    assert plots.plot(plane[0], kind="sizes")._repr_png_().startswith(b"\x89PNG")


def test_figures_can_be_pickled(plane):
    for kind in KINDS_BY_FEATURES[2]:
        assert pickle.loads(pickle.dumps(plots.plot(*plane, kind=kind))).axes


# ---------------------------------------------------------------- colours and legends


def test_a_component_has_one_colour_in_every_figure(plane):
    mixture, X, _ = plane
    expected = {f"component {c}": OKABE_ITO[c] for c in range(3)}
    for kind in ("regions", "pairs", "training"):
        assert legend_colours(plots.plot(mixture, X, kind=kind)) == expected
    density = legend_colours(plots.plot(mixture, X, kind="density"))
    assert {name: density[name] for name in expected} == expected
    bars = plots.plot(mixture, X, kind="sizes").axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in bars[3:]] == list(OKABE_ITO[:3])
    regions = plots.plot(mixture, X)
    assert point_colours(regions.axes[0]) == point_colours(regions.axes[1]) == set(OKABE_ITO[:3])


def test_regions_are_tinted_by_the_chosen_component(plane):
    mixture, X, _ = plane
    picture = plots.plot(mixture, X).axes[-1].images[0]
    left, right, bottom, top = picture.get_extent()
    tints = np.asarray(picture.get_array())
    for row, name in zip(X[:20], mixture.predict(X[:20]), strict=True):
        across = int((row[0] - left) / (right - left) * tints.shape[1])
        up = int((row[1] - bottom) / (top - bottom) * tints.shape[0])
        missing = 1 - tints[up, across]
        colour = 1 - np.array(to_rgb(OKABE_ITO[name]))
        # A tint is white less some share of what the colour lacks.
        np.testing.assert_allclose(missing / missing.max(), colour / colour.max(), atol=1e-6)


@pytest.mark.parametrize("n_components", [1, 2, 8, 9, 12, 40])
def test_looks_are_distinct(n_components):
    looks = component_looks(range(n_components))
    assert len({look.colour for look in looks}) == n_components
    if n_components <= 8:
        assert palette(n_components) == list(OKABE_ITO[:n_components])
    else:
        colours = np.array([to_rgb(look.colour) for look in looks])
        lightness = colours @ [0.299, 0.587, 0.114]
        assert np.abs(np.diff(lightness)).min() > 0.15
        for one, other in itertools.pairwise(looks):
            assert one.marker != other.marker


def test_labels_have_the_colours_of_the_components_they_share_rows_with():
    codes = np.array([0, 0, 0, 1, 1, 1, 2, -1])
    clusters = np.array([2, 2, 0, 0, 0, 0, 1, 1])
    looks = label_looks(np.array([5, 6, 7]), codes, clusters, np.arange(3))
    assert [look.colour for look in looks] == [OKABE_ITO[2], OKABE_ITO[0], OKABE_ITO[1]]
    assert [look.name for look in looks] == ["label 5", "label 6", "label 7"]


def test_labels_have_the_colours_of_components_of_their_name():
    codes, clusters = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    looks = label_looks(np.array(["a", "b"]), codes, clusters, np.array(["a", "b", "new_0"]))
    assert [look.colour for look in looks] == list(OKABE_ITO[:2])


def test_more_labels_than_components_have_other_colours(plane):
    mixture, X, _ = plane
    labels = np.arange(len(X)) % 7
    colours = legend_colours(plots.plot(mixture, X, labels), 0)
    assert set(colours) == {f"label {i}" for i in range(7)}
    assert len(set(colours.values())) == 7
    assert set(OKABE_ITO[:3]) < set(colours.values())


def test_legends_name_every_class_and_the_unlabelled(named):
    mixture, table, labels = named
    classes = ["_low $5", "a very long name of a class tha…", "high"]
    components = [*classes, "new_0"]
    classes, components = sorted(classes), sorted(components)
    regions = plots.plot(mixture, table, labels)
    assert sorted(legend_texts(regions, 0)) == sorted([*classes, "unlabelled"])
    assert sorted(legend_texts(regions, 1)) == components
    assert point_colours(regions.axes[0]) >= {UNLABELLED.colour}
    pairs = plots.plot(mixture, table, labels, kind="pairs")
    assert sorted(legend_texts(pairs)) == sorted([*classes, "unlabelled"])
    sizes = plots.plot(mixture, table, labels, kind="sizes")
    assert sorted(legend_texts(sizes)) == sorted([*classes, "mixing weight p(c)", "unlabelled"])
    ticks = [text.get_text() for text in sizes.axes[0].get_yticklabels()]
    assert sorted(ticks) == components
    # No dollar sign starts a formula.
    for figure in (regions, pairs, sizes):
        words = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert len(words) >= 2
        assert not any(text.get_parse_math() for text in words)
    # One colour a name, in both legends.
    left, right = legend_colours(regions, 0), legend_colours(regions, 1)
    assert all(left[name] == right[name] for name in classes)
    for figure in (regions, pairs, sizes):
        assert_readable(figure)


def test_axes_are_named_after_the_features(named, mixtures):
    figure = plots.plot(named[0], named[1])
    assert [axes.get_xlabel() for axes in figure.axes] == ["$price", "$price"]
    assert figure.axes[0].get_ylabel() == "weight (g)"
    assert plots.plot(mixtures[2][0]).axes[0].get_xlabel() == "column 0"
    assert "per unit of column 0" in plots.plot(mixtures[1][0]).axes[0].get_ylabel()


def test_polars_tables(named):
    mixture, table, _ = named
    figure = plots.plot(mixture, polars.from_pandas(table))
    assert title(figure) == title(plots.plot(mixture, table))


def test_no_labelled_row_at_all(plane):
    mixture, X, _ = plane
    for kind in ("regions", "pairs", "sizes"):
        figure = plots.plot(mixture, X, np.full(len(X), -1), kind=kind)
        assert "unlabelled" in legend_texts(figure, 0)


# ---------------------------------------------------------------- how many of all


@pytest.mark.parametrize("n_components", [1, 12])
@pytest.mark.long
def test_few_and_many_components(n_components):
    X, labels = blobs(2, 12)
    mixture = fitted(X, n_components=n_components, max_epochs=1)
    names = {str(c): f"component {c}" for c in range(n_components)}
    for kind in KINDS_BY_FEATURES[2]:
        figure = plots.plot(mixture, X, kind=kind)
        assert_readable(figure)
        if kind in ("regions", "density"):
            assert legend_texts(figure)[-n_components:] == list(names.values())
            # With many colours, each is named in the picture too.
            written = {text.get_text() for axes in figure.axes for text in axes.texts}
            assert written == (set(names) if n_components > 8 else set())
    figure = plots.plot(mixture, X, labels)
    assert len(legend_texts(figure, 0)) == 12
    assert_readable(figure)


def test_long_legends_say_what_is_missing():
    entries = handles(component_looks(range(14)), "line")
    names = [str(entry.get_label()) for entry in shortened(entries)]
    assert names == [*(f"component {c}" for c in range(11)), "… and 3 more"]
    assert shortened(entries[:12]) == entries[:12]


def test_panels_of_regions(plane):
    mixture, X, labels = plane
    assert len(plots.plot(mixture).axes) == 1
    for figure in (plots.plot(mixture, X), plots.plot(mixture, X, labels)):
        left, right = figure.axes
        assert left.get_title(loc="left").startswith("Data: 180 rows by ")
        assert right.get_title(loc="left").startswith("Model: ")
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()


def test_panels_of_pairs(mixtures):
    mixture, X, labels = mixtures[5]
    figure = plots.plot_pairs(mixture, X, labels, n_features=3)
    assert len(figure.axes) == 9
    assert sum(axes.axison for axes in figure.axes) == 6
    share = between_share(X, mixture.predict(X))
    best = [f"column {i}" for i in np.argsort(-share)[:3]]
    assert [axes.get_xlabel() for axes in figure.axes[-3:]] == best
    assert len(plots.plot_pairs(mixture, n_features=99).axes) == 25
    components = plots.plot_pairs(mixture, X, of="components", n_features=2)
    assert components.axes[-1].get_xlabel().startswith("principal component 2\n")


def test_pairs_of_many_features_are_components_only_where_these_say_more():
    random = np.random.default_rng(0)
    common = random.normal(size=(120, 2))
    joined = common @ random.normal(size=(2, 9)) + 0.1 * random.normal(size=(120, 9))
    mixture = fitted(joined, n_components=2, max_epochs=0)
    figure = plots.plot(mixture, joined)
    assert "principal components of 9 standardised features" in title(figure)
    figure = plots.plot(mixture, random.normal(size=(120, 9)))
    assert "the 4 of 9 features that separate the clusters best" in title(figure)


def test_a_periodic_feature_separates_a_cluster_at_the_end_of_its_period():
    random = np.random.default_rng(0)
    cluster = np.arange(180) % 3
    hour = (np.array([23.5, 8.0, 15.5])[cluster] + 0.5 * random.normal(size=180)) % 24
    X = np.stack([cluster + 0.7 * random.normal(size=180), hour], axis=1)
    mixture = fitted(X, periodic={1: 24}, max_epochs=0)
    figure = plots.plot(mixture, X, kind="pairs")
    shown = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert shown[0] == "column 1"


def test_between_share():
    X = np.array([[0.0, 0.0, 5.0], [0.0, 1.0, 5.0], [1.0, 0.0, 5.0], [1.0, 1.0, 5.0]])
    np.testing.assert_allclose(between_share(X, np.array([0, 0, 1, 1])), [1.0, 0.0, 0.0])


def test_sizes_are_the_weights_and_the_shares(plane):
    mixture, X, labels = plane
    counts = np.bincount(mixture.predict(X), minlength=3) / len(X)
    bars = [bar.get_width() for bar in plots.plot(mixture, X, kind="sizes").axes[0].patches]
    np.testing.assert_allclose(bars, [*mixture.weights_, *counts])
    bars = plots.plot(mixture, X, labels, kind="sizes").axes[0].patches[3:]
    stacked = np.array([bar.get_width() for bar in bars]).reshape(3, 3)
    np.testing.assert_allclose(stacked.sum(axis=0), counts)
    alone = plots.plot(mixture, kind="sizes").axes[0]
    assert len(alone.patches) == 3
    assert alone.get_legend() is None


def test_sizes_of_very_many_components(plane, monkeypatch):
    monkeypatch.setattr("vmonf.plots.sizes.MOST_COMPONENTS", 2)
    mixture, X, _ = plane
    chosen = X[mixture.predict(X) != 1]
    figure = plots.plot(mixture, chosen, kind="sizes")
    assert title(figure).startswith("Mixing weight of the 2 largest of 3 components above their")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["component 0", "component 2"]


def test_large_tables_are_drawn_in_part(plane):
    mixture, X, labels = plane
    X, labels = np.tile(X, (20, 1)), np.tile(labels, 20)
    figure = plots.plot(mixture, X, labels)
    assert figure.axes[0].get_title(loc="left") == "Data: 3,000 of 3,600 rows by label"
    assert sum(len(part.get_offsets()) for part in figure.axes[0].collections) == MOST_POINTS
    assert "3,000 of 3,600 rows" in title(plots.plot(mixture, X, kind="pairs"))


# ---------------------------------------------------------------- limits


def test_a_far_outlier_does_not_squash_the_picture(mixtures):
    mixture, X, _ = mixtures[2]
    usual = plots.plot(mixture, X).axes[0].get_xlim()
    far = np.concatenate([X, [[1e5, -1e7]]])
    for kind in ("regions", "density"):
        figure = plots.plot(mixture, far, kind=kind)
        assert figure.axes[0].get_xlim() == usual
        said = [axes.get_title(loc="left") for axes in figure.axes] + legend_texts(figure)
        assert any("1 outside the picture" in text for text in said)
    assert "1 outside the picture" in title(plots.plot(mixture, far, kind="pairs"))
    mixture, X, _ = mixtures[1]
    low, high = plots.plot(mixture, np.concatenate([X, [[1e9]]])).axes[0].get_xlim()
    assert high - low < 1e3


def test_rows_far_from_the_mixture(plane):
    mixture, X, _ = plane
    for kind in KINDS_BY_FEATURES[2]:
        figure = plots.plot(mixture, X + 1e4, kind=kind)
        figure.draw_without_rendering()
    assert "100% of the mixture lies outside" in title(plots.plot(mixture, X + 1e4))


def test_a_single_row(plane, mixtures):
    for mixture, X, _ in (plane, mixtures[1], mixtures[5]):
        plots.plot(mixture, X[:1]).draw_without_rendering()
    plots.plot_pairs(mixtures[5][0], mixtures[5][1][:1], of="components").draw_without_rendering()


def test_limits():
    values = np.arange(101.0)
    low, high = limits(values)
    assert -10 < low < 0
    assert 100 < high < 110
    assert limits(np.append(values, 1e9)) == limits(values)
    assert limits(np.append(np.arange(5.0), 1e9))[1] < 10
    assert limits(np.full(4, 3.0)) == (1.5, 4.5)
    low, high = limits(np.append(np.zeros(99), 1.0))
    assert low < 0 < 1 < high


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1e7), (1e12, 1.0), (0.0, 1e-7)])
def test_numbers_at_ticks_are_short_and_distinct(mean, scale):
    X, _ = blobs(2, 2, n_rows=60)
    mixture = fitted(mean + scale * X, n_components=2, max_epochs=0)
    for kind in ("regions", "density", "pairs"):
        figure = plots.plot(mixture, mean + scale * X, kind=kind)
        assert_readable(figure)
        axis = figure.axes[0].xaxis if kind != "pairs" else figure.axes[-1].xaxis
        labels = [text.get_text() for text in axis.get_ticklabels()]
        assert len(set(labels)) == len(labels) >= 3
        assert max(map(len, labels)) <= 5
        # The common factor or summand stands at the end of the axis.
        assert axis.get_offset_text().get_text()


def test_both_axes_have_one_scale():
    X = np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 0.9]
    mixture = fitted(X, n_components=2, max_epochs=0, init="kmeans")
    for figure in (
        plots.plot(mixture, X),
        plots.plot(mixture, X, ["a label with a long name"] * 200),
        plots.plot(mixture, X, kind="density"),
    ):
        figure.draw_without_rendering()
        panels = [axes for axes in figure.axes if axes.get_xlabel() == "column 0"]
        for axes in panels:
            x, y = np.diff(axes.transData.transform([(0.0, 0.0), (1.0, 1.0)]), axis=0)[0]
            assert x == pytest.approx(y, rel=0.005)


# ---------------------------------------------------------------- densities


def test_the_curve_is_the_density(mixtures):
    mixture, X, _ = mixtures[1]
    figure = plots.plot(mixture, X)
    *components, whole = (line.get_xydata() for line in figure.axes[0].get_lines())
    np.testing.assert_allclose(
        whole[:, 1], np.exp(mixture.score_samples(whole[:, :1])), rtol=1e-6, atol=1e-12
    )
    np.testing.assert_allclose(sum(part[:, 1] for part in components), whole[:, 1], rtol=1e-6)
    # The histogram is one as well.
    heights, edges, _ = figure.axes[0].patches[0].get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)


def test_contours_hold_the_shares_they_name(plane):
    mixture, _, _ = plane
    figure = plots.plot(mixture, kind="density")
    filled = figure.axes[0].collections[0]
    at_samples = mixture.score_samples(mixture.sample(4000, random_state=5)[0])
    inside = [(at_samples >= level).mean() for level in filled.levels[:-1]]
    np.testing.assert_allclose(inside, [0.99, 0.9, 0.75, 0.5, 0.25, 0.1], atol=0.04)
    shares = figure.axes[1].get_xticklabels()
    assert [text.get_text() for text in shares] == ["99%", "90%", "75%", "50%", "25%", "10%"]


# ---------------------------------------------------------------- training


def test_training_draws_the_history(plane):
    mixture = plane[0]
    figure = plots.plot(mixture, kind="training")
    assert len(figure.axes) == 2
    lines = {tuple(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert tuple(mixture.history_["log_likelihood"]) in lines
    assert tuple(mixture.history_["elbo"]) in lines
    assert figure.axes[0].get_ylabel() == "nats per row"
    assert "held-out rows" in figure.axes[0].get_title(loc="left")


def test_training_draws_schedules_that_change():
    X, _ = blobs(2, 3)
    mixture = fitted(
        X,
        temperature=(4.0, 1.0),
        training__learning_rate_schedule="cosine",
        validation_fraction=0,
    )
    figure = plots.plot(mixture, kind="training")
    assert [axes.get_title(loc="left") for axes in figure.axes[2:]] == [
        "Temperature of the posterior",
        "Learning rate",
    ]
    assert "training rows" in figure.axes[0].get_title(loc="left")
    assert title(figure).startswith("No rows were held out")
    assert_readable(figure)


def test_training_says_what_was_kept(plane):
    mixture = pickle.loads(pickle.dumps(plane[0]))
    mixture.verdict_ = Verdict("flows", "gain", 0.5, 0.1, -2.0, 2, 3)
    figure = plots.plot(mixture, kind="training")
    assert "gained 0.5000 ± 0.1000 nats per row" in title(figure)
    assert "epoch 2 of 3 was kept" in title(figure)
    assert "epoch 2, kept" in legend_texts(figure, 0)
    mixture.verdict_ = Verdict("flows", "gain", 0.5, 0.1, -2.0, 0, 3)
    figure = plots.plot(mixture, kind="training")
    assert "none improved on the weights that training began with" in title(figure)
    assert "epoch 2, kept" not in legend_texts(figure, 0)
    for gain, words in ((0.15, "perhaps by chance"), (0.0, "nothing"), (-0.5, "lost 0.5000 ± 0.1")):
        mixture.verdict_ = Verdict("gaussian mixture", "no gain", gain, 0.1, -2.0, 0, 3)
        sentence = title(plots.plot(mixture, kind="training"))
        assert words in sentence
        assert sentence.endswith(": the Gaussian mixture was kept.")


def test_training_shows_the_likelihood_although_the_elbo_falls_without_end():
    log_likelihood = np.linspace(-1.0, -3.0, 40)
    low, high = _likelihood_limits(log_likelihood, np.array([-9000.0, 0.0]))
    assert -8 < low < -3
    assert 0 < high < 1
    # Nor do the first epochs count for much.
    low, high = _likelihood_limits(np.append(-500.0, log_likelihood), log_likelihood)
    assert -5 < low < -3
    assert _likelihood_limits(np.ones(1), np.ones(2)) == (0.5, 1.5)


def test_training_of_a_single_epoch(plane):
    mixture = pickle.loads(pickle.dumps(plane[0]))
    mixture.history_ = {name: values[:1] for name, values in mixture.history_.items()}
    assert_readable(plots.plot(mixture, kind="training"))


def test_training_without_history():
    X, _ = blobs(2, 3, n_rows=60)
    figure = plots.plot(fitted(X, n_components=1, max_epochs=0), kind="training")
    assert title(figure).startswith("The Gaussian mixture was kept, because no epoch was trained")
    assert len(figure.axes) == 1
    assert not figure.axes[0].axison
    figure.draw_without_rendering()


def test_a_mixture_from_a_file(named, tmp_path):
    mixture, table, labels = named
    mixture.save(tmp_path / "mixture.vmonf")
    loaded = FlowMixture.load(tmp_path / "mixture.vmonf")
    for kind in KINDS_BY_FEATURES[2]:
        one, other = (plots.plot(m, table, labels, kind=kind) for m in (mixture, loaded))
        assert title(one) == title(other)
        assert legend_colours(one) == legend_colours(other)
