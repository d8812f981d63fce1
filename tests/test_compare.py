"""Studies held against each other, and a running one watched."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_study import example_record, store
from inside import inside
from toy_search import Toy, search

from hrsearch.compare import compared, json_of, lines_of, permutation_p
from hrsearch.errors import InputError
from hrsearch.progress import standing
from hrsearch.report.comparison import write_comparison
from hrsearch.search.clock import PREFIX
from hrsearch.storage import point_to
from hrsearch.study import Record, Trial


def renamed(record: Record, name: str) -> Record:
    return replace(record, name=name)


def worse(record: Record) -> Record:
    """The same study with every score lowered, every latency doubled."""

    def lowered(trial: Trial) -> Trial:
        if trial.state != "trained":
            return trial
        score = {**trial.attributes["score"], "value": trial.attributes["score"]["value"] - 0.1}
        ends = ("median_ms", "low_ms", "high_ms")
        latency = trial.attributes["latency"] | {end: 2 * trial.attributes["latency"][end] for end in ends}
        attributes = {**trial.attributes, "score": score, "latency": latency}
        return replace(trial, attributes=attributes, values=tuple(one.of(attributes) for one in record.objectives))

    return replace(record, name="worse", trials=tuple(map(lowered, record.trials)))


def test_a_study_that_is_worse_in_every_score_is_beaten_everywhere() -> None:
    better = renamed(example_record(30), "better")
    found = compared([better, worse(better)])
    first, second = found.sides
    assert first.hypervolume > second.hypervolume
    assert first.beaten_by == {"worse": 0.0}
    assert second.beaten_by == {"better": 1.0}
    assert (first.on_common_front, second.on_common_front) == (first.front, 0)
    assert found.doubts == found.obstacles == ()
    text = list(lines_of(found))
    assert text[2].startswith("better")
    assert "better 100%" in text[3]


def test_a_study_beside_itself_is_no_better() -> None:
    record = example_record(20)
    one, other = compared([renamed(record, "a"), renamed(record, "b")]).sides
    assert one.hypervolume == other.hypervolume
    assert one.beaten_by == {"b": 0.0}


def test_other_data_is_said_to_make_scores_incomparable() -> None:
    record = example_record(10)
    other = replace(record, name="b", attributes={**record.attributes, "split": "another"})
    assert "different data" in compared([record, other]).obstacles[0]


def changed(record: Record, name: str, **sections: Mapping[str, Any]) -> Record:
    """The study with other settings of its runner."""
    runner = record.attributes["runner"]
    runner = runner | {section: runner[section] | dict(settings) for section, settings in sections.items()}
    return replace(record, name=name, attributes={**record.attributes, "runner": runner, "protocol": name})


def test_costs_taken_in_different_ways_make_no_winner(tmp_path: Path) -> None:
    record = renamed(example_record(10), "a")
    found = compared([changed(record, "small", measure={"image": [448, 448], "seconds": 1.0}), worse(record)])
    (obstacle,) = found.obstacles
    assert obstacle.endswith("in different ways: image is 448x448 in small and 512x512 in worse")
    first, *rest = lines_of(found)
    assert first == f"no winner: {obstacle}"
    assert not any("%" in line or "0." in line for line in rest)
    assert "no winner can be named" in write_comparison(found, tmp_path / "both.html").read_text()
    assert not {"hypervolume", "beaten_by"} & json_of(found)["studies"][0].keys()
    threads = compared([record, changed(record, "b", measure={"threads": 2, "batch": 4})])
    assert "batch is 1 in a and 4 in b; threads is 1 in a and 2 in b" in threads.obstacles[0]


def on_device(record: Record, name: str, device: str, processor: str) -> Record:
    """The study as if its latencies had been taken on that device of a machine with that processor."""
    trials = (
        replace(trial, attributes={**trial.attributes, "latency": {**trial.attributes["latency"], "device": device}})
        for trial in record.trials
    )
    machine = {**record.attributes["machine"], "processor": processor}
    return replace(record, name=name, trials=tuple(trials), attributes={**record.attributes, "machine": machine})


def test_latencies_are_of_what_the_networks_ran_on_not_of_the_machine_around_it() -> None:
    record = example_record(10)
    mine, yours = on_device(record, "a", "H200", "M7"), on_device(record, "b", "A100", "M7")
    assert compared([mine, yours]).obstacles == ("latencies are of different devices: H200 in a and A100 in b",)
    assert compared([mine, on_device(record, "b", "H200", "M8")]).obstacles == ()


def test_an_image_has_no_bearing_on_parameters() -> None:
    record = example_record(10, objectives=("score", "params"))
    assert compared([record, changed(record, "b", measure={"image": [448, 448]})]).obstacles == ()


def test_other_training_is_named_and_a_key_that_is_new_is_none() -> None:
    record = renamed(example_record(10), "a")
    (doubt,) = compared([record, changed(record, "b", proxy={"steps": 90, "rungs": [50]})]).doubts
    assert doubt.endswith("steps is 300 in a and 90 in b; rungs is none in a and 50 in b")
    before = changed(record, "b")
    del before.attributes["runner"]["proxy"]["screen"]
    assert compared([record, before]).doubts == ()


def test_the_same_data_in_another_place_is_no_other_training() -> None:
    record = renamed(example_record(10), "a")
    found = compared([record, changed(record, "b", proxy={"data": "elsewhere/images"})])
    assert (found.doubts, found.sides[0].group == found.sides[1].group) == ((), True)


def test_a_front_is_that_of_the_study() -> None:
    """What is worse within the noise of a latency stays, and is not beaten by another study's."""
    record = renamed(example_record(40, known=()), "a")
    noisy = {trial.number: trial.attributes["latency"] | {"low_ms": 1.0, "high_ms": 500.0} for trial in record.trials}
    trials = [replace(each, attributes={**each.attributes, "latency": noisy[each.number]}) for each in record.trials]
    wide = replace(record, name="wide", trials=tuple(trials))
    first, second = compared([record, wide]).sides
    assert first.front == len(record.front())
    assert second.front == len(wide.front()) > first.front
    assert second.beaten_by == {"a": 0.0}


def test_one_seed_does_not_tell_luck() -> None:
    first, second, third = (renamed(example_record(10, seed=seed), f"s{seed}") for seed in range(3))
    other = changed(third, "other", search={"sampler": "random", "seed": 7})
    assert compared([first, other]).verdicts[0].startswith("one seed each: luck cannot be told")
    assert compared([first, second, other]).verdicts[0].startswith("one seed of other: luck cannot be told")
    assert compared([first, changed(second, "b", search={"seed": 7})]).verdicts == ()
    group = json_of(compared([first, other]))["studies"][1]["group"]
    assert (group["space"], group["sampler"], "seed" in group) == ("hrvit", "random", False)


def test_groups_of_seeds_are_held_against_chance() -> None:
    first = [renamed(example_record(20, seed=seed), f"a{seed}") for seed in range(3)]
    runner = {"search": {"sampler": "random"}}
    second = [
        replace(worse(one), name=f"b{index}", attributes={**one.attributes, "runner": runner})
        for index, one in enumerate(first)
    ]
    (verdict,) = compared([*first, *second]).verdicts
    assert "3 seeds like a0" in verdict
    assert "p = 0.100" in verdict  # the most extreme of 20 deals, and its mirror image


def test_the_same_seed_twice_is_no_luck() -> None:
    one = example_record(20)
    same = replace(one, folder=Path("same"))
    again = replace(one, folder=Path("again"), attributes={**one.attributes, "seed": 7})
    longer = replace(one, folder=Path("longer"), attributes={**one.attributes, "budget": 7})  # another way to search
    assert any("the same seed" in doubt for doubt in compared([one, same, longer]).doubts)
    assert not any("the same seed" in doubt for doubt in compared([one, again, longer]).doubts)
    assert not compared([one, same]).doubts


def test_permutation_p_counts_deals() -> None:
    assert permutation_p([1.0, 2.0], [3.0, 4.0]) == pytest.approx(2 / 6)
    assert permutation_p([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert permutation_p([0.0] * 12, [1.0] * 12) < 0.001


def test_what_cannot_be_compared() -> None:
    record = example_record(5)
    with pytest.raises(InputError, match="at least two"):
        compared([record])
    with pytest.raises(InputError, match="no objective in common"):
        compared([example_record(5, objectives=("score",)), example_record(5, objectives=("params",))])
    with pytest.raises(InputError, match="different tasks"):
        compared([record, replace(record, attributes={**record.attributes, "task": "pose"})])
    with pytest.raises(InputError, match="no trained network"):
        compared([record, example_record(0, known=())])


def test_compare_and_watch_read_stored_studies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store(replace(example_record(8, running=1), folder=tmp_path / "studies" / name))
    done = inside(tmp_path, "compare", "one", "two", "--json")
    told = json.loads(done.stdout)
    assert [side["name"] for side in told["studies"]] == ["one", "two"]
    assert inside(tmp_path, "compare", "one", "three").returncode == 2
    twice = inside(tmp_path, "compare", "one", "two", "one")
    assert twice.stderr == "hrsearch: studies/one was given twice: a study compared with itself says nothing\n"
    watched = inside(tmp_path, "watch", "one", "--once")
    assert watched.stdout.startswith("one: 8 trained, 1 running")
    assert "of a budget of 200" in watched.stdout


def test_the_rate_is_that_of_the_hours_searched(tmp_path: Path) -> None:
    """Two half hours a day apart are an hour; what another study has judged took none."""
    record = example_record(12)
    attributes = {**record.attributes, f"{PREFIX}a": [0.0, 1800.0], f"{PREFIX}b": [86400.0, 88200.0]}
    copied = [replace(each, attributes={**each.attributes, "copied_from": "other"}) for each in record.trials[:2]]
    record = replace(record, attributes=attributes, trials=(*copied, *record.trials[2:]))
    assert any("12 judged of a budget of 200, 10 an hour, " in line for line in standing(record))


def test_a_study_is_found_by_its_folder_and_by_its_name(tmp_path: Path) -> None:
    store(replace(example_record(4), folder=tmp_path / "lap"))
    none = inside(tmp_path, "watch", "lop", "--once")
    assert none.stderr == "hrsearch: studies/lop: holds no study; begin one with hrsearch run SPACE\n"
    assert inside(tmp_path, "watch", "lap", "--once").stdout.startswith("lap: 4 trained")
    store(replace(example_record(6), folder=tmp_path / "studies" / "lap"))
    assert inside(tmp_path, "watch", "lap", "--once").stdout.startswith("lap: 6 trained")
    assert inside(tmp_path, "watch", "./lap", "--once").stdout.startswith("lap: 4 trained")
    assert "did you mean 'lap'?" in inside(tmp_path, "watch", "lop", "--once").stderr


def test_studies_in_a_database_are_watched_and_compared(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    for name in ("one", "two"):
        point_to(tmp_path / "there" / name, url)
        store(replace(example_record(4), folder=tmp_path / "there" / name))
    assert inside(tmp_path, "watch", "one", "--once", "--storage", url).stdout.startswith("one: 4 trained")
    assert "hypervolume" in inside(tmp_path, "compare", "one", "two", "--storage", url).stdout


def test_watching_a_search_that_waits_at_rungs(tmp_path: Path) -> None:
    search(tmp_path / "studies" / "toy", 6, Toy(), rungs=(10, 30), sampler="random")
    shown = inside(tmp_path, "watch", "toy", "--once").stdout
    assert "stopped" in shown
    told = json.loads(inside(tmp_path, "watch", "toy", "--once", "--json").stdout)
    assert (told["is_finished"], told["seconds_left"]) == (True, None)
    assert re.search(r"6 judged of a budget of 6, [\d,]+ an hour, the last \d+ s ago; finished\n", shown)
