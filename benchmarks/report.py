"""Is the report of many candidates usable: how long to write, how large, and how quick in a browser.

    PYTHONPATH=tests python benchmarks/report.py --trials 5000

Takes the tests' made-up study (so many trained candidates, as many that a rung let go) and their headless Chromium.
Milliseconds in the page are those of its own clock, from the start of its loading, or of a slider's step, to the frame
after the front was drawn.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from browser import chromium
from example_study import example_record

from hrsearch.report import write_report

# Runs before the page's own script: notes when the first figure has its points, after the frame that shows them.
WATCH = """
const seen = new MutationObserver(() => {
  if (!document.querySelector("#figure-front svg[data-points]")) return;
  seen.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.firstFigure = performance.now(); }));
});
seen.observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-points"] });
"""
# Every twentieth place of the slider that limits the first cost.
STEPS = """
(async () => {
  const found = [];
  const label = [...document.querySelectorAll("#controls label")].find((one) => one.textContent.includes("at most"));
  const input = label.querySelector("input");
  for (let place = Number(input.max); place > 0; place -= 20) {
    const begin = performance.now();
    input.value = place;
    input.dispatchEvent(new Event("input"));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    found.push(performance.now() - begin);
  }
  return found;
})()
"""
PANEL = "(async () => { const begin = performance.now(); await openDetails(1); return performance.now() - begin; })()"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000, help="trained candidates")
    parser.add_argument("--loads", type=int, default=5, help="how often the page is opened")
    options = parser.parse_args()
    record = example_record(options.trials, rungs=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a browser that has ended may still write
        wall, cpu = time.perf_counter(), time.process_time()
        path = write_report(record, Path(folder) / "report.html")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{len(record.trials):,} candidates, {options.trials:,} of them trained; load {os.getloadavg()[0]:.1f}")
        print(f"written in {wall:.1f} s ({cpu:.1f} CPU-seconds): {path.stat().st_size / 1e6:.2f} MB")
        loads = [_opened(path, Path(folder) / f"profile{load}") for load in range(options.loads)]
    for name in loads[0]:
        values = [load[name] for load in loads]
        print(f"{name}: {statistics.median(values):.0f} ms in the median ({min(values):.0f} to {max(values):.0f})")


def _opened(path: Path, profile: Path) -> dict[str, float]:
    """Milliseconds to the first figure, of a slider's step in the median, and to the panel of a candidate."""
    with chromium(profile) as page:
        page.send("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        page.open(path)
        page.until("window.firstFigure !== undefined")
        return {
            "first figure": float(page.evaluate("window.firstFigure")),
            "step of a slider": statistics.median(page.evaluate(STEPS)),
            "panel, first time": float(page.evaluate(PANEL)),
        }


if __name__ == "__main__":
    main()
