"""hrsearch show NAME --weights FILE: a file of released weights fits the network, or says what does not."""

import json
from pathlib import Path

import pytest
import torch
from recipe import recipe_weights
from safetensors.torch import save_file
from torch import Tensor

from hrsearch.build import build
from hrsearch.cli import main
from hrsearch.errors import InputError
from hrsearch.released.file import family_of, read_weights
from hrsearch.space import load_arch


def weights_of(name: str, family: str) -> dict[str, Tensor]:
    return recipe_weights(build(load_arch(name)), family)


def shown(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["show", *arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier as HRViT's authors would release it."""
    path = tmp_path_factory.mktemp("weights") / "hrvit_b1.pth"
    torch.save({"state_dict": weights_of("hrvit_b1", "hrvit")}, path)
    return path


def test_a_torch_file_fits(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("hrvit_b1", "--weights", str(file)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{file}: 1559 of 1559 tensors loaded as hrvit"


def test_another_head_keeps_its_weights(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("hrvit_b1", "--weights", str(file), "--task", "segment", "--classes", "19", "--json") == 0
    told = json.loads(capsys.readouterr().out)["weights"]
    assert told["loaded"] < told["tensors"]
    assert not told["head"]


def test_a_safetensors_file_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hrformer_t.safetensors"
    save_file({key: each.contiguous() for key, each in weights_of("hrformer_t", "hrformer").items()}, path)
    assert shown("hrformer_t", "--weights", str(path), "--family", "hrformer") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("tensors loaded as hrformer")


def test_a_file_that_does_not_fit_says_which_keys(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("hrvit_b1", "--weights", str(file), "--classes", "10") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "head.classifier.weight has shape [1000, 2048], the network needs [10, 2048]" in err


def test_a_file_of_another_family_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("hrformer_t", "--weights", str(file)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "weights do not fit this hrformer network: missing conv1.weight [64, 3, 3, 3]" in err


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_without_weights_is_an_input_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("no weights")
    with pytest.raises(InputError, match="weights"):
        read_weights(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(path.with_stem("absent"))


def test_a_file_that_is_cut_off_is_an_input_error(tmp_path: Path) -> None:
    """As torch wrote them before 1.6, some released weights among them."""
    path = tmp_path / "weights.pth"
    torch.save({"conv.weight": torch.zeros(64)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"weights.pth: (no file of weights alone|cannot be read)"):
            read_weights(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": Path("b")}, path)
    with pytest.raises(InputError, match="no file of weights alone"):
        read_weights(path)


def test_the_family_stands_in_the_name() -> None:
    assert [family_of(name) for name in ("hrvit_b1", "nets/hrnet_w18.yaml")] == ["hrvit", "hrnet"]
    with pytest.raises(InputError, match="add --family"):
        family_of("winner.yaml")
