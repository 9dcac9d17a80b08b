"""List the licences of all packages that vmonf needs, and refuse those of the GPL and the AGPL.

    python supply/licences.py

Reads the metadata of installed packages: the licence expression, or else the classifiers, or else
the licence field. Follows the requirements of vmonf with all its extras. Writes supply/licences.md,
and fails if a licence is refused or not told. What a package itself bundles is not looked into.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).with_name("licences.md")
REFUSED = re.compile(r"\bA?GPL|Affero|GNU General Public", flags=re.IGNORECASE)


def needed(package: str, extras: Iterable[str]) -> dict[str, set[str]]:
    """Return all packages that one needs, itself included, each with the extras that are needed."""
    found: dict[str, set[str]] = {}
    pending = [(package, frozenset(extras))]
    while pending:
        name, wanted = pending.pop()
        if name in found and wanted <= found[name]:
            continue
        found.setdefault(name, set()).update(wanted)
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            environments = [{"extra": extra} for extra in ("", *wanted)]
            if marker is None or any(marker.evaluate(each) for each in environments):
                other = re.sub(r"[-_.]+", "-", requirement.name).lower()
                pending.append((other, frozenset(requirement.extras)))
    return found


def licence(metadata: PackageMetadata | Mapping[str, str]) -> str:
    """Return what the metadata say of the licence, or an empty text."""
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    get_all = getattr(metadata, "get_all", lambda name: [])
    classifiers = [each for each in get_all("Classifier") or [] if each.startswith("License ::")]
    names = [each.split(" :: ")[-1] for each in classifiers if each != "License :: OSI Approved"]
    if names:
        return ", ".join(names)
    field = str(metadata.get("License") or "").strip()
    return field.splitlines()[0].strip() if field else ""


def is_refused(text: str) -> bool:
    """Whether there is no licence, or none without the GPL or the AGPL can be chosen."""
    return not text or all(REFUSED.search(choice) for choice in re.split(r"\s+OR\s+", text))


def table() -> tuple[list[str], list[str]]:
    """Return the lines of a table, and the names of the packages whose licence is refused."""
    extras = distribution("vmonf").metadata.get_all("Provides-Extra") or []
    lines, refused, missing = ["| package | version | licence |", "|---|---|---|"], [], []
    for name in sorted(needed("vmonf", extras)):
        try:
            metadata = distribution(name).metadata
        except PackageNotFoundError:
            missing.append(name)
            continue
        text = licence(metadata)
        lines.append(f"| {name} | {metadata['Version']} | {text} |")
        if is_refused(text):
            refused.append(f"{name}: {text or 'no licence is told'}")
    if missing:
        lines += ["", f"Not installed, and so not looked at: {', '.join(missing)}."]
    return lines, refused


def main() -> None:
    """Write the page, and fail if a licence is refused."""
    lines, refused = table()
    head = "Licences of all that vmonf needs, with all extras, as the packages tell them."
    text = "\n".join([f"{head} Written by `make licences`.", "", *lines, ""])
    PAGE.write_text(text, encoding="utf-8")
    if refused:
        sys.exit(f"Refused: {'; '.join(refused)}.")


if __name__ == "__main__":
    main()
