"""The real command, end to end, on a tiny space with tiny budgets."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inside import inside
from test_planning import UNEVEN
from typer.main import get_command

from hrsearch.cli import app, image_of, main
from hrsearch.errors import InputError
from hrsearch.study import read_study

SPACE = """
task: segment
knobs:
  width1: [8, 16]
  width2: [16, 32]
  window2: [1, 2, 4]
  ratio2: [1, 2, 3]
net:
  blocks:
    fine: {kind: cross, window: 1, head_dim: 8, ratio: 2}
    coarse: {kind: cross, window: $window2, head_dim: 8, ratio: $ratio2}
  stages:
    - {link: conv_stem, channels: 8, stride: 4}
    - {link: hrvit, channels: [$width1], depth: 1, block: fine, norm: layer}
    - {link: hrvit, channels: [$width1, $width2], depth: 1, block: [fine, coarse], norm: layer}
  head: {kind: segformer, width: 16}
"""
RUNNER = """
proxy: {image: 32, batch: 8, steps: 4, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.2}
engine: {kind: processes, workers: 2, timeout_s: 120}
"""
LAPTOP = Path(__file__).parents[1] / "reports/hrvit-laptop"
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
QUIET = {"run", "plan", "report", "measure", "calibrate", "finalize", "export", "train"}  # those that take a while


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a runner and a study of six candidates, killed half-way and resumed."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(SPACE)
    (folder / "quick.yaml").write_text(RUNNER)
    process = subprocess.Popen(command("run", "tiny.yaml", "--runner", "quick.yaml", "--budget", "6"), cwd=folder)
    wait_for(lambda: sum(state == "trained" for state in states(folder)) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hrsearch", *arguments]


def hrsearch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, check=False, timeout=200)


def states(folder: Path) -> list[str]:
    try:
        return [trial.state for trial in read_study(folder / "studies" / "tiny").trials]
    except (InputError, KeyError):
        return []


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_killed_search_resumes_to_its_budget(home: Path) -> None:
    before = [trial for trial in read_study(home / "studies/tiny").trials if trial.state == "trained"]
    done = hrsearch(home, "run", "tiny.yaml", "--runner", "quick.yaml", "--budget", "6")
    assert done.returncode == 0, done.stderr
    record = read_study(home / "studies/tiny")
    assert [trial.state for trial in record.trials] == ["trained"] * 6
    assert len({trial.attributes["digest"] for trial in record.trials}) == 6
    for trial in before:  # what was finished was not trained again
        assert record.trial(trial.number).attributes["score"] == trial.attributes["score"]
    assert (home / "studies/tiny/report.html").is_file()
    assert (home / "studies/tiny/trials.csv").read_text().count("\n") == 7


def test_a_finished_search_says_so(home: Path) -> None:
    done = inside(home, "run", "tiny.yaml", "--runner", "quick.yaml", "--budget", "6")
    assert done.returncode == 0
    assert "6 of 6 candidates are done" in done.stdout


def test_what_a_search_says_to_do_next_finds_a_study_of_any_folder(home: Path) -> None:
    shutil.copytree(home / "studies/tiny", home / "out/my study")
    asked = ("run", "tiny.yaml", "--runner", "quick.yaml", "--budget", "6", "--name", "out/my study")
    [said] = re.findall(r"^winner:  hrsearch (.*)$", inside(home, *asked).stdout, re.MULTILINE)
    assert said == "export 'out/my study' --pick knee --to winner/"
    done = inside(home, *shlex.split(said)[:-1], "next")
    assert done.returncode == 0, done.stderr


def test_another_protocol_is_another_study(home: Path) -> None:
    (home / "longer.yaml").write_text(RUNNER.replace("steps: 4", "steps: 5"))
    done = inside(home, "run", "tiny.yaml", "--runner", "longer.yaml", "--budget", "6")
    assert done.returncode == 2
    assert "runner.proxy.steps is 4 there and 5 here" in done.stderr


@pytest.mark.long
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(home: Path) -> None:
    process = subprocess.Popen(
        command("run", "tiny.yaml", "--runner", "quick.yaml", "--budget", "20", "--name", "stopped"),
        cwd=home, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    journal = home / "studies/stopped/study.journal"
    wait_for(lambda: journal.is_file() and "running" in _states(journal.parent), process)  # type: ignore[arg-type]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on" in errors
    assert "Traceback" not in errors


def _states(folder: Path) -> list[str]:
    try:
        return [trial.state for trial in read_study(folder).trials]
    except (InputError, KeyError):
        return []


def test_a_winner_is_exported_and_trains(home: Path) -> None:
    done = inside(home, "export", "tiny", "--pick", "knee", "--to", "winner")
    assert done.returncode == 0, done.stderr
    assert {"arch.yaml", "weights.safetensors", "train.yaml", "numbers.json", "README.md"} <= set(
        os.listdir(home / "winner")
    )
    trained = hrsearch(home, "train", "winner", "--data", "digits", "--steps", "4")
    assert trained.returncode == 0, trained.stderr
    assert "mIoU" in trained.stdout
    again = hrsearch(home, "train", "winner", "--data", "digits", "--steps", "4", "--json")
    assert json.loads(again.stdout)["steps"] == 4
    shown = inside(home, "show", "winner/arch.yaml", "--image", "64", "--classes", "11", "--json")
    numbers = json.loads((home / "winner/numbers.json").read_text())
    assert json.loads(shown.stdout)["flops"] == numbers["flops"]


@pytest.mark.parametrize("option", ["--pick", "--on", "--storage"])
def test_a_winner_is_exported_without_a_choice(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is for a study alone is not passed over in silence."""
    for name in ("arch.yaml", "numbers.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path), option, "knee", "--to", str(tmp_path / "product")])
    said = f"hrsearch: {option}: is for a study, but {tmp_path} is the folder of one winner; leave it out\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


def test_an_export_without_weights_says_so(home: Path) -> None:
    """As of a report's study, of which the journal alone is handed on."""
    (home / "copied").mkdir()
    shutil.copy(home / "studies/tiny/study.journal", home / "copied")
    done = hrsearch(home, "export", "copied", "--to", "bare", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(
        "hrsearch: its weights do not lie in copied/weights: a study keeps those of its front"
    )
    assert done.stderr.count("\n") == 1
    assert not (home / "bare/weights.safetensors").exists()
    assert "none of this trial lay beside the study" in (home / "bare/README.md").read_text()
    spaced = inside(home, "export", "copied", "--to", "with space")
    assert "train it with: hrsearch train 'with space'\n" in spaced.stdout
    nowhere = inside(home, "export", "copied", "--to", "/proc/winner")
    assert (nowhere.returncode, nowhere.stderr) == (
        2, "hrsearch: --to /proc/winner: no folder can be made there; give another place\n",
    )  # fmt: skip


def test_a_report_refuses_what_it_cannot_do(home: Path) -> None:
    for asked, words in ((("--serve", "--json"), "--serve writes no file"), (("--to", "x/trials.csv"), "another name")):
        done = inside(home, "report", "tiny", *asked)
        assert done.returncode == 2
        assert words in done.stderr
    assert not (home / "x").exists()


def test_a_report_is_written_again(home: Path) -> None:
    (home / "studies/tiny/report.html").unlink()
    assert inside(home, "report", "tiny").returncode == 0
    assert "<html" in (home / "studies/tiny/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "absent.yaml"], "no such file"),
        (["run", "hrvit", "--runner", "absent"], "no such file"),
        (["run", "hrvit", "--runner", "smoke", "--limit", "speed=3"], "objective 'speed' does not exist"),
        (["run", "hrvit", "--runner", "smoke", "--objective", "speed"], "objective 'speed' does not exist"),
        (["run", "hrvit", "--runner", "smoke", "--budget", "0"], "at least 1 candidate"),
        (["run", "hrvit", "--runner", "smoke", "--data", "absent"], "absent"),
        (["show", "hrvit_b9"], "did you mean 'hrvit_b3'"),
        (["show", "hrvit_b1", "--image", "big"], "--image 'big' cannot be read"),
        (["show", "hrvit_b1", "--task", "pose"], "no head for task 'pose'"),
        (["run", "hrvit", "--runner", "smoke", "--task", "poses"], "task 'poses' does not exist; did you mean 'pose'"),
        (["check", "hrvit", "--task", "label"], "task 'label' does not exist; choose from segment, classify, pose"),
        (["sample", "hrvit", "--task", ""], "task '' does not exist"),
        (["watch", "absent", "--every", "inf"], "'--every'"),
        (["watch", "absent", "--every", "nan"], "'--every'"),
        (["report", "absent"], "holds no study"),
        (["export", "absent"], "holds no study"),
        (["train", "absent"], "absent"),
        (["report", "hrvit", "--limit", "3"], "No such option: --limit; see hrsearch report --help"),
        (["run", "hrvit", "--bugdet", "3"], "(Possible options: --budget, --quiet)"),
        (["run", "hrvit", "--budget", "many"], "'--budget': Input should be a valid integer"),
        (["run", "hrvit", "--budget", "many"], "but got 'many'"),
        (["run"], "Missing argument 'SPACE'; see hrsearch run --help"),
        (["rnu"], "Did you mean 'run'? see hrsearch --help"),
        (["schema", "runer"], "did you mean 'runner'?"),
        (["run", "hrvit", "--runner", "smoke", "--name", "/dev/null/study"], "/dev/null/study: not a directory; give"),
        (["export", str(LAPTOP), "--to", "/dev/null/winner"], "/dev/null/winner: not a directory; give another place"),
        (["report", str(LAPTOP), "--to", "."], ".: is a folder; give a file, such as report.html"),
        (
            ["compare", str(LAPTOP), str(LAPTOP.with_name("hrvit-again")), "--to", ".."],
            "..: is a folder; give a file, such as ../report.html",
        ),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    errors = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in errors
    assert errors.count("\n") == 1


def test_a_space_says_by_what_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text("runners: {cpu: quick.yaml, cuda: quick.yaml}\n" + SPACE)
    (tmp_path / "quick.yaml").write_text(RUNNER)
    with pytest.raises(SystemExit) as ended:
        main(["run", "tiny.yaml", "--budget", "1"])
    assert ended.value.code == 0
    assert "judged as tiny.yaml asks for, by quick; --runner takes another" in capsys.readouterr().err
    assert read_study(tmp_path / "studies/tiny").attributes["runner"]["proxy"]["steps"] == 4


def test_memory_that_runs_out_where_nothing_is_searched_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mapped(place: Path) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.chdir(home)
    monkeypatch.setattr("hrsearch.proxy.data.dataset._read", mapped)
    with pytest.raises(SystemExit) as ended:
        main(["plan", "tiny.yaml", "--runner", "quick.yaml", "--budget", "3"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "hrsearch: out of memory ([Errno 12] Cannot allocate memory)\n"


def test_check_tells_what_a_space_holds(home: Path) -> None:
    done = hrsearch(home, "check", "tiny.yaml", "-n", "60", "--image", "64")
    assert "36 settings of the knobs; 60 drawn at random" in done.stdout
    assert "0 refused (0.0 %)" in done.stdout


def test_sample_prints_networks_that_show_reads(home: Path) -> None:
    printed = inside(home, "sample", "tiny.yaml", "-n", "1", "--seed", "3").stdout
    (home / "drawn.yaml").write_text(printed)
    assert inside(home, "show", "drawn.yaml").returncode == 0
    both = json.loads(hrsearch(home, "sample", "tiny.yaml", "-n", "2", "--seed", "3", "--json").stdout)
    assert both[0]["digest"] in printed


def test_sample_prints_what_can_be_built_alone(tmp_path: Path) -> None:
    (tmp_path / "uneven.yaml").write_text(UNEVEN.replace("15, 17", "15, 16"))
    drawn = json.loads(inside(tmp_path, "sample", "uneven.yaml", "-n", "9", "--json").stdout)
    assert {one["setting"]["width"] for one in drawn} == {16}
    (tmp_path / "uneven.yaml").write_text(UNEVEN)
    done = inside(tmp_path, "sample", "uneven.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "networks drawn can be built, the last one: block 'cross': even channels" in done.stderr


@pytest.mark.parametrize(("task", "metric"), [("classify", "top-1"), ("pose", "PCK@0.1")])
def test_other_tasks_go_the_whole_road(home: Path, task: str, metric: str) -> None:
    """Searched, reported, exported and trained, from a space whose own task is another one."""
    bare = "\n".join(line for line in SPACE.splitlines() if "head:" not in line)
    (home / "bare.yaml").write_text(bare)
    (home / "inline.yaml").write_text(RUNNER.replace("kind: processes", "kind: inline"))
    asked = ("bare.yaml", "--task", task)
    done = inside(home, "run", *asked, "--runner", "inline.yaml", "--budget", "2")
    assert done.returncode == 0, done.stderr
    assert metric in done.stdout
    record = read_study(home / f"studies/bare_{task}")
    assert record.attributes["task"] == task
    assert [trial.attributes["score"]["metric"] for trial in record.trials] == [metric] * 2
    assert metric in (home / f"studies/bare_{task}/report.html").read_text()
    assert inside(home, "export", f"bare_{task}", "--pick", "best", "--to", task).returncode == 0
    done = inside(home, "train", task, "--steps", "4")
    assert done.returncode == 0, done.stderr
    assert f"{metric} 0." in done.stdout
    assert metric.lower() in (home / task / "run/metrics.csv").read_text().splitlines()[0].split(",")
    drawn = json.loads(inside(home, "sample", *asked, "--json").stdout)
    assert drawn[0]["arch"]["head"]["kind"] == task
    assert inside(home, "check", *asked, "-n", "5", "--image", "64").returncode == 0


def test_every_command_answers_machines_in_the_same_way() -> None:
    for name, each in COMMANDS.items():
        options = {option for parameter in each.params for option in parameter.opts}
        assert "--json" in options
        assert ("--quiet" in options) == (name in QUIET)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_it_understands(name: str) -> None:
    head, *lines = COMMANDS[name].epilog.splitlines()
    assert (head, 1 <= len(lines) <= 3) == ("Examples:", True)
    for line in lines:
        assert len(line) < 80  # a terminal's width
        called, command_name, *arguments = shlex.split(line)
        assert (called, command_name) == ("hrsearch", name)
        COMMANDS[name].make_context(name, arguments)
    for parameter in COMMANDS[name].params:  # arguments are spelt alike
        assert parameter.param_type_name == "option" or parameter.metavar.isupper()


def test_without_a_command_it_helps_and_it_knows_its_version(tmp_path: Path) -> None:
    alone, version = inside(tmp_path), inside(tmp_path, "--version")
    assert (alone.returncode, version.returncode) == (0, 0)
    assert "Usage: hrsearch" in alone.stdout
    assert version.stdout.startswith("hrsearch ")


def test_the_shell_completes_commands_and_options(home: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    shown = subprocess.run(
        [bash, "-c", f"{shlex.join(command('--show-completion'))}; true"],  # asked from within the shell it is for
        cwd=home, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "_HRSEARCH_COMPLETE=complete_bash" in shown
    for typed, completed in (("hrsearch exp", "export"), ("hrsearch run --ho", "--hours")):
        asked = {"_HRSEARCH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        done = subprocess.run(command(), cwd=home, capture_output=True, text=True, check=True, env=os.environ | asked)
        assert done.stdout.split() == [completed]


@pytest.mark.long
def test_quiet_says_nothing_and_json_is_all_of_stdout(home: Path) -> None:
    again = ("run", "tiny.yaml", "--runner", "quick.yaml", "--name", "silent", "--budget", "2")
    silent = hrsearch(home, *again, "--quiet")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    third = hrsearch(home, *again[:-1], "3", "--json")
    assert re.search(r"3/3 \[\d\d:\d\d, about 0 s left, 0 running", third.stderr)
    told = json.loads(third.stdout)
    assert told["trials"]["trained"] == 3
    assert {one["trial"] for one in told["front"]} <= set(range(99))
    assert set(told["front"][0]) == {"trial", "score", "flops", "latency", "params"}
    written = json.loads(hrsearch(home, "report", "silent", "--json").stdout)
    assert (home / written["report"]).is_file()


@pytest.mark.long
def test_hours_alone_end_a_search(home: Path) -> None:
    """The bar then has no total."""
    done = hrsearch(home, "run", "tiny.yaml", "--runner", "quick.yaml", "--name", "hours", "--hours", "0.0005")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "the hours are spent" in done.stdout
    assert re.search(r"\d/\? \[\d\d:\d\d, about \d s left", done.stderr)


def test_no_color_is_kept_to(home: Path) -> None:
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        asked = {**os.environ, **colours, **more}
        done = subprocess.run(command("run", "--help"), cwd=home, capture_output=True, check=True, env=asked)
        assert (b"\x1b[1;3" in done.stdout) == coloured


def test_image() -> None:
    assert image_of("512") == (512, 512)
    assert image_of("1024x512") == (1024, 512)
