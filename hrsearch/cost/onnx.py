"""Engine `onnx`: onnxruntime on the CPU, float32, after torch's export; onnxruntime folds the batch norms."""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hrsearch.errors import CandidateFailed, InputError, OutOfMemory
from hrsearch.registry import ENGINES

OPSET = 17  # the first with layer norms
OUTPUT = ["prediction"]
NEEDED = "engine 'onnx' needs {}; pip install onnx onnxruntime onnxscript"


@ENGINES.add("onnx")
def onnx(network: nn.Module, example: torch.Tensor) -> Callable[[], object]:
    """One run of the exported network; an InputError where onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(NEEDED.format(error.name)) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = onnx_of(network, example)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        raise _refused(error) from error
    feed = {session.get_inputs()[0].name: example.numpy()}

    def run() -> object:
        try:
            return session.run(None, feed)
        except Exception as error:
            raise _refused(error) from error

    return run


def _refused(error: Exception) -> CandidateFailed:
    """What onnxruntime says when it cannot load or run a network, in one line; that memory ran out is known by it."""
    words = " ".join(str(error).split())[:200]
    kind = OutOfMemory if "allocate" in words or "bad_alloc" in words else CandidateFailed
    return kind(f"onnxruntime cannot run it: {words}")


def onnx_of(network: nn.Module, example: torch.Tensor | list[torch.Tensor], *, any_batch: bool = False) -> bytes:
    """The network as an ONNX model for images of the shape of `example`, named "image"; or a part of one, for maps.

    With `any_batch` (of images, two in the example) for batches of any size, whose output is named "prediction"; that
    tracing has found all that depends on the batch is for the caller to check.

    By tracing: six times as fast as by torch's newer exporter (2.4 against 15 CPU-seconds for a network of a search),
    to a graph that onnxruntime runs equally fast. That one comes to help where tracing knows no way (pooling to a side
    that does not divide the map's). What neither can export is a CandidateFailed.
    """
    ready = copy.deepcopy(network).cpu().eval()
    names = ["image"] if isinstance(example, torch.Tensor) else [f"map{index}" for index in range(len(example))]
    try:
        with _quiet(), torch.no_grad():
            try:
                return _traced(ready, example, names, any_batch)
            except (torch.onnx.errors.OnnxExporterError, RuntimeError):
                return _exported(ready, example, names, any_batch)
    except ImportError as error:
        raise InputError(NEEDED.format(error.name)) from None
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise CandidateFailed(f"no export to ONNX: {error}") from error


def _traced(ready: nn.Module, example: torch.Tensor | list[torch.Tensor], names: list[str], any_batch: bool) -> bytes:
    written = io.BytesIO()
    torch.onnx.export(
        ready,
        (example,),
        written,  # type: ignore[arg-type]  # a file is as good as a path
        dynamo=False,
        opset_version=OPSET,
        input_names=names,
        output_names=OUTPUT if any_batch else None,
        dynamic_axes={name: {0: "batch"} for name in (*names, *OUTPUT)} if any_batch else None,
        do_constant_folding=not any_batch,  # prints a line for everything that it cannot fold; onnxruntime folds, too
    )
    return written.getvalue()


def _exported(ready: nn.Module, example: torch.Tensor | list[torch.Tensor], names: list[str], any_batch: bool) -> bytes:
    program = torch.onnx.export(
        ready,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=names,
        output_names=OUTPUT if any_batch else None,
        dynamic_shapes=({0: torch.export.Dim("batch")},) if any_batch else None,
    )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of every shape that it takes for fixed, which is what is wanted here."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
