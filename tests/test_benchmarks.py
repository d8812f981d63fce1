"""Benchmarks: what is timed against each other computes the same; the others run, on next to nothing."""

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from browser import CHROMIUM

from hrsearch.objective import Cost
from hrsearch.registry import ENGINES
from hrsearch.runner import load_runner, trunk_of
from hrsearch.space import load_arch, load_space

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def program(name: str) -> ModuleType:
    """One of the benchmarks, which is a program and no package's module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # its dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def blocks() -> ModuleType:
    """benchmarks/blocks.py."""
    return program("blocks")


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/latency.py, whose own engine is gone after the test."""
    monkeypatch.setattr(ENGINES, "_entries", {kind: ENGINES[kind] for kind in ENGINES})
    return program("latency")


@pytest.fixture(scope="module")
def searching() -> ModuleType:
    """benchmarks/search.py."""
    return program("search")


@pytest.mark.parametrize("name", ["hrformer_t", "hrvit_b1"])
def test_direct_implementations_compute_what_ours_do(blocks: ModuleType, name: str) -> None:
    """Two or three seconds each: whole networks in float64."""
    for pair in blocks.pairs(name):
        blocks.require_equal(pair, 64)


def test_counting_at_scale_checks_whole_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = program("counting")
    scale = counting.at_scale("hrnet", 2, 4, 2, (64, 64))
    assert min(scale.drawing, scale.cold, scale.counting) > 0
    monkeypatch.setattr(counting, "on_meta", lambda arch, image: 1)
    with pytest.raises(AssertionError, match="the whole has 1"):
        counting.at_scale("hrnet", 2, 4, 2, (64, 64))


def test_counting_tells_what_tools_leave_out() -> None:
    row = program("counting").beside("hirivit_s", load_arch("hirivit_s"), (64, 64))[0]
    assert row.attention > 0
    assert row.attention_seen == 0  # by fvcore
    assert row.line().endswith(" | -100.0% |")


@pytest.mark.long
def test_latency_measures_two_rounds_and_goes_on(
    latency: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that a kill cut off is measured again, the others are not."""
    options = Namespace(out=tmp_path, count=2, families=["hrnet"], engines=["eager"], image=64, flops=5e7)
    options.seconds, options.runs = 0.05, 12
    for number in latency.ROUNDS:
        latency.measure_round(number, options)
    path = tmp_path / "round1.jsonl"
    head, first, second = path.read_text().splitlines()
    path.write_text("\n".join([head, first, second[:40]]))
    latency.measure_round(1, options)
    assert path.read_text().splitlines()[:2] == [head, first]
    assert json.loads(path.read_text().splitlines()[2])["seed"] == json.loads(second)["seed"]
    latency.show(latency.table(tmp_path), options.runs)
    told = capsys.readouterr().out
    assert "| hrnet | eager | **hrsearch** | 2 |" in told
    assert "| mmrazor* | 2 |" in told
    assert "| mean of 10 | 2 |" in told
    options.runs = 13
    with pytest.raises(SystemExit, match="give the same, or another --out"):
        latency.measure_round(1, options)


def test_a_search_of_recorded_networks_spends_their_seconds(
    searching: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, results = tmp_path / "table.csv", tmp_path / "results.jsonl"
    rows = pd.read_csv(BENCHMARKS / "recorded.csv.gz")[:80]
    rows.to_csv(table, index=False)
    ways = ["random", "default", "Optuna TPE"]
    for _ in range(2):  # the second time, everything is there
        options = ["--table", str(table), "--seconds", "150", "--seeds", "2", "--to", str(results)]
        searching.main(["run", "--world", "recorded", "--ways", *ways, *options])
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["seed"], row["way"]) for row in found] == [(seed, way) for seed in (0, 1) for way in ways]
    for row in found:
        assert 5 < row["judged"] <= 150 / min(rows["seconds_0"])
        assert 0 <= row["volume"][0] <= row["volume"][1] <= row["volume"][2] < 1
        assert row["volume"][2] > 0
        assert (row["trained"] < row["judged"]) == (row["way"] == "default")  # it has rungs
    capsys.readouterr()
    searching.main(["table", str(results)])
    assert "| default | 2 |" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # kernels at their bounds
def test_a_model_of_the_recorded_networks_tells_them_apart(searching: ModuleType) -> None:
    """The Gaussian processes are fitted to a part."""
    replay = sys.modules["replay"]
    space = load_space(BENCHMARKS / "space.yaml")
    whole = replay.read_table(BENCHMARKS / "recorded.csv.gz", space)
    table = replay.Table(whole.frame[:150], whole.settings[:150])
    model = replay.Model(space, table)
    assert max(error for name, error in model.errors.items() if name != "loss_0") < 0.8
    costs: dict[str, Cost] = {}
    world = replay.modelled(space, model, lambda arch: Cost(100_000, 300_000_000), costs)
    _, arch = world.space.sample(0)
    world.cost_of(arch)
    first, last = (world.judge(arch.digest(), rung) for rung in (0, 1))
    assert first == world.judge(arch.digest(), 0)
    assert first.true_score == last.true_score
    assert first.loss > last.loss
    assert first.score < last.score
    assert 2 < first.latency_ms == last.latency_ms < 200

    longer, whole_s = searching.longer(world, 1.6), world.judge(arch.digest(), None).seconds
    assert longer.judge(arch.digest(), 0) == first
    assert longer.judge(arch.digest(), 1).seconds == pytest.approx(last.seconds + 0.6 * whole_s)
    assert longer.judge(arch.digest(), None).seconds == pytest.approx(1.6 * whole_s)


@pytest.mark.long
def test_recording_goes_on_and_tells_what_a_rung_is_worth(tmp_path: Path) -> None:
    """Two networks in this process; the rest is what the table says of what is committed."""
    record = program("record")
    runner = load_runner(BENCHMARKS / "runner.yaml")
    small = runner.proxy.model_copy(update={"steps": 6, "rungs": (3,), "warmup": 1, "val_images": 16})
    row = record.recorded(str(BENCHMARKS / "space.yaml"), runner.model_copy(update={"proxy": small}), 0, 10.0)
    trunk = trunk_of(3)
    step = (row["seconds_1"] - row["seconds_0"]) / (6 - trunk - 3)
    assert row["seconds"] == pytest.approx(row["seconds_1"] + trunk * step)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in ({"reference_ms": 10.0}, row, row | {"seed": -1})))
    packed = record.packed(path, tmp_path / "none")
    assert list(packed["seed"]) == [-1, 0]
    packed.to_csv(tmp_path / "table.csv", index=False)
    assert len(record.packed(path, tmp_path / "table.csv")) == 2
    rows = pd.read_csv(BENCHMARKS / "recorded.csv.gz")
    lines = list(record.table(rows, resamples=20))
    assert lines[2].startswith("| score_0 | 0.")
    untrained = record.judged_untrained(str(BENCHMARKS / "space.yaml"), runner, int(rows["seed"][0]))
    for kind in ("synflow", "naswot", "zico"):
        assert rows[kind][0] == pytest.approx(untrained[kind], rel=1e-3)


def test_what_is_near_the_front_counts_by_what_other_seeds_score(tmp_path: Path) -> None:
    """The second and the third beat nobody; the third is beaten by too much."""
    record, replay = program("record"), program("replay")
    costs = {"flops": [100, 200, 300], "latency": [10.0, 20.0, 20.0]}
    rows = pd.DataFrame({"seed": [5, 6, 7], "score_0": 0.1, "score_1": [0.40, 0.36, 0.34], **costs})
    assert record.contested(rows, rows["score_1"], 0.05) == [5, 6]
    path = tmp_path / "again.jsonl"
    path.write_text("[5, 1, 0.39]\n[6, 1, 0.35]\n[6, 2, 0.37]\n[5, 2, 0.5]\n[5, 3, 0.")
    options = Namespace(space="none", runner=str(BENCHMARKS / "runner.yaml"), workers=1, within=0.05, times=2, to=path)
    found = record.again(rows, options)  # everything is there
    assert found["again_1"].fillna(0).tolist() == [0.39, 0.35, 0]
    assert found["again_2"].fillna(0).tolist() == [0.5, 0, 0]  # .04 is more than .05 over the root of two

    space = load_space(BENCHMARKS / "space.yaml")
    whole = replay.read_table(BENCHMARKS / "recorded.csv.gz", space)
    again = pd.DataFrame({"again_1": [0.3, None], "again_2": [0.5, None]})
    frame = pd.concat([whole.frame[:2].drop(columns=again, errors="ignore"), again], axis=1)
    world = replay.recorded(space, replay.Table(frame, whole.settings[:2]))
    near, far = (world.judge(space.arch(setting).digest(), None) for setting in whole.settings[:2])
    assert near.score == frame["score_1"][0] != near.true_score == pytest.approx(0.4)
    assert far.score == far.true_score


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_a_report_is_timed_in_a_browser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["report.py", "--trials", "12", "--loads", "1"])
    program("report").main()
    told = capsys.readouterr().out
    assert told.startswith("24 candidates, 12 of them trained; load ")
    for name in ("first figure", "step of a slider", "panel, first time"):
        assert f"{name}: " in told


def test_a_search_says_when_it_will_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Late in a recorded study, when little is left to guess."""
    monkeypatch.setattr(sys, "argv", ["planning.py", str(BENCHMARKS.parent / "reports" / "worked-example")])
    program("planning").main()
    minutes, *told = capsys.readouterr().out.splitlines()[-1].split(" | ")[1:]
    assert 0.5 * 0.25 * float(minutes) < float(told[-2].split()[0]) < 2 * 0.25 * float(minutes)


def test_muon_is_timed_beside_torchs() -> None:
    """Of one round: the passes, torch's step and ours."""
    _, arch = load_space(BENCHMARKS / "space.yaml").sample(4)
    assert min(program("optimizer").times(arch, 1)) > 0
