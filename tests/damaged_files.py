"""Damaged copies of models and checkpoints: none may crash or score otherwise.

    python tests/damaged_files.py --copies 2000

makes models of all families and a checkpoint, damages copies of them, reads each copy and prints
what came of it. It fails if a copy did anything but raise ModelFileError.

A forged copy has a valid checksum and a header, or tensors, that someone has changed. It may load,
for example if the seed was changed, but then it must score rows.
"""

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from vmonf import MAF, NSF, FlowMixture, PosteriorMLP, RealNVP
from vmonf.checkpoint import Checkpoint
from vmonf.model import build_model
from vmonf.rows import unlabelled_rows
from vmonf.storage import NO_CHECKSUM, ModelFileError, with_checksum
from vmonf.training import TemperatureSchedule, Training, TrainingLoop, bound_objective

ROWS = np.random.default_rng(1).normal(size=(60, 2)) + np.arange(60)[:, None] % 2 * 4
LIMIT_SECONDS = 1.0
LIMIT_BYTES = 100e6

NARROW = {"hidden": (6,)}
FITS = {
    "realnvp": {"flow": RealNVP(n_layers=2, **NARROW), "base": 2, "init": "kmeans"},
    "lu": {"flow": RealNVP(n_layers=4, mixing="lu", **NARROW), "weights": "uniform"},
    "maf": {"flow": MAF(n_layers=2, **NARROW), "init": [[0.0, 0.0], [4.0, 4.0]]},
    "nsf": {"flow": NSF(n_layers=2, n_bins=3, **NARROW), "weights": (0.4, 0.6)},
    "nsf-ar": {
        "flow": NSF(n_layers=2, n_bins=3, autoregressive=True, **NARROW),
        "temperature": (2, 1),
    },
}


# ------------------------------------------------------------------ whole files


def write_models(folder):
    """A model of each family, and the scores of `ROWS`: a dictionary from path to scores."""
    scores = {}
    for seed, (name, settings) in enumerate(FITS.items()):
        start = {"init": "kmeans"} | settings
        mixture = FlowMixture(
            2,
            posterior=PosteriorMLP((6,)),
            max_epochs=2,
            validation_fraction=0,
            training=Training(pretrain_epochs=0, refine_posterior=False),
            random_state=seed,
            **start,
        )
        mixture.fit(ROWS, np.where(np.arange(60) < 4, np.arange(60) % 2, -1) if seed else None)
        path = folder / f"{name}.vmonf"
        mixture.save(path)
        scores[path] = mixture.score_samples(ROWS)
    return scores


def new_loop():
    """A fresh training of a small model, always the same."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(
        RealNVP(n_layers=2, hidden=(6,)), PosteriorMLP((6,)), 2, 2, generator=generator
    )
    rows = unlabelled_rows(torch.from_numpy(ROWS))
    return TrainingLoop(
        model,
        rows,
        None,
        bound_objective("elbo", None, ()),
        Training(pretrain_epochs=0),
        2,
        TemperatureSchedule(1.0, 1.0, 0),
        generator,
    )


def write_checkpoint(folder):
    """The checkpoint of a training of two epochs, and the state in it."""
    loop = new_loop()
    path = folder / "fit.checkpoint"
    loop.watchers = [Checkpoint(path, "rows and settings")]
    loop.run()
    fresh = new_loop()
    Checkpoint(path, "rows and settings").on_begin(fresh)
    return path, state_of(fresh)


def state_of(loop):
    document, tensors = loop.state()
    return repr(document), {name: value.numpy().tobytes() for name, value in tensors.items()}


# ------------------------------------------------------------------ damage


def flip(content, random):
    """Some bits are flipped."""
    changed = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 20])):
        changed[random.integers(len(changed))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def flip_in_header(content, random):
    """A bit of the header is flipped."""
    changed = bytearray(content)
    n = 8 + int.from_bytes(content[:8], "little")
    changed[random.integers(n)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def cut(content, random):
    """The end is missing, as after a full disk."""
    return content[: random.integers(len(content))]


def lengthen(content, random):
    """Bytes are added."""
    return content + random.bytes(int(random.integers(1, 100)))


def blank(content, random):
    """A block is zero, as after a crash of the machine."""
    start = random.integers(len(content))
    size = int(random.integers(1, 4096))
    return (content[:start] + bytes(size) + content[start + size :])[: len(content)]


def edit_header(content, random):
    """A word of the header is replaced by one of the same length, without a new checksum."""
    n = 8 + int.from_bytes(content[:8], "little")
    header = content[:n]
    digits = [i for i in range(8, n) if header[i : i + 1].isdigit()]
    place = digits[random.integers(len(digits))]
    digit = str((int(header[place : place + 1]) + 1 + random.integers(8)) % 10).encode()
    return header[:place] + digit + content[place + 1 :]


DAMAGES = (flip, flip_in_header, cut, lengthen, blank, edit_header)

VALUES = (
    None, True, False, -1, 0, 1, 2, 3, 7, 10**9, 2**63, 10**30, 0.5, -0.5, 1e308,
    "", "x", "NaN", "Infinity", "float16", "complex64", "os.system", "cuda:7",
    [], {}, [0], [1, 1], ["a", "a"], [[0.0]], [[[[[[1]]]]]], [10**9, 10**9], {"type": "NSF"},
    {"type": "RealNVP", "n_layers": 10**9, "hidden": [1], "mixing": "lu"},
)  # fmt: skip


def places_in(value, place=()):
    """The place of each entry in nested lists and dictionaries."""
    yield place
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value[:3])
        for key, entry in entries:
            yield from places_in(entry, (*place, key))


def changed(document, random):
    """A document with a value replaced, left out, added or wrapped."""
    document = json.loads(json.dumps(document))
    places = [place for place in places_in(document) if place]
    *above, last = places[random.integers(len(places))]
    owner = document
    for key in above:
        owner = owner[key]
    action = random.choice(["replace", "replace", "replace", "leave out", "add", "wrap"])
    if action == "replace":
        owner[last] = VALUES[random.integers(len(VALUES))]
    elif action == "leave out":
        del owner[last]
    elif action == "wrap":
        owner[last] = [owner[last]]
    elif isinstance(owner, dict):
        owner["extra"] = 1
    else:
        owner.append(owner[last])
    return document


def forge(path, change):
    """The bytes of a file whose header and tensors a function has changed, with a valid checksum.

    The function gets the header (format, version, document as values) and the tensors, and changes
    them in place. It may also put a text in place of the document.
    """
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["document"] = json.loads(header["document"])
    change(header, tensors)
    if not isinstance(header["document"], str):
        header["document"] = json.dumps(header["document"])
    header["checksum"] = NO_CHECKSUM
    return with_checksum(save({n: t.contiguous() for n, t in tensors.items()}, header))


def forge_document(path, random):
    """The bytes of a file with a changed document."""

    def change(header, tensors):
        header["document"] = changed(header["document"], random)

    return forge(path, change)


def forge_tensor(path, random):
    """The bytes of a file with a tensor that is missing, longer, of another type or not finite."""

    def change(header, tensors):
        name = sorted(tensors)[random.integers(len(tensors))]
        value = tensors.pop(name)
        action = random.choice(["leave out", "rename", "double", "cast", "nan", "zero", "negative"])
        if action == "rename":
            tensors[f"{name}x"] = value
        elif action == "double":
            tensors[name] = torch.cat([value.reshape(-1)] * 2)
        elif action == "cast":
            tensors[name] = value.to(
                [torch.float16, torch.float64, torch.int64][random.integers(3)]
            )
        elif action == "nan" and value.is_floating_point():
            tensors[name] = torch.full_like(value, float("nan"))
        elif action in ("zero", "nan"):
            tensors[name] = torch.zeros_like(value)
        elif action == "negative":
            tensors[name] = -value

    return forge(path, change)


# ------------------------------------------------------------------ what comes of a copy


def outcome(read, expected, forged):
    """ "refused", "as whole", "loaded" (only if forged), or a fault that names an exception."""
    began = time.process_time()
    try:
        found = read()
    except ModelFileError as error:
        result = "refused"
        if len(str(error).splitlines()) != 1 or len(str(error)) > 700:
            result = f"fault: not one short sentence: {str(error)[:200]}"
    except Exception as error:
        result = f"fault: {type(error).__name__}: {error}"
    else:
        same = found == expected if isinstance(found, tuple) else np.array_equal(found, expected)
        result = "as whole" if same else "loaded" if forged else "fault: it scores otherwise"
    if time.process_time() - began > LIMIT_SECONDS:
        result = f"fault: {time.process_time() - began:.1f} s"
    return result


def read_copy(path):
    return FlowMixture.load(path, device="cpu").score_samples(ROWS)


def resume_copy(path):
    loop = new_loop()
    Checkpoint(path, "rows and settings").on_begin(loop)
    return state_of(loop)


def count_outcomes(n_copies, folder, seed=0):
    """Damage copies of each file in each way, in turn, and count what comes of them."""
    random = np.random.default_rng(seed)
    whole = {path: (read_copy, scores) for path, scores in write_models(folder).items()}
    checkpoint, state = write_checkpoint(folder)
    whole[checkpoint] = (resume_copy, state)
    copy = folder / "copy"
    counts = Counter()
    for i in range(n_copies):
        path = list(whole)[i % len(whole)]
        kinds = (*DAMAGES, forge_document, forge_tensor)
        kind = kinds[i // len(whole) % len(kinds)]
        forged = kind in (forge_document, forge_tensor)
        content = kind(path if forged else path.read_bytes(), random)
        copy.write_bytes(content)
        read, expected = whole[path]
        what = outcome(lambda: read(copy), expected, forged)  # noqa: B023 - called at once
        if what == "as whole" and not forged and content != path.read_bytes():
            what = "fault: it is changed, and was not refused"
        counts["forged" if forged else "damaged", what] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count_outcomes(48, Path(folder))  # whatever is imported late is in memory then
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        counts = count_outcomes(arguments.copies, Path(folder), arguments.seed)
        seconds = time.process_time() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    for (kind, what), count in sorted(counts.items()):
        print(f"{count:6d}  {kind:8s} {what}")
    print(f"{arguments.copies} copies in {seconds:.0f} s; memory grew by {grown / 1e6:.0f} MB.")
    faults = any(what.startswith("fault") for _, what in counts)
    raise SystemExit(1 if faults or grown > LIMIT_BYTES else 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
