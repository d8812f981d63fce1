"""The layers of the README: a module imports only from its left; torch and optuna stay where they are."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hrsearch

PACKAGE = Path(hrsearch.__file__).parent
LAYERS = [
    {"errors"}, {"plugins"}, {"registry", "arch", "task"}, {"document", "expression", "grammar"}, {"objective"},
    {"template"}, {"space"},
    {"front", "ranking", "runner", "candidate"}, {"nets"}, {"build"}, {"released"}, {"cost", "proxy"},
    {"table", "survey", "verify"}, {"evaluate"}, {"storage"}, {"study"}, {"search", "pick", "targets", "trust"},
    {"planning", "compare", "train", "retarget", "retrain"}, {"report", "export"}, {"api"},
    {"progress", "schema", "doctor"}, {"cli"}, {"__main__"},
]  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
TORCH = {"nets", "build", "released", "cost", "proxy", "evaluate", "export", "train", "retrain", "planning", "doctor"}
OPTUNA = {"search", "storage", "study"}


def imports() -> Iterator[tuple[str, str]]:
    """Every import in the package: (layer of the file, module), top of the file or not."""
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                if node.module == "hrsearch":
                    names = [f"hrsearch.{alias.name}" for alias in node.names]
            yield from ((layer, name) for name in names)


def test_a_module_imports_only_from_its_left() -> None:
    wrong = []
    for layer, name in imports():
        parts = name.split(".")
        if parts[0] == "hrsearch" and len(parts) > 1 and layer != "__init__" and parts[1] != layer:
            wrong += [f"{layer} imports {name}"] if RANK[parts[1]] >= RANK[layer] else []
    assert not wrong


def test_torch_and_optuna_stay_in_their_layers() -> None:
    for layer, name in imports():
        if name.split(".")[0] in ("torch", "fvcore", "safetensors"):
            assert layer in TORCH, f"{layer} imports {name}"
        if name.split(".")[0] == "optuna":
            assert layer in OPTUNA, f"{layer} imports {name}"


def test_help_loads_no_torch() -> None:
    code = "import sys; from hrsearch.cli import main; main(['--help'])"
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "run" in loaded.stdout
    assert not [line for line in loaded.stderr.splitlines() if line.endswith((" torch", " optuna"))]
