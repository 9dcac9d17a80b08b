"""Write a model of the current format, which every later version must read, and its scores.

    python tests/kept_models/make.py

Run it once for each format version, and never again: the files that are there stay.
"""

import json
from pathlib import Path

import numpy as np

from vmonf import NSF, FlowMixture, PosteriorMLP, RealNVP
from vmonf.storage import FORMAT_VERSION

FOLDER = Path(__file__).parent
PARAMETERS = {
    "nsf": {
        "flow": NSF(n_layers=2, n_bins=3, hidden=(5,)),
        "bounds": {0: (-30, None)},
        "periodic": {1: 50.0},
    },
    "realnvp": {
        "flow": RealNVP(n_layers=4, hidden=(5,), mixing="lu"),
        "precision": "single",
        "missing": "marginal",
    },
}


def main():
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(80, 2)), 5 + random.normal(size=(80, 2)) ** 3])
    labels = np.where(random.random(160) < 0.2, np.where(np.arange(160) < 80, "low", "high"), "")
    for name, parameters in PARAMETERS.items():
        path = FOLDER / f"version-{FORMAT_VERSION}-{name}.vmonf"
        if path.exists():
            raise SystemExit(f"{path} is kept, and not written again.")
        mixture = FlowMixture(
            3,
            **parameters,
            base=2,
            posterior=PosteriorMLP((5,)),
            max_epochs=4,
            validation_fraction=0,
            random_state=0,
        ).fit(X, labels)
        mixture.save(path)
        rows = X[::16]
        kept = {
            "rows": rows.tolist(),
            "log_prob": mixture.score_samples(rows).tolist(),
            "elbo": mixture.elbo(rows).tolist(),
            "clusters": mixture.predict(rows).tolist(),
            "weights": mixture.weights_.tolist(),
        }
        path.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
