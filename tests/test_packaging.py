"""The wheel works without a checkout: spaces, runners and networks travel in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_carries_every_shipped_yaml(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        carried = set(wheel.namelist())
        wheel.extractall(tmp_path / "installed")
    shipped = [
        path.relative_to(ROOT)
        for folder in ("spaces", "runners", "recipes")
        for path in (ROOT / folder).rglob("*.yaml")
    ]
    assert len(shipped) > 5
    assert not [path for path in shipped if f"hrsearch/{path.as_posix()}" not in carried]
    code = "import hrsearch; print(hrsearch.load_space('hrvit').path); hrsearch.load_runner('laptop')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "installed") in done.stdout
