"""The notebook in reports/ runs from its first cell to its last, on a tiny space."""

import json
from pathlib import Path

import pandas as pd
import pytest
from test_readme import RUNNER, SPACE

NOTEBOOK = Path(__file__).parents[1] / "reports" / "api.ipynb"


@pytest.mark.long
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in their order, as a kernel runs them; the search alone is made small."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    (tmp_path / "quick.yaml").write_text(RUNNER)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for shipped, small in (('"hrvit"', '"tiny.yaml"'), ('"smoke"', '"quick.yaml"'), ("BUDGET = 8", "BUDGET = 4")):
        assert shipped in sources[0]
        sources[0] = sources[0].replace(shipped, small)
    names: dict[str, object] = {}
    for number, source in enumerate(sources):
        exec(compile(source, f"cell {number}", "exec"), names)
    study = names["study"]
    assert isinstance(study.trials, pd.DataFrame)  # type: ignore[attr-defined]
    assert len(study.trials) >= 4  # type: ignore[attr-defined]
    assert (tmp_path / "winner" / "standalone" / "model.py").is_file() or list((tmp_path / "winner").glob("*model.py"))


def test_the_notebook_shows_what_came_out() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] for cell in cells[2:] if cell["cell_type"] == "code")
    assert not any(out["output_type"] == "error" for cell in cells for out in cell.get("outputs", ()))
