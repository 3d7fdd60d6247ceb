"""What docs/ says about errors and protocols, against the code. (Configuration, routes and commands have tests of their own.)"""

from __future__ import annotations

import re
from pathlib import Path

from aicn import errors
from aicn.errors import AicnError, ConfigError, Fault, StartupError
from aicn.wire import control, inference

DOCS = Path(__file__).parents[2] / "docs"


def test_every_failure_code_is_documented_with_its_fault() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", (DOCS / "wire.md").read_text(), re.MULTILINE))
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, AicnError)]
    told = {cls for cls in classes if cls not in (ConfigError, StartupError)}  # those two end the program
    assert rows == {cls.code: "no" if cls.fault is Fault.CALLER else "yes" for cls in told}


def test_every_protocol_is_documented() -> None:
    text = (DOCS / "wire.md").read_text()
    for protocol in (inference.PROTOCOL, control.PROTOCOL):
        assert f"## `{protocol}`" in text


def test_the_layout_names_every_module_of_the_top_level() -> None:
    text = (DOCS / "architecture.md").read_text()
    top = Path(errors.__file__).parent
    for entry in top.iterdir():
        if entry.suffix == ".py" and not entry.stem.startswith("__"):
            assert f"  {entry.name} " in text, entry.name
        elif entry.is_dir() and entry.name != "__pycache__":
            assert f"  {entry.name}/ " in text, entry.name


def test_corrections_of_libp2p_are_where_the_page_says() -> None:
    text = (DOCS / "upstream.md").read_text()
    p2p = Path(errors.__file__).parent / "p2p"
    ours = [
        name
        for row in re.findall(r"^\|.*\| ([^|]*) \|$", text, re.MULTILINE)[2:]
        for name in re.findall(r"`([\w/.]+)`", row)
    ]
    assert ours
    for name in ours:
        assert (p2p / name).exists(), name
    for fix in (p2p / "fixes").glob("*.py"):
        assert fix.stem == "patch" or f"`fixes/{fix.name}`" in text, fix.name
