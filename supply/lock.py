"""Write the files that pip would install here, with their hashes, as a file of requirements.

    python supply/lock.py constraints.txt supply/locked.txt

pip resolves what the tests need, and the build of vmonf, with these constraints, and reports the
hash of each file. Nothing is installed. Each Python and platform has files of its own: hashes of
the same version that another run wrote are kept, so that runs on several add up. `pip install
--require-hashes -r` then takes these files alone, from whichever index pip is configured with.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: What the build backend asks for when it makes an editable install.
BUILD = ("editables",)

Hashes = dict[str, set[str]]


def resolved(constraints: Path) -> Hashes:
    """Return the hashes of the files that pip would install, by name and version."""
    with open(ROOT / "pyproject.toml", "rb") as stream:
        backend = tomllib.load(stream)["build-system"]["requires"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--quiet", "--report", "-", "-c", constraints, f"{ROOT}[test]", *backend, *BUILD]
    report = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: Hashes = {}
    for item in json.loads(report)["install"]:
        archive = item["download_info"].get("archive_info")
        if archive is None:  # vmonf itself, from its folder
            continue
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        # Builds of one version, such as torch's for the CPU, have names of their own after a "+".
        version = item["metadata"]["version"].split("+")[0]
        found[f"{name}=={version}"] = {archive["hashes"]["sha256"]}
    return found


def read(path: Path) -> tuple[list[str], Hashes]:
    """Return for which platforms a file was written, and its hashes."""
    if not path.exists():
        return [], {}
    text = path.read_text()
    platforms = re.findall(r"^#   (.*)$", text, flags=re.MULTILINE)
    blocks = re.findall(r"^(\S+==\S+)((?: \\\n    --hash=sha256:\w+)+)$", text, flags=re.MULTILINE)
    return platforms, {name: set(re.findall(r"sha256:(\w+)", block)) for name, block in blocks}


def text_of(constraints: str, platforms: Iterable[str], hashes: Mapping[str, set[str]]) -> str:
    """Return the contents of a file of requirements with hashes."""
    lines = [
        f"# Written by `make hashes`: the versions of {constraints}, with hashes of the files for",
        *(f"#   {each}" for each in platforms),
        "# Another platform, or another build of torch, has other files: `make hashes` adds them.",
        "# What the extras `bench` and `tables` need is not in here.",
    ]
    for name in sorted(hashes):
        digests = [f"    --hash=sha256:{digest}" for digest in sorted(hashes[name])]
        lines.append(" \\\n".join([name, *digests]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the file."""
    constraints, path = map(Path, sys.argv[1:])
    platforms, before = read(path)
    here = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}, "
    here += f"{platform.system()}, {platform.machine()}"
    found = resolved(constraints)
    for name, hashes in found.items():
        hashes |= before.get(name, set())
    # Packages that other platforms alone need stay; other versions of those found here do not.
    names = {name.split("==")[0] for name in found}
    found |= {name: hashes for name, hashes in before.items() if name.split("==")[0] not in names}
    path.write_text(text_of(constraints.name, sorted({*platforms, here}), found))


if __name__ == "__main__":
    main()
