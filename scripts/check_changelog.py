"""The newest section of CHANGELOG.md is the version being built, in the form of Keep a Changelog."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def problems() -> list[str]:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d|unreleased))?$", changelog, re.M)
    found = [
        f"unknown heading: {kind}" for kind in re.findall(r"^### (.+)$", changelog, re.M) if kind not in KINDS
    ]
    newest = next((name for name, _ in sections if name != "Unreleased"), None)
    if version is None or newest != version.group(1):
        found.append(f"newest section is {newest}, pyproject.toml says {version and version.group(1)}")
    return found


if __name__ == "__main__":
    found = problems()
    print("\n".join(found) or "CHANGELOG.md: right")
    sys.exit(bool(found))
