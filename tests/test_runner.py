from pathlib import Path
from typing import get_args

import pytest

from hrsearch.document import shipped_folder
from hrsearch.errors import InputError
from hrsearch.runner import Runner, Search, load_runner
from hrsearch.search.samplers import SAMPLERS


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped_folder("runners").glob("*.yaml")))
def test_shipped_runners_load_and_open_with_their_command(name: str) -> None:
    load_runner(name)
    assert f"runners/{name}.yaml" in (shipped_folder("runners") / f"{name}.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy:\n  steps: -3\n", "r.yaml:2: proxy.steps: it should be greater than 0, but got -3"),
        ("proxy: {steps: 25}\n", "25 steps are too few for 30 of warm-up; warmup: 16 fits"),
        ("proxy: {steps: 25, warmup: 25, schedule: cosine}\n", "for 25 of warm-up; warmup: 24 fits"),
        (
            "proxy: {steps: 90, rungs: [30]}\n",
            "the first rung's 30 steps are too few for 30 of warm-up; warmup: 19 fits",
        ),
        ("proxy:\n  stps: 3\n", "r.yaml:2: proxy.stps: key 'stps' does not exist; did you mean 'steps'?"),
        ("proxi: {}\n", "r.yaml:1: proxi: key 'proxi' does not exist; did you mean 'proxy'?"),
        ("search: {limits: [speed=3]}\n", "r.yaml:1: search.limits: objective 'speed' does not exist"),
        ("search: {objectives: [score, score]}\n", "each objective once"),
        (
            "engine:\n  address: auto\n",
            "engine.address: it is for kind ray, not for processes, but got 'auto'",
        ),
        ("engine:\n  kind: slrum\n", "r.yaml:2: engine.kind: engine 'slrum' does not exist; did you mean 'slurm'?"),
        ("engine: {kind: ray, address: 'ray://x:1'}\n", "start the search on a machine of the cluster and write auto"),
        ("engine: {kind: ray, options: {mem_gb: 3}}\n", "engine.options: it is for kind slurm, not for ray"),
        ("search:\n  sampler: nsga\n", "r.yaml:2: search.sampler: it should be 'evolve', 'gp', 'nsga2', 'nsga3',"),
        ("engine: {kind: slurm}\n", "engine.workers: it should say how many jobs at a time, but got 0"),
        ("engine: {kind: slurm, workers: 1, gpus: 0.5}\n", "engine.gpus: SLURM gives whole ones, but got 0.5"),
        (
            "engine: {timeout_s: 2592000}\n",
            "engine.timeout_s: it should be less than or equal to 2000000, but got 2592000",
        ),
        ("engine: {timeout_s: .inf}\n", "engine.timeout_s: it should be a finite number, but got inf"),
        ("engine: {timeout_s: .nan}\n", "engine.timeout_s: it should be a finite number, but got nan"),
        ("- 3\n", "expected a mapping"),
        ("proxy: {steps: 3, steps: 4}\n", "proxy.steps is given twice"),
    ],
)
def test_a_wrong_runner_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_runner(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_runner_takes_every_sampler() -> None:
    assert set(get_args(Search.model_fields["sampler"].annotation)) == set(SAMPLERS)


def test_a_missing_runner_names_what_exists() -> None:
    with pytest.raises(InputError, match="did you mean 'laptop'"):
        load_runner("laptob")


def test_a_runner_says_again_what_it_was_told() -> None:
    """Defaults that are written out, as a study keeps them, are no options of another kind."""
    runner = Runner.model_validate({"engine": {"kind": "ray", "gpus": 0.5, "address": "auto"}})
    assert Runner.model_validate(runner.model_dump(mode="json")) == runner
    assert Runner.model_validate(Runner().model_dump()) == Runner()
