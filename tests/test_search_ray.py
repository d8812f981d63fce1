"""A real Ray with several nodes on this machine: places, shares of a GPU, and deaths of workers and nodes."""

import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import toy_workers as work
from toy_search import Toy, calls_of, search

from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed, InputError, OutOfMemory
from hrsearch.runner import Engine
from hrsearch.search.engines import engine_of
from hrsearch.search.engines.setup import Elsewhere, Setup, Workers
from hrsearch.study import read_study

ray: Any = pytest.importorskip("ray")
ROOT = Path(__file__).parent.parent

# Ray's own warnings; and a cluster, which no laptop is, takes half a minute of a core.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.long]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Nodes of one CPU each, one of them with a GPU (as Ray believes); raylets are what machines are elsewhere."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])  # what is installed elsewhere
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False}
        )
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def engine(cluster: Any, **options: Any) -> dict[str, Any]:
    return {"kind": "ray", "address": cluster.address, **options}


def executor_of(cluster: Any, folder: Path, **options: Any) -> Workers:
    return engine_of(Engine.model_validate(engine(cluster, **options)), Setup(prepare=work.prepare, folder=folder))


def test_calls_deaths_and_hangs(cluster: Any, tmp_path: Path) -> None:
    with executor_of(cluster, tmp_path, timeout_s=3.0) as executor:
        assert executor.workers == 2
        dying = [executor.submit(call) for call in (work.kill_self, work.divide)]
        assert executor.submit(work.add, 2, second=3).result() == 5
        reasons = [f"{type(future.exception()).__name__}: {future.exception()}" for future in dying]
        assert reasons[0] == "CandidateFailed: worker was killed (out of memory?)"
        assert reasons[1] == "CandidateFailed: ZeroDivisionError: division by zero"
        began = time.monotonic()
        with pytest.raises(CandidateFailed, match="took longer than 3 s"):
            executor.submit(work.stay, tmp_path / "pids").result()
        assert time.monotonic() - began >= 3
        assert executor.submit(work.prepared).result()


def test_a_worker_that_ray_kills_for_its_memory_ran_out_of_memory(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that holds itself for full joins: Ray's own monitor kills what runs there."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    with executor_of(cluster, tmp_path, gpus=1, workers=2) as executor:
        staying = executor.submit(work.stay, tmp_path / "pids")
        _wait_until((tmp_path / "pids").exists)  # it has the only GPU
        node = cluster.add_node(num_cpus=1, num_gpus=1)
        with pytest.raises(OutOfMemory, match=r"^out of memory \("):
            executor.submit(work.stay, tmp_path / "killed").result()
        assert not staying.done()
        executor.shutdown(cancel_futures=True)
    cluster.remove_node(node)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_shutdown_kills(cluster: Any, tmp_path: Path) -> None:
    executor = executor_of(cluster, tmp_path, workers=3)  # one more than there is room for
    futures = [executor.submit(work.stay, tmp_path / "pids") for _ in range(4)]
    deadline = time.monotonic() + 30
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    while any(map(work.alive, map(int, (tmp_path / "pids").read_text().split()))):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_gpu_is_shared_by_fractions(cluster: Any, tmp_path: Path) -> None:
    with executor_of(cluster, tmp_path, gpus=1) as executor:
        assert executor.workers == 1
        assert executor.submit(work.gpu).result() == "0"
    with executor_of(cluster, tmp_path, gpus=0.5, cpus=0.1) as executor:
        assert executor.workers == 2
        assert [future.result() for future in [executor.submit(work.gpu, 1.0) for _ in range(2)]] == ["0", "0"]


def test_a_node_that_does_not_see_the_folder_is_told_of_at_once(cluster: Any, tmp_path: Path) -> None:
    """A node with a file system of its own where the study's folder lies, as on another machine."""
    folder = tmp_path / "toy"
    folder.mkdir()
    program, start = shutil.which("unshare"), shutil.which("ray", path=str(Path(sys.executable).parent))
    hide = f"mount -t tmpfs none {folder}"
    if not program or not start or subprocess.run([program, "-m", "sh", "-c", hide], check=False).returncode:
        pytest.skip("no file system can be hidden from a process here")
    join = f"{hide} && exec {start} start --address={cluster.address} --num-cpus=1 --block"
    node = subprocess.Popen([program, "-m", "sh", "-c", join], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_nodes(cluster, 2)
        with pytest.raises(
            InputError, match=r"cannot use the study's folder \(.*No such file.*that all machines share"
        ):
            executor_of(cluster, folder)
        assert not list(folder.iterdir())
    finally:
        node.terminate()
        node.wait()


def _wait_for_nodes(cluster: Any, count: int) -> None:
    deadline = time.monotonic() + 60
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        while sum(node["Alive"] for node in ray.nodes()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        ray.shutdown()


def test_a_folder_must_be_the_same_one(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    here, gone = Elsewhere(Path.cwd(), None), Elsewhere(tmp_path / "gone", None)
    assert here.unreachable(tmp_path / "mark") is None
    assert here.unreachable(tmp_path / "absent") == f"{tmp_path}/absent: No such file or directory"
    assert gone.unreachable(tmp_path / "mark") == f"{tmp_path}/gone: No such file or directory"


def test_what_a_cluster_does_not_have_is_one_line(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no node of the cluster has the 1 CPUs and 9 GPUs of one candidate"):
        executor_of(cluster, tmp_path, gpus=9)
    with pytest.raises(InputError, match=r"^engine\.address: no Ray cluster at 127\.0\.0\.1:1 \(") as error:
        engine_of(Engine(kind="ray", address="127.0.0.1:1"), Setup(folder=tmp_path))
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Placed(Toy):
    """The toy, which also writes down on which node it began."""

    def __call__(self, candidate: Candidate) -> Judgement:
        node = ray.get_runtime_context().get_node_id()
        with (candidate.folder / "places").open("a") as places:
            places.write(f"{node} {candidate.number}\n")
        return super().__call__(candidate)


def test_a_node_that_dies_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    """Two nodes join and one is killed while it judges: what it had finished stays, what it ran is run again."""
    nodes = [cluster.add_node(num_cpus=1, num_gpus=0) for _ in range(2)]
    folder = tmp_path / "toy"
    killed: list[tuple[int, set[int]]] = []  # the candidate that died with its node, and those finished before

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            time.sleep(0.05)
            finished = {trial.number for trial in read_study(folder).trained} if (folder / "calls").exists() else set()
            places = [line.split() for line in (folder / "places").read_text().splitlines()] if finished else []
            there = [int(number) for node, number in places if node == nodes[0].node_id and int(number) not in finished]
            if there:
                cluster.remove_node(nodes[0], allow_graceful=False)
                killed.append((there[0], finished))

    killer = threading.Thread(target=kill)
    killer.start()
    said = search(folder, 10, Placed(2.0), engine=engine(cluster))
    killer.join()
    assert said.startswith("10 of 10 candidates are done: 10 trained")
    ((lost, finished),) = killed
    times = Counter(number for number, *_ in calls_of(folder))
    assert {number for number, count in times.items() if count > 1} <= {lost}  # it may just have ended
    assert finished
    assert not times.keys() - {trial.number for trial in read_study(folder).trained}
    cluster.remove_node(nodes[1])
