"""docs/threats.md, and the table of faults in docs/operating.md, name only what exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAULTS = re.findall(r"`(test_\w+)::(\w+)`", (ROOT / "docs" / "operating.md").read_text())
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| `(\w+)::(\w+)` \|$", (ROOT / "docs" / "threats.md").read_text(), re.MULTILINE)


def test_there_are_enough_of_them():
    assert len(ROWS) >= 90
    assert len({attack for attack, *_ in ROWS}) == len(ROWS)


def test_every_test_that_is_named_exists():
    assert len(FAULTS) > 30
    for module, name in [*FAULTS, *(row[2:] for row in ROWS)]:
        files = list((ROOT / "tests").glob(f"**/{module}.py"))
        assert any(f"def {name}(" in path.read_text() for path in files), f"{module}::{name}"


def test_every_line_that_is_named_exists():
    for _, line, _, _ in ROWS:
        file, _, name = line.replace("`", "").partition(" ")
        path = ROOT / "magicauth" / file if (ROOT / "magicauth" / file).exists() else ROOT / file
        assert re.search(rf"(def|class) {name}\b", path.read_text()) if name else path.exists(), line
