"""`vmonf info`: show the contents of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vmonf.cli.common import (
    Json,
    Model,
    console,
    feature_names,
    print_json,
)

if TYPE_CHECKING:
    from rich.padding import Padding

    from vmonf import FlowMixture
    from vmonf.start import Agreement, Number


def info(model: Model, as_json: Json = False) -> None:
    """Show the contents of a model file.

    These are the mixture, the training result and every setting of the fit.
    """
    import msgspec

    from vmonf import FlowMixture
    from vmonf.model_file import Document
    from vmonf.storage import FORMAT_VERSION, read_model

    document, _ = read_model(model, Document)
    mixture = FlowMixture.load(model, device="cpu")
    parameters = mixture.model_.parameters()
    sections: dict[str, dict[str, Any]] = {
        "file": {
            "path": str(model),
            "bytes": model.stat().st_size,
            "format_version": FORMAT_VERSION,
        },
        "mixture": {
            "components": len(mixture.classes_),
            "classes": mixture.classes_.tolist(),
            "weights": mixture.weights_.tolist(),
            "features": len(feature_names(mixture)),
            "feature_names": document.feature_names,
            "parameters": sum(parameter.numel() for parameter in parameters),
        },
        "training": {
            "held_out_log_likelihood": mixture.held_out_log_likelihood_,
            "verdict": str(mixture.verdict_),
            "gain": mixture.gain_,
            "gain_error": mixture.gain_error_,
            "epochs": mixture.n_epochs_,
            "best_epoch": mixture.best_epoch_,
            "converged": mixture.converged_,
            "seconds": mixture.history_["seconds"][-1] if mixture.n_epochs_ else 0.0,
            "shrinkage": mixture.shrinkage_,
        },
        "start": _of_start(mixture.start_),
        "number": _of_number(mixture.number_),
        # Read from the file, because the loaded model's device can differ from the fit's.
        "settings": msgspec.to_builtins(document.parameters) | _parts_of(mixture),
    }
    if as_json:
        print_json(sections)
        return
    out = console()
    for title, values in sections.items():
        out.print(title.capitalize(), style="bold")
        out.print(_two_columns(values))


def _parts_of(mixture: FlowMixture) -> dict[str, Any]:
    """The settings of the parts of a mixture, also where a name or None stands for them."""
    from vmonf.flows import family_of
    from vmonf.model import posterior_of
    from vmonf.training import Training

    parts = {
        "flow": family_of(mixture.flow),
        "posterior": posterior_of(mixture.posterior),
        "training": mixture.training or Training(),
    }
    return {
        name: {"type": type(part).__name__, **part.get_params()} for name, part in parts.items()
    }


def _of_start(start: Agreement) -> dict[str, Any]:
    """The start and, if it was chosen by agreement, the agreement of each two candidates."""
    shown: dict[str, Any] = {"summary": str(start), "chosen": start.chosen}
    if start.names:
        shown["metric"] = start.metric
        shown["agreement_with_others"] = start.with_others
    for name, row in zip(start.names, start.table, strict=True):
        shown[f"agreement_of_{name}"] = dict(zip(start.names, row, strict=True))
    return shown


def _of_number(number: Number) -> dict[str, Any]:
    """The number of components and, if it was searched for, the numbers for each K."""
    shown: dict[str, Any] = {
        "summary": str(number),
        "chosen": number.chosen,
        "reason": number.reason,
    }
    if number.candidates:
        shown["metric"] = number.metric
        shown["valley"] = number.valley
        shown["valley_error"] = number.valley_error
    for i, k in enumerate(number.candidates):
        shown[f"with_{k}_components"] = {
            "agreement": number.agreement[i],
            "information": number.information[i],
            "separation": number.separation[i],
        }
    return shown


def _two_columns(values: Mapping[str, Any]) -> Padding:
    from rich.padding import Padding
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row(name, _shown(value))
    return Padding(table, (0, 0, 0, 2))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping) and "type" in value:
        inner = (f"{name}={_shown(entry)}" for name, entry in value.items() if name != "type")
        return f"{value['type']}({', '.join(inner)})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(entry) for entry in value)
    return str(value)
