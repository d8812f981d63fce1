"""The report's words, drawings, figures and page."""

import base64
import csv
import dataclasses
import json
import random
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from example_study import HRVIT_B1, LIMIT, example_arch, example_record, store

from hrsearch.arch import Arch, Part
from hrsearch.grammar import yaml_of
from hrsearch.objective import LIKELIHOOD
from hrsearch.progress import standing
from hrsearch.report import FIGURES, sections, write_report
from hrsearch.report.differences import apart, differences, nearest, of_heads
from hrsearch.report.effects import effects
from hrsearch.report.figures import COLOURS, Axis, Bars, Chart, Solid, Trace, early_score
from hrsearch.report.forecasts import forecasts, foretold
from hrsearch.report.headline import better_than, cheaper_than, comparisons, headline, standing_out, summary
from hrsearch.report.health import sentences
from hrsearch.report.knobs import clear, importances_of, signed
from hrsearch.report.markup import Markup, element
from hrsearch.report.page import page
from hrsearch.report.points import archive, points
from hrsearch.report.rungs import tau_between
from hrsearch.report.sections import PLACED
from hrsearch.report.winners import choice_of
from hrsearch.report.words import design, duration, metric_of, outcomes, plain, shown, study_argument
from hrsearch.search.clock import PREFIX
from hrsearch.study import Record, Trial, telling

STUDIES = {
    "nothing": example_record(0),
    "only running": example_record(0, running=2, lost=1),
    "nothing trained": example_record(0, refused=3, failed=2, running=1),
    "one": example_record(1),
    "two": example_record(2, known=()),
    "everything": example_record(40, refused=6, failed=5, running=2, lost=1),
    "params only": example_record(30, objectives=("score", "params")),
    "memory only": example_record(30, objectives=("score", "memory", "training_memory")),
    "costs only": example_record(20, objectives=("latency", "flops")),
    "score only": example_record(20, objectives=("score",)),
    "rungs": example_record(30, rungs=True),
}


def changed(record: Record, **attributes: Any) -> Record:
    """The record with these attributes in every trial."""
    trials = (dataclasses.replace(one, attributes={**one.attributes, **attributes}) for one in record.trials)
    return dataclasses.replace(record, trials=tuple(trials))


class Reader(HTMLParser):
    """Checks that elements are closed in order, and collects names, links and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def read(record: Record) -> Reader:
    reader = Reader()
    reader.feed(page(record))
    assert reader.open == []
    return reader


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page_that_needs_no_network(name: str) -> None:
    reader = read(STUDIES[name])
    assert set(reader.links) <= {"trials.csv"}
    assert "How to go on" in reader.texts
    assert not {"img", "link", "iframe"} & reader.names


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("study", STUDIES)
def test_every_figure_renders_every_study(name: str, study: str) -> None:
    figure = FIGURES[name](STUDIES[study])
    if isinstance(figure, Chart):
        assert all(len(trace.x) == len(trace.y) > 0 and trace.role in COLOURS for trace in figure.traces)
    elif isinstance(figure, Bars):
        assert all(len(series.shares) == len(series.texts) == len(figure.places) for series in figure.series)
    elif isinstance(figure, Solid):
        assert set(figure.axes) <= set(points(STUDIES[study])["columns"])
    elif figure:
        assert {figure.across, figure.up} <= set(points(STUDIES[study])["columns"])
    if figure:
        json.dumps(dataclasses.asdict(figure), allow_nan=False)


def test_a_figure_of_ones_own_needs_an_entry_only(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Trace("front", "line", [1, 2], [0.1, 0.2], "mine")
    monkeypatch.setitem(FIGURES, "mine", lambda record: Chart(Axis("x", "plain"), Axis("y", "score"), [line]))
    text = page(STUDIES["one"])
    assert 'data-figure="mine"' in text
    assert '"mine":{"across":{"label":"x","form":"plain","log":false}' in text
    assert set(FIGURES) - {"mine"} == PLACED


def test_figures_of_the_example_have_data() -> None:
    assert {name for name, figure in FIGURES.items() if not figure(STUDIES["rungs"])} == {"sampler_against_random"}
    absent = {name for name, figure in FIGURES.items() if not figure(STUDIES["everything"])}
    assert absent == {"rungs", "sampler_against_random"}


def test_points_are_the_trained_trials_and_their_front_is_the_studys() -> None:
    record = STUDIES["everything"]
    found = points(record)
    assert found["number"] == [trial.number for trial in record.trained]
    contenders = [found["number"][index] for index in found["views"][""]["contenders"]]
    assert contenders == [trial.number for trial in record.contenders]
    assert found["columns"]["latency"]["low"][0] < found["columns"]["latency"]["values"][0]
    assert found["knobs"]["width1"]["levels"] == ["16", "24", "32", "48"]
    assert found["knobs"]["width1"]["of"][0] == -2  # the published network


def test_a_score_that_is_the_likelihood_has_the_metric_beside_it() -> None:
    record = STUDIES["everything"]
    plain = [trial.attributes.get("score") for trial in record.trials]
    told = [one and {**one, "metric": LIKELIHOOD, "metrics": {"mIoU": 0.25, LIKELIHOOD: one["value"]}} for one in plain]
    trials = zip(record.trials, told, strict=True)
    likely = dataclasses.replace(
        record, trials=tuple(dataclasses.replace(t, attributes={**t.attributes, "score": s}) for t, s in trials)
    )
    columns = points(likely)["columns"]
    assert columns["score"]["title"] == LIKELIHOOD
    assert columns["mIoU"]["values"] == [0.25] * len(likely.trained)
    assert not {"mIoU", LIKELIHOOD} & points(record)["columns"].keys()
    assert set(likely.table()["mIoU"].dropna()) == {0.25}
    words = "orders networks more surely than mIoU, which stands beside it"
    assert words in " ".join(read(likely).texts)
    assert words not in " ".join(read(record).texts)


def test_where_all_are_equal_no_knob_matters() -> None:
    """And optuna's warning of it, which would fail this, is not met."""
    record = STUDIES["everything"]
    told = (
        dataclasses.replace(
            one, attributes={**one.attributes, "flops": 10**8, "score": {**one.attributes["score"], "value": 0.5}}
        )
        for one in record.trained
    )
    equal = dataclasses.replace(record, trials=tuple(told))
    shares = importances_of(equal)
    assert (shares["score"], shares["flops"]) == ({}, {})
    assert shares["latency"]
    found = effects(equal)
    assert found
    assert not [effect for effect in found if effect.is_clear("score") or effect.is_clear("flops")]
    read(equal)


def test_one_worker_is_not_one_per_core() -> None:
    record = STUDIES["one"]
    for engine, device, words in (
        ({"kind": "inline", "workers": 0}, "cpu", "1"),
        ({"kind": "processes", "workers": 0}, "cpu", "one per core"),
        ({"kind": "processes", "workers": 0}, "cuda", "one per GPU"),
    ):
        runner = {**record.attributes["runner"], "engine": engine, "device": device}
        texts = read(dataclasses.replace(record, attributes={**record.attributes, "runner": runner})).texts
        assert texts[texts.index("workers") + 1] == words


def test_archive_holds_every_network_and_its_yaml() -> None:
    record = STUDIES["rungs"]
    rows = json.loads(zlib.decompress(base64.b64decode(archive(record))))
    for row, trial in zip(rows, record.trained, strict=True):
        assert row["yaml"] == yaml_of(Arch.from_dict(trial.attributes["arch"]), "segment", trial.name)
        assert row["arch"] == trial.attributes["arch"]
        assert len(row["rungs"]) == 3


def test_page_stays_small() -> None:
    """Under 3 MB for 200 candidates; a thousand may take a fifth of the 12 MB that are allowed for 5,000."""
    few = example_record(200)
    assert len(page(few)) < 3e6
    trials = (dataclasses.replace(few.trials[number % 200], number=number) for number in range(1000))
    assert len(page(dataclasses.replace(few, trials=tuple(trials)))) < 12e6 / 5


def test_table_of_trials_lies_beside_the_page(tmp_path: Path) -> None:
    record = STUDIES["everything"]
    write_report(record, tmp_path / "deep" / "report.html")
    with (tmp_path / "deep" / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [trial.number for trial in record.trials]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["report.html", "trials.csv"]


def test_study_that_says_little_of_itself_has_a_page() -> None:
    little = {"objectives": ["score", "flops"], "limits": []}
    record = dataclasses.replace(example_record(3, objectives=("score", "flops")), attributes=little)
    assert "hrsearch export example" in "".join(read(record).texts)
    nothing_known = dataclasses.replace(
        record, trials=tuple(dataclasses.replace(t, attributes={}) for t in record.trials)
    )
    assert "–" in read(nothing_known).texts


def test_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(STUDIES["one"], tmp_path / "report.html")
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="no space"):
        write_report(STUDIES["everything"], path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_stored_study_and_its_record_give_the_same_page(tmp_path: Path) -> None:
    from hrsearch.study import read_study

    record = example_record(6, refused=1, failed=1, running=1, folder=tmp_path / "stored")
    stored = read_study(store(record))
    assert headline(stored) == headline(record)
    assert [trial.state for trial in stored.trials] == [trial.state for trial in record.trials]


NASTY = "</script><script>alert(1)</script><b>&\"'"


def test_text_from_outside_is_harmless() -> None:
    record = changed(STUDIES["everything"], reason=NASTY, known=NASTY, violations=None)
    trials = tuple(dataclasses.replace(trial, knobs={NASTY: NASTY}) for trial in record.trials)
    attributes = {**record.attributes, "space": NASTY, "space_path": NASTY, "machine": {NASTY: NASTY}}
    record = dataclasses.replace(record, name=NASTY, attributes=attributes, trials=trials)
    text = page(record)
    assert "<script>alert" not in text
    assert text.count("</script>") == 2
    assert "alert(1)" in "".join(read(record).texts)


def test_element_escapes_text_and_attributes_but_not_markup() -> None:
    inner = element("b", "<&>", None, 3)
    assert inner == Markup("<b>&lt;&amp;&gt;3</b>")
    assert element("i", [inner, ["x"]], class_='"', data_figure=None).text == f'<i class="&quot;">{inner.text}x</i>'


def test_report_needs_no_torch() -> None:
    code = "import sys, hrsearch.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def trial_with(number: int, score: float, latency: float, known: str | None = None) -> Trial:
    base = STUDIES["one"].trials[0].attributes
    found = {
        **base,
        "score": {**base["score"], "value": score},
        "latency": {**base["latency"], "median_ms": latency},
        "flops": int(latency * 1e8),
        "known": known,
    }
    return Trial(number, "trained", {}, found, (score, latency * 1e8, latency), None, None)


def study_of(*trials: Trial) -> Record:
    return dataclasses.replace(STUDIES["one"], trials=trials)


def test_headline_names_who_matches_a_published_network_for_less() -> None:
    record = study_of(
        trial_with(0, 0.40, 40, "hrvit_b1"), trial_with(1, 0.41, 20), trial_with(2, 0.5, 39), trial_with(3, 0.3, 5)
    )
    known = record.trials[0]
    faster, better = cheaper_than(record, known), better_than(record, known)
    assert (faster, better) == (record.trials[1], record.trials[2])
    assert headline(record) == "Trial 1 matches hrvit_b1 at 50% of its latency"
    (sentence,) = comparisons(record)
    assert "reaches its score with 50% of its latency (20.0 ms, 0.410)" in sentence
    assert "Trial 2 scores +0.100 at no more latency (39.0 ms)" in sentence


def test_headline_does_not_boast() -> None:
    record = study_of(trial_with(0, 0.40, 40, "hrvit_b1"), trial_with(1, 0.39, 39))
    assert headline(record) == "hrvit_b1 leads with mIoU 0.400"
    assert list(comparisons(record)) == [
        "hrvit_b1 (mIoU 0.400 at 40.0 ms) is on the front. No candidate has its score at less latency."
    ]
    assert headline(STUDIES["nothing"]) == "Nothing is trained yet"


def test_published_network_beyond_the_limits_is_only_compared_with() -> None:
    known = trial_with(0, 0.5, 40, "hrvit_b1")
    known = dataclasses.replace(known, attributes={**known.attributes, "violations": {"latency<=30ms": 0.3}})
    alone = study_of(known)
    assert headline(alone) == "Nothing keeps the limits yet"
    assert "None of them keeps the limits." in summary(alone)
    assert "--pick" not in "".join(read(alone).texts)
    record = study_of(known, trial_with(1, 0.4, 20))
    assert headline(record) == "Trial 1 leads with mIoU 0.400"
    (sentence,) = comparisons(record)
    assert sentence.startswith("hrvit_b1 (mIoU 0.500 at 40.0 ms) breaks latency<=30ms and is shown to compare with.")


def test_published_network_that_failed_is_said_so() -> None:
    failed = dataclasses.replace(trial_with(0, 0.4, 40, "hrvit_b3"), state="failed")
    assert list(comparisons(study_of(failed))) == ["hrvit_b3 failed, so there is nothing to compare with."]


def test_summary_counts_everything() -> None:
    text = " ".join(summary(STUDIES["everything"]))
    judged = "44 candidates of hrvit.yaml judged, and hrvit_b1 to compare with; 45 of the budget of 200 are spent."
    assert text.startswith(f"{judged} 40 networks trained")
    assert text.endswith("6 refused by a limit, 5 failed, 1 cut off and 2 being judged.")


def test_what_a_limit_refused_after_its_training_is_spent() -> None:
    record = example_record(10, known=())
    refused = {"outcome": "refused", "reason": "score>=0.9 does not hold (score is 0.4)"}
    others = [
        dataclasses.replace(trial, state="refused", attributes={**trial.attributes, **refused})
        for trial in record.trials[:5]
    ]
    half = dataclasses.replace(record, trials=(*others, *record.trials[5:]))
    assert summary(half)[0] == "10 candidates of hrvit.yaml judged; 10 of the budget of 200 are spent."
    assert summary(half)[-1] == "5 refused by a limit."
    assert any(line.startswith("10 judged of a budget of 200") for line in standing(half))


def test_what_no_training_scored_is_no_score() -> None:
    """Of a screen there is what a zero-cost proxy says, in units of its own."""
    record = example_record(8, known=(), rungs=True)
    for trial in record.trials:
        screened = {"value": 1200.0, "metric": "naswot", "rung": 0, "steps": 0, "loss": -1200.0, "seconds": 0.1}
        if trial.state == "stopped":
            trial.attributes.update({"rungs": [screened], "score": screened})  # type: ignore[attr-defined]
    first = [trial for trial in record.trials if trial.state == "stopped"]
    record = dataclasses.replace(record, trials=(*first, *record.trained))
    assert metric_of(record) == "mIoU"
    assert {early_score(trial) for trial in first} == {None}
    assert all(0 < (early_score(trial) or 0) < 1 for trial in record.trained)
    assert "naswot" not in headline(record)


def test_commands_of_a_confirmed_study_export_what_is_shown() -> None:
    """By the search's scores the first is the best, by the confirmed ones the last of the front."""
    record = example_record(12, known=())
    front = record.front()
    chosen = {trial.number: place / 10 for place, trial in enumerate(front)}
    found = {
        f"confirmation:3:{number}:{seed}": {"value": value + seed / 1000, "metric": "mIoU", "steps": 900}
        for number, value in chosen.items()
        for seed in (0, 1)
    }
    how = {"confirmation": {"times": 3, "seeds": 2, "split": "official", "noise": 0.01}}
    view = dataclasses.replace(record, attributes={**record.attributes, **how, **found})
    assert choice_of(record, front[0], "best") == "best"
    assert choice_of(view, front[0], "best") == f"trial:{front[0].number}"
    assert choice_of(view, front[-1], "best") == "best"
    assert f"--pick trial:{front[0].number} " in page(view)
    assert [points(one)["confirmed"] for one in (record, view)] == [False, True]


def test_a_batch_of_images_takes_as_many_multiplications() -> None:
    record = example_record(4)
    for trial in record.trials:
        trial.attributes["latency"]["batch"] = 16
    flops, latency = (record.trials[0].attributes[name] for name in ("flops", "latency"))
    assert sections._rate(record.trials[0]) == pytest.approx(16e3 * flops / latency["median_ms"])


def test_nothing_grows_where_nothing_keeps_the_limits() -> None:
    assert "added" in sections._growing(example_record(24))
    record = example_record(24)
    beyond = (dataclasses.replace(t, attributes={**t.attributes, "violations": {LIMIT: 1.0}}) for t in record.trials)
    assert "added" not in sections._growing(dataclasses.replace(record, trials=tuple(beyond)))


def test_spent_budget_is_not_mentioned() -> None:
    record = dataclasses.replace(STUDIES["everything"], attributes={**STUDIES["everything"].attributes, "budget": 45})
    assert summary(record)[0] == "44 candidates of hrvit.yaml judged, and hrvit_b1 to compare with."
    assert "the same command finishes the study" in page(record)  # two run yet, or did when their driver ended
    done = dataclasses.replace(record, trials=tuple(trial for trial in record.trials if trial.state != "running"))
    assert "the study is complete; a larger --budget searches on" in page(done)
    hours = {"budget": None, "hours": 0.001, f"{PREFIX}a": [0.0, 10.0]}
    late = dataclasses.replace(done, attributes={**record.attributes, **hours})
    assert "the study is complete; more --hours search on" in page(late)


def test_reasons_are_counted_without_their_numbers() -> None:
    failed = [
        dataclasses.replace(trial, state="failed", attributes={"reason": f"the loss is not finite at step {step}"})
        for step, trial in enumerate(STUDIES["everything"].trials[:3])
    ]
    refused = dataclasses.replace(
        failed[0], number=9, state="refused", attributes={"violations": {"flops<=6G": 0.2, "latency<=30ms": -0.1}}
    )
    unknown = dataclasses.replace(failed[0], number=10, attributes={})
    found = {one.reason: one.numbers for one in outcomes(study_of(*failed, refused, unknown))}
    assert found == {
        "breaks flops<=6G": (9,),
        "the loss is not finite at step …": (0, 1, 2),
        "no reason was recorded": (10,),
    }


def test_trial_whose_lease_ran_out_is_lost() -> None:
    assert [one.state for one in outcomes(STUDIES["only running"])] == ["lost", "running"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("score", 0.41234, "0.412"),
        ("latency", 41.249, "41.2 ms"),
        ("latency", 1234.5, "1,234 ms"),
        ("flops", 5.012e9, "5.01 G"),
        ("flops", 1.2e9, "1.20 G"),
        ("params", 411_000, "411 k"),
        ("params", 12, "12.0"),
        ("memory", 183.6e6, "184 MB"),
        ("score", None, "–"),
    ],
)
def test_values_as_a_person_writes_them(name: str, value: float | None, text: str) -> None:
    assert shown(name, value) == text


def test_design_in_one_line() -> None:
    assert design(example_arch(HRVIT_B1)) == "32·64·128·256 channels, 6·5·24·4 blocks at 1/4 to 1/32, cross"


def test_commands_name_the_study() -> None:
    assert study_argument(example_record(1)) == "example"
    assert study_argument(example_record(1, folder=Path("/data/my study"))) == "'/data/my study'"
    texts = "".join(read(STUDIES["everything"]).texts)
    assert "hrsearch export example --pick knee --to winner/" in texts
    assert "hrsearch train winner/ --data digits" in texts
    assert "hrsearch run spaces/hrvit.yaml --name example --budget 200" in texts


def test_paths_of_the_command_are_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = {"command": f"hrsearch run {tmp_path}/mine.yaml --runner /elsewhere/runner.yaml"}
    record = dataclasses.replace(STUDIES["two"], attributes={**STUDIES["two"].attributes, **typed})
    assert "Copy: hrsearch run mine.yaml --runner /elsewhere/runner.yaml" in page(record)


def test_a_study_of_another_task_says_so() -> None:
    record = STUDIES["everything"]
    posed = dataclasses.replace(record, attributes={**record.attributes, "task": "pose"})
    texts = "".join(read(posed).texts)
    assert "hrsearch run spaces/hrvit.yaml --task pose --name example --budget 200" in texts
    assert "images/ and masks/" not in texts
    classified = dataclasses.replace(record, attributes={**record.attributes, "task": "classify"})
    assert "one sub-folder of images per class" in "".join(read(classified).texts)


def test_flops_are_explained_once() -> None:
    texts = " ".join(read(STUDIES["everything"]).texts)
    assert texts.count("one multiply-accumulate is one") == 1


def test_small_words() -> None:
    assert [duration(seconds) for seconds in (48, 720, 6120)] == ["48 s", "12 min", "1 h 42 min"]
    assert plain([512, 512]) == "512 × 512"
    assert plain(("score", "flops")) == "score, flops"
    assert (plain(4096), plain(True), plain([])) == ("4,096", "True", "–")


def test_data_is_json() -> None:
    found = re.search(r"const FIGURES = (.*?);\nconst DATA = (.*?);\nconst ARCHIVE", page(STUDIES["rungs"]))
    assert found
    assert set(json.loads(found[1])) == set(FIGURES) - {"sampler_against_random"}
    assert json.loads(found[2])["number"]


def test_bill_shares_add_up_and_forecasts_are_held_to_account() -> None:
    record = STUDIES["everything"]
    figure = FIGURES["bill_of_knee"](record)
    assert isinstance(figure, Bars)
    assert [sum(series.shares) for series in figure.series] == pytest.approx([1, 1])
    assert "wrong by 5% in the median" in forecasts(record)
    assert "Kendall tau 1.00" in forecasts(record)
    flat = changed(record, latency={"median_ms": 10.0, "low_ms": 9.9, "high_ms": 10.1})
    assert "Kendall tau" not in forecasts(flat)
    assert "wrong by" in forecasts(flat)
    assert forecasts(example_record(4)) == ""


def test_a_zero_cost_proxy_is_held_to_account() -> None:
    """Against the scores of what was drawn and trained in full, where the search asked one."""
    record = example_record(12)
    said = {trial.number: trial.values[0] for trial in record.trained if trial.knobs}
    trials = [
        dataclasses.replace(one, attributes={**one.attributes, "zero_cost": {"synflow": said[one.number]}})
        if one.number in said
        else one
        for one in record.trials
    ]
    asked = dataclasses.replace(record, trials=tuple(trials))
    assert "What synflow says" in foretold(asked)
    assert "orders the 11 that were trained in full by their scores with Kendall tau 1.00" in foretold(asked)
    assert foretold(asked) in page(asked)
    assert asked.table()["zero_cost.synflow"].dropna().tolist() == list(said.values())
    assert foretold(record) == ""  # it was not asked


def planted(count: int = 120) -> Record:
    """A study in which width adds 0.01 a level to the score, depth 5 ms a level to the latency, noise nothing."""
    generator = random.Random(1)
    trials = []
    for number in range(count):
        knobs: dict[str, Any] = {
            "width": generator.choice([16, 32, 64]),
            "depth": generator.choice([1, 2]),
            "noise": generator.choice("ab"),
        }
        if knobs["depth"] == 2:
            knobs["window"] = generator.choice([7, 14])  # only deep ones have it
        score = 0.3 + 0.01 * [16, 32, 64].index(knobs["width"]) + generator.gauss(0, 0.002)
        latency = 20 + 5 * knobs["depth"] + (3 if knobs.get("window") == 14 else 0) + generator.gauss(0, 0.1)
        trials.append(dataclasses.replace(trial_with(number, score, latency), knobs=knobs))
    return study_of(*trials)


def test_effects_find_what_was_planted() -> None:
    record = planted()
    found = {(effect.knob, effect.before, effect.after): effect for effect in effects(record)}
    width, depth, window = found["width", 16, 64], found["depth", 1, 2], found["window", 7, 14]
    assert width.gains["score"][0] == pytest.approx(0.02, abs=0.003)
    assert depth.gains["latency"][0] == pytest.approx(5, abs=0.3)
    assert window.gains["latency"][0] == pytest.approx(3, abs=0.3)
    assert (width.is_clear("score"), width.is_clear("latency"), found["noise", "a", "b"].is_clear("score")) == (1, 0, 0)
    assert {("width", 16, 32), ("width", 32, 64)} <= set(found)
    sentences = clear(record, list(found.values()))
    assert sentences[0].startswith("width 16 → 64: +0.0")
    assert "mIoU" in sentences[0]
    assert "ms latency" not in sentences[0]


def test_a_rare_level_does_not_count_as_the_lowest() -> None:
    record = planted()
    rare = [
        dataclasses.replace(trial_with(200 + extra, 0.6, 90.0), knobs={"width": 128, "depth": 1, "noise": "a"})
        for extra in range(3)
    ]
    mixed = dataclasses.replace(record, trials=(*record.trials, *rare))
    for before, after in zip(effects(record), effects(mixed), strict=True):
        assert (before.knob, before.before, before.after) == (after.knob, after.before, after.after)
        for name, (gain, _, _) in before.gains.items():
            assert after.gains[name][0] == pytest.approx(gain, rel=0.02, abs=1e-4 if name == "score" else 0.05)
    assert "From the lowest to the highest level that 4 have" in read(mixed).texts


def test_importances_name_the_knob_that_counts_for_good_and_for_cheap() -> None:
    shares = importances_of(planted())
    assert max(shares["score"], key=lambda knob: shares["score"][knob]) == "width"
    assert max(shares["latency"], key=lambda knob: shares["latency"][knob]) == "depth"
    assert sum(shares["score"].values()) == pytest.approx(1)
    assert importances_of(STUDIES["one"]) == {}


def test_importance_is_of_so_many_of_so_many_and_what_is_clear_comes_first() -> None:
    assert [telling(count) for count in (10, 26, 66, 150, 5000)] == [5, 13, 20, 20, 500]
    text = page(planted())
    assert "sets the best 20 of 120 candidates apart" in text
    rows = re.findall(r'<th scope="row">(\w+)</th>', text.split("Which knobs matter")[1].split("Every step")[0])
    assert rows[0] == "width"  # the only one with an effect on the score
    assert rows[-1] == "noise"  # nothing of it is clear


def test_too_few_candidates_have_no_effects() -> None:
    assert effects(planted(6)) == []
    assert effects(STUDIES["nothing"]) == []
    assert (signed("latency", -3.02), signed("score", 0.04)) == ("−3.02 ms", "+0.040")


def test_rungs_are_counted_and_their_order_compared() -> None:
    record = STUDIES["rungs"]
    texts = read(record).texts
    assert "The funnel of the rungs" in texts
    assert "The funnel of the rungs" not in read(STUDIES["everything"]).texts
    bars = re.findall(r'class="bar (\w+)" style="width:([\d.]+)%', page(record).split("The funnel of the rungs")[1])
    assert bars[:4] == [("trained", "50.0"), ("stopped", "50.0"), ("trained", "50.0"), ("trained", "50.0")]
    assert tau_between([trial for trial in record.trials if trial.state == "trained"], 0) == pytest.approx(1)
    assert tau_between(record.trained[:2], 0) is None


def test_certificates_of_latency_are_added_up() -> None:
    one = {
        **STUDIES["one"].trials[0].attributes["latency"],
        "median_ms": 10.0,
        "low_ms": 9.0,
        "high_ms": 11.0,
        "runs": 6,
    }
    said = " ".join(sentences([one, {**one, "steady": False, "tries": 3, "load": 4.0, "clock_mhz": 2400.0}]))
    assert "2 latencies, 50% of them steady; 1 had to be measured more than once (up to 3 times)." in said
    assert "±10.0% in the median, ±10.0% at the widest, from 6 samples each." in said
    assert "the machine's load was 4 and the processor ran at 2,400 MHz" in said


def test_winner_is_set_apart_from_the_nearest_published_network() -> None:
    record = STUDIES["everything"]
    known = record.trials[0]
    assert nearest(record, known) is None
    drawn = next(trial for trial in record.trained if trial is not known)
    assert nearest(record, drawn) is known
    ours, theirs = example_arch({**HRVIT_B1, "width1": 16, "depth3": 2}), example_arch(HRVIT_B1)
    found = differences(ours, theirs)
    assert set(found) == {"channels", "blocks", "kind"}
    assert found["channels"] == {4: ("32", "16"), 8: ("64", "64"), 16: ("128", "128"), 32: ("256", "256")}
    assert found["blocks"][16] == ("24", "8")
    assert found["kind"][4] == ("cross", "hr")
    assert differences(theirs, theirs) == {}
    assert {f"{known.name} → {trial.name}" for trial in standing_out(record).values()} <= set(read(record).texts)
    other = dataclasses.replace(ours, head=Part.of("segformer", {"width": 64}))
    assert of_heads(other, theirs) == ["width 128 → 64"]
    assert of_heads(dataclasses.replace(ours, head=Part.of("uper", {})), theirs) == ["segformer → uper"]
    assert apart(STUDIES["two"]) is None
