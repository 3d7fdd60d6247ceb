"""Who may import whom: the table of docs/architecture.md, held against the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import aicn

ROOT = Path(aicn.__file__).parent
PLAIN = {"domain", "errors"}
FITTING = PLAIN | {"wire", "config.schema"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors", "domain"},
    "domain": {"errors"},
    "wire": PLAIN,
    "services": PLAIN | {"wire", "config.schema"},
    "p2p": FITTING | {"services.ports"},
    "backends": FITTING | {"services.ports"},
    "storage": FITTING | {"services.ports"},
    "runtime": FITTING | {"services.ports"},
    "hardware": PLAIN | {"config.schema", "services.ports"},
    "node": {"services", "config.schema"},
    "logs": {"config.schema"},
    "gateway": PLAIN | {"node", "wire", "config.schema", "services.ports"},
    "compose": {"*"},
    "dev": FITTING | {"backends", "gateway.server"},
    "cli": {"compose", "dev", "config", "wire", "errors"},
}
FILES = sorted(path for path in ROOT.rglob("*.py") if "pb" not in path.parts)


def imported(path: Path) -> set[str]:
    """Dotted names below aicn that the file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} if module.count(".") < 1 else {module}
    return {name.removeprefix("aicn.") for name in names if name.startswith("aicn.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if package in ("__init__", "__main__"):
        return
    allowed = ALLOWED[package] | {package}
    for name in imported(path) - {"__version__"}:
        if package == "compose":
            assert not name.startswith("cli"), f"compose imports {name}"
            continue
        fits = any(name == one or name.startswith(f"{one}.") for one in allowed)
        assert fits, f"{path.relative_to(ROOT)} imports aicn.{name}; {package} may import {sorted(allowed)}"


def test_the_table_names_every_package() -> None:
    packages = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    assert packages <= set(ALLOWED)
