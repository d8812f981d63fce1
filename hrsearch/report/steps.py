"""How to go on from a study: exact commands."""

import shlex
from pathlib import Path

from hrsearch.pick import winners
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import study_argument
from hrsearch.search.remaining import is_over
from hrsearch.study import Record
from hrsearch.task import TASKS


def next_steps(record: Record) -> Markup:
    """The exact commands that go on from here."""
    winner = [*_winner(record)] if winners(record) else []
    going = "more --hours search on" if record.attributes.get("hours") else "a larger --budget searches on"
    hint = f"the study is complete; {going}" if is_over(record) else f"the same command finishes the study; {going}"
    again = _step("Write this page again", f"hrsearch report {study_argument(record)}", "from the study as it stands")
    steps = element("ol", winner, _step("Go on searching", _resume(record), hint), again, class_="steps")
    return element("section", element("h2", "How to go on"), steps)


def command_box(command: str) -> Markup:
    """A command with a button that copies it; it breaks between its words only."""
    button = element("button", "copy", type="button", class_="copy", aria_label=f"Copy: {command}")
    words = [(" " if index else "", element("span", word)) for index, word in enumerate(command.split(" "))]
    return element("div", element("code", words), button, class_="command")


def _winner(record: Record) -> tuple[Markup, Markup]:
    data = shlex.quote(str(record.attributes.get("runner", {}).get("proxy", {}).get("data", "digits")))
    export = f"hrsearch export {study_argument(record)} --pick knee --to winner/"
    own = TASKS[record.task].folder
    hint = f"or --data PATH: {own}" if own else "the data of the search"
    return (
        _step("Take the winner", export, "or --pick best, fastest, smallest, trial:17, 'latency<=30ms'"),
        _step("Train it", f"hrsearch train winner/ --data {data}", hint),
    )


def _resume(record: Record) -> str:
    """The command that was typed, where the study has kept it; its paths as seen from here."""
    if record.attributes.get("command"):
        return str(record.attributes["command"]).replace(f"{Path.cwd()}/", "")
    space = shlex.quote(str(record.attributes.get("space_path") or "SPACE"))
    budget = record.attributes.get("budget") or len(record.trials)
    asked = "" if record.task == "segment" else f" --task {record.task}"
    return f"hrsearch run {space}{asked} --name {study_argument(record)} --budget {budget}"


def _step(title: str, command: str, hint: str) -> Markup:
    return element("li", element("b", title), command_box(command), element("small", hint))
