"""The report in a real Chromium: figures are drawn, nothing is logged as an error, nothing is fetched."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from example_study import example_record

from hrsearch.report import FIGURES, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

# Runs before the page's scripts, and writes what it saw into the document.
PROBE = """<script>
const seen = {errors: []};
for (const kind of ["error", "warn"]) console[kind] = (...words) => seen.errors.push(words.join(" "));
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => seen.errors.push(event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  const figures = [...document.querySelectorAll("[data-figure]")];
  seen.points = Object.fromEntries(figures.map((one) => [one.dataset.figure, one.querySelectorAll(".point").length]));
  seen.fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  const place = document.createElement("pre");
  place.id = "seen";
  place.textContent = JSON.stringify(seen);
  document.body.append(place);
}, 500));
</script>"""


def visit(page: Path, profile: Path, width: int = 1280) -> dict[str, Any]:
    """Open the page in Chromium and return what the probe saw."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")
    command = [str(CHROMIUM), *SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},900"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=10000", "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert found, "the probe did not run"
    seen: dict[str, Any] = json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    return seen


@needs_chromium
@pytest.mark.parametrize("width", [1280, 500])
def test_figures_are_drawn_without_errors_or_requests(tmp_path: Path, width: int) -> None:
    record = example_record(40, refused=3, failed=2, running=1)
    seen = visit(write_report(record, tmp_path / "report.html"), tmp_path / "profile", width)
    assert seen["errors"] == []
    assert seen["fetched"] == []
    assert seen["wide"] <= 0
    judged_by_few = {"score_against_params", "score_against_memory", "score_against_training_memory"}
    assert set(seen["points"]) == set(FIGURES) - judged_by_few
    assert seen["points"]["score_against_flops"] >= len(record.trained)
    assert min(seen["points"].values()) > 0


@needs_chromium
def test_empty_study_opens_without_errors(tmp_path: Path) -> None:
    seen = visit(write_report(example_record(0), tmp_path / "report.html"), tmp_path / "profile")
    assert (seen["errors"], seen["fetched"], seen["points"]) == ([], [], {})
