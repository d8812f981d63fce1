"""The report in a real Chromium: it draws, answers to mouse and keys, logs no error, fetches nothing, is accessible."""

import dataclasses
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, chromium
from example_study import HRVIT_B1, example_arch, example_record

from hrsearch.arch import Arch
from hrsearch.compare import compared
from hrsearch.grammar import yaml_of
from hrsearch.report import FIGURES, write_report
from hrsearch.report.comparison import write_comparison
from hrsearch.study import Record
from hrsearch.targets import key_of, on_target

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
RECORD = example_record(40, refused=3, failed=2, running=1, rungs=True)
CUT = "[...document.querySelectorAll('.figure')].filter((one) => one.scrollWidth > one.clientWidth).map(({id}) => id)"
AXE = "axe-core@4.14.1"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests here."""
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with everything in it."""
    return write_report(RECORD, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def quiet(tab: Page) -> Iterator[Page]:
    """The browser; whatever a test does in it may log no error and ask for no address but the page's own."""
    tab.errors.clear()
    tab.asked.clear()
    yield tab
    assert tab.errors == []
    assert {address.split(":")[0] for address in tab.asked} <= {"file"}
    assert len(tab.asked) <= 1


def middle_of(tab: Page, selector: str) -> tuple[float, float]:
    """Where an element is in the window, after scrolling to it."""
    box: dict[str, float] = tab.evaluate(
        f"(() => {{ const found = document.querySelector({selector!r}); found.scrollIntoView({{block: 'center'}});"
        "const {left, top, width, height} = found.getBoundingClientRect(); return {left, top, width, height}; })()"
    )
    return box["left"] + box["width"] / 2, box["top"] + box["height"] / 2


def texts(tab: Page, selector: str) -> list[str]:
    found: list[str] = tab.evaluate(f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent)")
    return found


def numbers_on(tab: Page, selector: str) -> list[int]:
    found: list[int] = tab.evaluate(
        f"[...document.querySelectorAll({selector!r})].map((one) => Number(one.dataset.trial))"
    )
    return found


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_figures_are_drawn_at_every_width(quiet: Page, report: Path, width: int, dark: bool) -> None:
    quiet.open(report, width, dark=dark)
    places = (
        "Object.fromEntries([...document.querySelectorAll('[data-figure]')].map((one) => [one.dataset.figure, one]))"
    )
    quiet.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    quiet.until("document.querySelector('#figure-front_in_space svg').dataset.points")
    drawn = quiet.evaluate(
        f"Object.entries({places}).map(([name, one]) => [name, one.querySelectorAll('path[d], .bar').length])"
    )
    assert {name for name, _ in drawn} == set(FIGURES) - {"sampler_against_random"}  # it has no control arm
    assert min(count for _, count in drawn) > 0
    assert quiet.evaluate("Number(document.querySelector('#figure-front svg').dataset.points)") == len(RECORD.trained)
    intervals = quiet.evaluate("document.querySelector('#figure-front .interval').getAttribute('d')")
    assert intervals.count("M") == len({trial.number for trial in RECORD.front()} | {0})  # 0 is the published network
    assert quiet.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert quiet.evaluate(CUT) == []


def test_page_fits_on_paper(quiet: Page, report: Path) -> None:
    quiet.open(report, 760, dark=True)
    quiet.send("Emulation.setEmulatedMedia", media="print")
    assert quiet.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert quiet.evaluate("getComputedStyle(document.body).color") == "rgb(23, 32, 43)"  # dark ink, whatever the screen
    quiet.send("Emulation.setEmulatedMedia", media="")


def test_empty_study_opens(quiet: Page, tmp_path: Path) -> None:
    quiet.open(write_report(example_record(0), tmp_path / "report.html"))
    assert texts(quiet, "h1") == ["Nothing is trained yet"]
    assert texts(quiet, "[data-figure]") == []


def test_click_on_a_point_tells_all_about_it(quiet: Page, report: Path) -> None:
    quiet.open(report)
    middle_of(quiet, "#figure-front svg")
    mark = quiet.evaluate(
        "(() => { const ring = document.querySelector('#figure-front .ring.winner').getBoundingClientRect();"
        "return [ring.left + ring.width / 2, ring.top + ring.height / 2]; })()"
    )
    quiet.click(*mark)
    quiet.until("!document.querySelector('#details').hidden")
    (title,) = texts(quiet, "#details h2")
    trial = next(trial for trial in RECORD.trained if trial.name == title.removesuffix(" published"))
    arch = Arch.from_dict(trial.attributes["arch"])
    assert texts(quiet, "#details pre") == [yaml_of(arch, "segment", trial.name)]
    assert texts(quiet, "#details code") == [f"hrsearch export example --pick trial:{trial.number} --to winner/"]
    assert texts(quiet, "#details h3")[1:] == [
        *("Where the milliseconds go", "Training loss", "Rungs", "Take it", "Its YAML")
    ]
    assert quiet.evaluate("document.querySelectorAll('[data-curve=losses] .line').length") == 3  # one of each rung
    assert quiet.evaluate("document.activeElement.id") == "details"
    quiet.press("Escape")
    assert quiet.evaluate("document.querySelector('#details').hidden")


def test_panel_fits_a_phone(quiet: Page, report: Path) -> None:
    quiet.open(report, 400)
    quiet.evaluate("openDetails(3)")
    assert quiet.evaluate("document.querySelector('#details').scrollWidth <= innerWidth")
    assert quiet.evaluate("document.querySelector('#details').scrollHeight > 500")


def test_drawing_has_a_bar_for_every_block_and_a_line_for_every_path(quiet: Page, report: Path) -> None:
    quiet.open(report)
    quiet.evaluate(f"openDetails({[trial.number for trial in RECORD.trained].index(0)})")
    arch = example_arch(HRVIT_B1)  # the published network is trial 0
    blocks = sum(branch.depth for stage in arch.stages for branch in stage.branches)
    assert quiet.evaluate("document.querySelectorAll('#details .drawing .block').length") == blocks
    assert quiet.evaluate("document.querySelectorAll('#details .drawing line').length") == 1 + 1 + 2 + 6 + 9 + 12 + 16
    assert "6 × cross (head_dim 16, ratio 4, window 7)" in "".join(texts(quiet, "#details .drawing title"))
    assert "w7" in texts(quiet, "#details .drawing .window")


def set_limit(tab: Page, title: str, share: float) -> float:
    """Move the slider of that title, and return the limit that it sets."""
    tab.evaluate(
        "(() => { const label = [...document.querySelectorAll('#controls label')]"
        f".find((one) => one.textContent.startsWith({title!r})); const input = label.querySelector('input');"
        f"input.value = {share} * input.max; input.dispatchEvent(new Event('input')); }})()"
    )
    (limit,) = tab.evaluate("Object.values(state.limits)")
    return float(limit)


def under(record: Record, limit_ms: float) -> Record:
    """The study as if slower networks did not exist."""
    trials = tuple(t for t in record.trained if t.attributes["latency"]["median_ms"] <= limit_ms)
    return dataclasses.replace(record, trials=trials)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_front_under_a_limit_is_what_python_finds(quiet: Page, report: Path, share: float) -> None:
    quiet.open(report)
    before = numbers_on(quiet, "table[data-view=''] .open")
    assert before == [trial.number for trial in RECORD.front()]
    limit = set_limit(quiet, "Latency", share)
    kept = under(RECORD, limit)
    assert numbers_on(quiet, "table[data-view=''] .open") == [trial.number for trial in kept.front()]
    assert f"{len(kept.trials)} of {len(RECORD.trained)} networks are left" in texts(quiet, "#kept")[0]
    assert f"--pick 'latency<={limit:g}'" in texts(quiet, "#kept code")[0]
    quiet.evaluate("DATA.confirmed = true; changed()")
    best = max(kept.contenders, key=lambda trial: float(trial.values[0] or 0))
    assert f"--pick trial:{best.number} " in texts(quiet, "#kept code")[0]
    quiet.evaluate("DATA.confirmed = false; changed()")
    quiet.click(*middle_of(quiet, "#no-limits"))
    quiet.until("Object.keys(state.limits).length === 0")
    assert numbers_on(quiet, "table[data-view=''] .open") == before


def test_a_slider_ends_at_the_best_network(quiet: Page, report: Path) -> None:
    quiet.open(report)
    set_limit(quiet, "mIoU", 1.0)
    assert "1 of 40 networks are left" in texts(quiet, "#kept")[0]
    quiet.click(*middle_of(quiet, "#no-limits"))
    quiet.until("Object.keys(state.limits).length === 0")
    limit = set_limit(quiet, "Latency", 0.005)
    fastest = min(trial.attributes["latency"]["median_ms"] for trial in RECORD.trained)
    assert fastest <= limit < 1.1 * fastest


def test_nothing_is_offered_where_nothing_is_left(quiet: Page, report: Path) -> None:
    quiet.open(report)
    set_limit(quiet, "mIoU", 1.0)
    quiet.evaluate("state.limits.latency = 0.001; changed()")
    assert texts(quiet, "#kept") == ["None of 40 networks is left: loosen a limit, or choose more levels."]
    assert texts(quiet, "#kept code") == []


def test_a_target_has_a_front_of_its_own_that_follows_the_filters(quiet: Page, tmp_path: Path) -> None:
    found: dict[str, Any] = {key_of("board"): {"engine": "onnx", "image": [512, 512], "device": "cpu", "threads": 1}}
    for trial in RECORD.trained[::2]:
        ms = 1.0 + (trial.number * 37) % 50
        latency = {**trial.attributes["latency"], "median_ms": ms, "low_ms": ms, "high_ms": ms}
        found[key_of("board", trial.number)] = {"latency": latency, "flops": trial.attributes["flops"]}
    record = dataclasses.replace(RECORD, attributes={**RECORD.attributes, **found})
    quiet.open(write_report(record, tmp_path / "report.html"))
    there = on_target(record, "board")
    assert numbers_on(quiet, "table[data-view=board] .open") == [trial.number for trial in there.front()]
    limit = set_limit(quiet, "Latency on board", 0.7)
    kept = [trial.number for trial in under(there, limit).front()]
    assert numbers_on(quiet, "table[data-view=board] .open") == kept
    assert quiet.evaluate("Number(document.querySelector('#figure-score_on_board svg').dataset.points)") > 0


def test_axes_and_colour_are_chosen(quiet: Page, report: Path) -> None:
    quiet.open(report)
    for place, key in enumerate(("params", "flops", "score")):
        quiet.evaluate(
            f"(() => {{ const select = document.querySelectorAll('#controls select')[{place}];"
            f"select.value = {key!r}; select.dispatchEvent(new Event('change')); }})()"
        )
    assert texts(quiet, "#figure-front text.title") == ["parameters", "FLOPs (multiply-accumulates)"]
    assert quiet.evaluate("document.querySelectorAll('#figure-front [class*=bin]').length") > 4
    assert quiet.evaluate("document.querySelectorAll('#figure-front .edge').length") == 0  # two costs have no edge


def test_levels_of_knobs_are_chosen_by_click_and_by_drag(quiet: Page, report: Path) -> None:
    quiet.open(report)
    quiet.click(*middle_of(quiet, "[data-knob=window3][data-level='1']"))
    kept = [trial for trial in RECORD.contenders if trial.knobs.get("window3") == 5]
    best = max(kept, key=lambda trial: float(trial.values[0] or 0))
    assert f"--pick trial:{best.number} " in texts(quiet, "#kept code")[0]  # levels are nothing that an export knows
    expected = [t.number for t in RECORD.trained if t.knobs.get("window3") == 5]
    assert quiet.evaluate("EVERY.filter((index) => state.kept[index]).map((index) => DATA.number[index])") == expected
    quiet.click(*middle_of(quiet, "[data-knob=window3][data-level='1']"))
    assert quiet.evaluate("isFiltered()") is False
    x, low = middle_of(quiet, "[data-knob=depth3][data-level='0']")
    _, high = middle_of(quiet, "[data-knob=depth3][data-level='1']")
    shift = quiet.evaluate("document.querySelector(\"[data-knob=depth3][data-level='0']\").getBoundingClientRect().top")
    low = float(shift) + 8
    quiet.drag((x + 30, low), (x + 30, high))
    expected = [t.number for t in RECORD.trained if t.knobs.get("depth3") in (2, 4)]
    assert quiet.evaluate("EVERY.filter((index) => state.kept[index]).map((index) => DATA.number[index])") == expected


def test_keys_go_from_point_to_point_and_from_row_to_row(quiet: Page, report: Path) -> None:
    quiet.open(report)
    quiet.evaluate("document.querySelector('#figure-front svg').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Enter"):
        quiet.press(key)
    quiet.until("!document.querySelector('#details').hidden")
    cheapest = min(RECORD.trained, key=lambda trial: trial.attributes["latency"]["median_ms"])
    assert texts(quiet, "#details h2") == [cheapest.name]
    quiet.press("Escape")
    assert quiet.evaluate("document.activeElement === document.querySelector('#figure-front svg')")
    quiet.evaluate("document.querySelector('table[data-view] .open').focus()")
    quiet.press("Enter")
    quiet.until("!document.querySelector('#details').hidden")
    assert texts(quiet, "#details h2")[0].startswith(RECORD.front()[0].name)


def test_dragging_zooms_and_a_button_shows_all_again(quiet: Page, report: Path) -> None:
    quiet.open(report)
    x, y = middle_of(quiet, "#figure-front svg")
    before = texts(quiet, "#figure-front text")
    quiet.drag((x - 100, y - 100), (x + 100, y + 100))
    assert texts(quiet, "#figure-front text") != before
    quiet.click(*middle_of(quiet, "#figure-front .reset"))
    assert texts(quiet, "#figure-front text") == before


def test_the_front_in_space_is_turned_and_its_points_open(quiet: Page, report: Path) -> None:
    quiet.open(report)
    quiet.evaluate("document.querySelector('details.solid').open = true")
    place = "#figure-front_in_space"
    quiet.until(f"document.querySelector('{place} svg').dataset.points")
    cube = f"document.querySelector('{place} .grid').getAttribute('d')"
    before = quiet.evaluate(cube)
    x, y = middle_of(quiet, f"{place} svg")
    quiet.drag((x, y), (x + 60, y + 20))
    dragged = quiet.evaluate(cube)
    quiet.evaluate(f"document.querySelector('{place} svg').focus()")
    quiet.press("ArrowRight")
    assert len({before, dragged, quiet.evaluate(cube)}) == 3
    mark = quiet.evaluate(
        f"(() => {{ const stems = document.querySelector('{place} .interval').getAttribute('d').match(/[\\d.]+/g);"
        f"const box = document.querySelector('{place} svg').getBoundingClientRect();"
        "return [box.left + Number(stems[0]), box.top + Number(stems[1])]; })()"
    )
    quiet.click(*mark)
    quiet.until("!document.querySelector('#details').hidden")
    front = {trial.name for trial in RECORD.front()}
    assert texts(quiet, "#details h2")[0].removesuffix(" published") in front


def test_axes_of_the_front_in_space_are_chosen(quiet: Page, report: Path) -> None:
    quiet.open(report, 400)
    quiet.evaluate("document.querySelector('details.solid').open = true")
    place = "#figure-front_in_space"
    quiet.until(f"document.querySelector('{place} svg').dataset.points")
    assert texts(quiet, f"{place} text.title") == ["Latency (ms)", "FLOPs", "mIoU"]
    quiet.evaluate(
        "(() => { const select = document.querySelector('.choosers select'); select.value = 'params';"
        "select.dispatchEvent(new Event('change')); })()"
    )
    assert texts(quiet, f"{place} text.title") == ["Params", "FLOPs", "mIoU"]
    inside = (
        f"(() => {{ const box = document.querySelector('{place} svg').getBoundingClientRect();"
        f"return [...document.querySelectorAll('{place} text')].map((one) => one.getBoundingClientRect())"
        ".every(({left, right}) => left >= box.left && right <= box.right); })()"
    )
    assert quiet.evaluate(inside)


def test_keys_go_along_the_front_in_space_and_open_its_points(quiet: Page, report: Path) -> None:
    quiet.open(report)
    quiet.evaluate("document.querySelector('details.solid').open = true")
    place = "#figure-front_in_space"
    quiet.until(f"document.querySelector('{place} svg').dataset.points")
    quiet.evaluate(f"document.querySelector('{place} svg').focus()")
    told = []
    for key in ["PageDown", "PageDown", "PageUp"]:
        quiet.press(key)
        told.append(texts(quiet, f"{place} .tip b")[0])
    assert told[0] == told[2] != told[1]
    quiet.press("Enter")
    quiet.until("!document.querySelector('#details').hidden")
    assert texts(quiet, "#details h2")[0].removesuffix(" published") in told[0]


@pytest.mark.parametrize("width", [1280, 400])
def test_fronts_of_several_studies_lie_over_each_other(quiet: Page, tmp_path: Path, width: int) -> None:
    records = [dataclasses.replace(RECORD, name="one"), dataclasses.replace(example_record(25), name="<b>two")]
    found = compared(records)
    quiet.open(write_comparison(found, tmp_path / "compare.html"), width)
    steps = "document.querySelectorAll('#figure-by_latency .line').length"
    assert quiet.evaluate(steps) == len(records)
    assert {side.name for side in found.sides} <= set(texts(quiet, "tbody th"))
    points = sum(len(side.points) for side in found.sides)
    assert quiet.evaluate("Number(document.querySelector('#figure-by_flops svg').dataset.points)") == points
    assert quiet.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_commands_are_copied_or_selected(quiet: Page, report: Path) -> None:
    quiet.open(report)
    quiet.click(*middle_of(quiet, ".steps .copy"))
    quiet.until("['copied', 'selected'].includes(document.querySelector('.steps .copy').textContent)")


def test_names_from_outside_are_text(quiet: Page, tmp_path: Path) -> None:
    nasty = "<script>window.harm = 1</script><img src=x onerror='window.harm = 1'>"

    def renamed(value: Any) -> dict[str, Any]:
        return {nasty: value, f"{nasty} twice": nasty}

    trials = tuple(dataclasses.replace(trial, knobs=renamed(trial.number % 3)) for trial in RECORD.trials)
    known = dataclasses.replace(trials[0], attributes={**trials[0].attributes, "known": nasty})
    quiet.open(write_report(dataclasses.replace(RECORD, name=nasty, trials=(known, *trials[1:])), tmp_path / "a.html"))
    quiet.evaluate("openDetails(0)")
    assert nasty in texts(quiet, "#details dt")
    assert quiet.evaluate("document.querySelectorAll('img').length") == 0
    assert quiet.evaluate("window.harm") is None


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core: the file that AXE_CORE names, or npm's (its cache first); skipped without either."""
    if os.environ.get("AXE_CORE"):
        return Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8")
    if not shutil.which("npm"):
        pytest.skip("needs npm, or axe-core's axe.min.js named by AXE_CORE")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "--prefer-offline", AXE, "--pack-destination", str(folder)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=40, cwd=folder)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("npm does not reach a registry")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        found = archive.extractfile("package/axe.min.js")
        assert found
        return found.read().decode()


@pytest.mark.parametrize("dark", [False, True])
def test_page_and_panel_are_accessible(quiet: Page, report: Path, axe: str, dark: bool) -> None:
    quiet.open(report, dark=dark)
    quiet.evaluate("openDetails(3)")
    quiet.evaluate(f"{axe}; 0")
    found = quiet.evaluate(
        "axe.run().then(({violations}) => violations.map(({id, nodes}) =>"
        " [id, ...nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + node.failureSummary.slice(0, 300))]))"
    )
    assert found == []
