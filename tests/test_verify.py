"""hrsearch verify: the published networks are as recorded, and the papers' ways to count explain what they print."""

import json
from pathlib import Path

import pytest

from hrsearch.cli import main
from hrsearch.cost import cost
from hrsearch.cost.conventions import elements_of, multiply_accumulates
from hrsearch.document import shipped
from hrsearch.errors import InputError
from hrsearch.space import Space, load_arch
from hrsearch.verify import Figure, figures_of, rounded, summary_of, text_of, verified

UNEXPLAINED = {  # printed figures that are not met to the last digit
    ("hrvit_b1_uper", "segment", "35.9M"),  # 35.952: cut, not rounded
    ("hrvit_b3_uper", "segment", "55.4M"),  # 55.816
    ("hrnet_w48", "classify", "17.36G"),  # 17.366: cut, not rounded
    ("hrformer_s_pose", "pose", "7.8M"),  # 7.726, and 7.747 with the position biases that its forward leaves out
}
SMALL = "hrnet_w18_small"  # counts fastest
HRVIT = [f"hrvit_b{size}{head}" for size in (1, 2, 3) for head in ("", "_uper")]
OTHERS = [
    "hrvit_b3_w9",
    "hrformer_t",
    "hrformer_s",
    "hrformer_b",
    "hrformer_s_pose",
    "hrnet_w48",
    "hirivit_s",
    "mvit_s",
    SMALL,
]


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    """Of those whose papers' ways to count are told apart here. CI runs `hrsearch verify`, which takes all of them."""
    return verified([*HRVIT, *OTHERS])[0]


@pytest.mark.long
def test_every_network_is_as_recorded(figures: list[Figure]) -> None:
    assert not [each for each in figures if each.changed]
    assert summary_of(figures, []).startswith(f"{len(figures)} figures of ")


@pytest.mark.long
def test_the_papers_ways_to_count_explain_their_figures(figures: list[Figure]) -> None:
    unexplained = {
        (each.network, each.task, str(each.printed)) for each in figures if each.printed and not each.explained
    }
    assert unexplained == UNEXPLAINED


@pytest.mark.long
def test_the_twelve_figures_of_hrvit(figures: list[Figure]) -> None:
    printed = [each for each in figures if each.network.startswith("hrvit") and each.name == "flops"]
    assert len(printed) == 12
    assert {each.convention for each in printed} == {"half_attention"}
    assert [rounded(each.by_convention or 0.0, str(each.printed)) for each in printed] == [e.printed for e in printed]


@pytest.mark.long
def test_the_tool_of_hrformer_to_the_integer(figures: list[Figure]) -> None:
    counted = {each.network: each.by_convention for each in figures if each.convention == "official_tool_dropout"}
    assert counted == {"hrformer_t": 1_828_241_348, "hrformer_s": 3_555_683_232, "hrformer_b": 13_713_347_364}


@pytest.mark.long
def test_one_line_per_figure(figures: list[Figure]) -> None:
    table, _, legend = text_of(figures).partition("\n\n")
    assert len(table.splitlines()) == len(figures) + 1
    for convention in {each.convention for each in figures} - {None}:
        assert f"{convention}: " in legend


@pytest.mark.parametrize(("name", "task"), [("hrvit_b1", "segment"), ("hrformer_t", "segment"), (SMALL, "classify")])
def test_both_counters_agree(name: str, task: str) -> None:
    arch, image = load_arch(name, task), (100, 130)
    assert multiply_accumulates(elements_of(arch, image, 7)) == cost(arch, image, 7).flops


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("params: 13187464", "params: 13187465", "13,187,464 parameters, but 13,187,465 are recorded"),
        ("flops: 1601508352", "flops: 1601508351", "1,601,508,352 FLOPs, but 1,601,508,351 are recorded"),
        ("[16, 32, 64, 128]", "[16, 32, 64, 144]", "FLOPs, but 1,601,508,352 are recorded"),
    ],
)
def test_a_change_fails(before: str, after: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shipped("spaces/nets", SMALL).read_text()
    assert before in text
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace(before, after))
    with pytest.raises(SystemExit) as end:
        main(["verify", str(file)])
    out = capsys.readouterr().out
    assert end.value.code == 1
    assert "changed: mine, classify at 224x224, 1000 classes: " in out
    assert told in out
    assert "CHANGED" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", SMALL, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert end.value.code == 0
    assert told["changed"] == 0
    assert [each["counted"] for each in told["figures"]] == [13_187_464, 1_601_508_352]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("params: 13187464", "params: 13M", "published[0].params: expected a whole number"),
        ("image: 224", "image: [224]", "published[0].image: expected a side, or height and width"),
        ("image: 224", "imag: 224", "did you mean 'image'"),
        ("flops: 1601508352", "flops: 1601508352, convention: binry", "did you mean 'binary'"),
        ("flops: 1601508352", "flops: 1601508352, printed: {flops: 1.6}", "as it is printed, such as 19.7M"),
        ("flops: 1601508352", "flops: 1601508352, printed: {flops: 0.0G}", "as it is printed, such as 19.7M"),
        ("{task: classify, ", "{", "published[0]: has no task"),
        ("task: classify, ", "task: classfy, ", "task 'classfy' does not exist; did you mean 'classify'?"),
    ],
)
def test_a_wrong_entry_says_where(before: str, after: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(shipped("spaces/nets", SMALL).read_text().replace(before, after))
    with pytest.raises(InputError) as error:
        list(figures_of(str(file)))
    assert words in str(error.value)


def test_a_space_publishes_nothing() -> None:
    text = shipped("spaces", "hrvit").read_text()
    with pytest.raises(InputError, match="key 'published' does not exist"):
        Space.parse(f"published: []\n{text}")


def test_rounded() -> None:
    assert [rounded(2.6996e9, "2.7G"), rounded(19_685_152, "19.7M"), rounded(219.3e9, "219G")] == [
        "2.7G",
        "19.7M",
        "219G",
    ]
