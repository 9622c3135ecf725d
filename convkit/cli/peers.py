"""The engines that ``convkit bench`` is compared with, each behind the same two calls.

``prepare(problem, threads)`` loads one layer into the engine the way a user who cares about speed would
(weights packed ahead of time, inputs in place) and returns a ``Runner``, or None where the engine lacks
the operation. Everything is float32: engines that would quietly compute in 16 bits are told not to.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from convkit.cases import Case

BATCH_NORM_EPS = 1e-5
RANDOM = ("dropout", "dropout1d", "dropout2d", "dropout3d")  # operations whose results differ from call to call


@dataclass(frozen=True)
class Problem:
    """A case with its numbers; ``direction`` is "forward" or one of ``case.gradients``."""

    case: Case
    direction: str
    x: np.ndarray
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    dy: np.ndarray | None = None
    arrays: dict = field(default_factory=dict)  # the operands of case.arrays


@dataclass(frozen=True)
class Runner:
    """``run()`` is what gets timed; ``to_numpy`` turns what it returned into an array or a tuple of them."""

    run: Callable[[], Any]
    to_numpy: Callable[[Any], Any]


def _per_axis(case, value):
    return (value,) * (len(case.x) - 2) if isinstance(value, int) else tuple(value)


# ---- torch


class Torch:
    """PyTorch as its users call it: plain NCHW, weights packed anew by every call."""

    name, package = "torch", "torch"

    def prepare(self, problem, threads):
        import torch

        torch.set_num_threads(threads)
        call = _torch_call(torch, problem.case.op, problem.direction != "forward")
        if call is None:
            return None
        arrays = {name: a for name, a in vars(problem).items() if isinstance(a, np.ndarray)} | {"bias": problem.bias}
        tensors, named = ({name: None if a is None else self._layout(torch.from_numpy(a)) for name, a in these.items()}
                          for these in (arrays, problem.arrays))
        tensors["arrays"] = named
        bound = call(torch, problem.case, problem.direction, tensors)

        def run():
            with torch.inference_mode():
                return bound()

        return Runner(run, self._to_numpy)

    def _layout(self, tensor):
        return tensor

    def _to_numpy(self, out):
        if isinstance(out, (tuple, list)):
            return tuple(t.numpy() for t in out)
        return out.contiguous().numpy()


class TorchChannelsLast(Torch):
    """PyTorch at its best: all in channels_last, convolution weights packed once, as its compiler does."""

    name = "torch_cl"

    def prepare(self, problem, threads):
        if problem.x.ndim != 4 or problem.case.group in ("elementwise", "activations", "losses"):
            return None
        return self._packed_convolution(problem, threads) or super().prepare(problem, threads)

    def _packed_convolution(self, problem, threads):
        import torch

        pack = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
        if problem.case.op != "conv2d" or problem.direction != "forward" or pack is None:
            return None
        torch.set_num_threads(threads)
        case = problem.case
        x, bias = self._layout(torch.from_numpy(problem.x)), torch.from_numpy(problem.bias)
        geometry = [list(_per_axis(case, v)) for v in (case.padding, case.stride, case.dilation)]
        weight = pack(torch.from_numpy(problem.weight).to_mkldnn(), *geometry, case.groups, list(case.x))
        conv = torch.ops.mkldnn._convolution_pointwise

        def run():
            with torch.inference_mode():
                return conv(x, weight, bias, *geometry, case.groups, "none", [], "")

        return Runner(run, self._to_numpy)

    def _layout(self, tensor):
        import torch

        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _torch_conv(torch, case, direction, t):
    conv = getattr(torch.nn.functional, case.op)
    stride, padding, dilation = (_per_axis(case, v) for v in (case.stride, case.padding, case.dilation))
    rest = (0, case.groups, dilation) if "transpose" in case.op else (dilation, case.groups)
    return lambda: conv(t["x"], t["weight"], t["bias"], stride, padding, *rest)


def _torch_conv_backward(torch, case, direction, t):
    backward = torch.ops.aten.convolution_backward
    geometry = [list(_per_axis(case, v)) for v in (case.stride, case.padding, case.dilation)]
    dx = direction == "dx"
    rest = ([len(t["bias"])], *geometry, "transpose" in case.op, [0] * len(geometry[0]), case.groups,
            [dx, not dx, not dx])
    wanted = slice(0, 1) if dx else slice(1, 3)
    return lambda: backward(t["dy"], t["x"], t["weight"], *rest)[wanted]


def _torch_max_pool(torch, case, direction, t):
    pool = getattr(torch.nn.functional, case.op)
    return lambda: pool(t["x"], case.kernel, case.stride, case.padding, case.dilation)


def _torch_min_pool(torch, case, direction, t):
    pool = getattr(torch.nn.functional, case.op.replace("min", "max"))
    return lambda: pool(t["x"].neg(), case.kernel, case.stride, case.padding, case.dilation).neg()


def _torch_avg_pool(torch, case, direction, t):
    pool = getattr(torch.nn.functional, case.op)
    return lambda: pool(t["x"], case.kernel, case.stride, case.padding)


def _torch_max_pool_backward(torch, case, direction, t):
    geometry = [list(_per_axis(case, v)) for v in (case.kernel, case.stride, case.padding, case.dilation)]
    _, indices = getattr(torch.nn.functional, case.op)(t["x"], *geometry, return_indices=True)
    backward = getattr(torch.ops.aten, f"{case.op}_with_indices_backward")
    return lambda: backward(t["dy"], t["x"], *geometry, False, indices)


def _torch_avg_pool_backward(torch, case, direction, t):
    geometry = [list(_per_axis(case, v)) for v in (case.kernel, case.stride, case.padding)]
    backward = getattr(torch.ops.aten, f"{case.op}_backward")
    return lambda: backward(t["dy"], t["x"], *geometry, False, True, None)


def _torch_linear(torch, case, direction, t):
    return lambda: torch.nn.functional.linear(t["x"], t["weight"], t["bias"])


def _torch_global_pool(torch, case, direction, t):
    kind = "max" if "max" in case.op else "avg"
    pool = getattr(torch.nn.functional, f"adaptive_{kind}_pool{t['x'].ndim - 2}d")
    return lambda: pool(t["x"], 1)


def _torch_global_min(torch, case, direction, t):
    axes = tuple(range(2, t["x"].ndim))
    return lambda: torch.amin(t["x"], axes, True)


def _torch_lp_pool1d(torch, case, direction, t):
    (kernel,), (stride,) = (_per_axis(case, v) for v in (case.kernel, case.stride))  # it takes no tuples
    return lambda: torch.nn.functional.lp_pool1d(t["x"], case.options["norm_type"], kernel, stride)


def _torch_pad(torch, case, direction, t):
    options = case.options
    return lambda: torch.nn.functional.pad(t["x"], options["padding"], options["mode"])


def _torch_by_name(torch, case, direction, t):
    """Most operations have PyTorch's names, and those of their arguments."""
    function, arrays, options = getattr(torch.nn.functional, case.op), t["arrays"], case.options
    return lambda: function(t["x"], **arrays, **options)


def _torch_gradients(torch, case, direction, t):
    """Those without a function of their own, by autograd, from a forward pass that is not timed."""
    wanted = {"dx": ("x",), "dw": ("weight", "bias")}.get(direction, ("x", "weight", "bias", "other"))
    tensors = {name: a for name, a in {**t, **t["arrays"]}.items() if name in wanted and a is not None}
    leaves = [tensors[name].requires_grad_() for name in wanted
              if name in tensors and tensors[name].is_floating_point()]
    y = _torch_call(torch, case.op, False)(torch, case, "forward", t)()
    return lambda: torch.autograd.grad(y, leaves, t["dy"], retain_graph=True)


def _torch_call(torch, op, backward):
    """What makes the call, or None if there is none in PyTorch."""
    if (op, backward) in _TORCH_CALLS:
        return _TORCH_CALLS[op, backward]
    if backward:
        return _torch_gradients if _torch_call(torch, op, False) else None
    return _torch_by_name if hasattr(torch.nn.functional, op) else None


_TORCH_CALLS = {  # (operation, backward?)
    **{(f"conv{kind}{rank}d", False): _torch_conv for kind in ("", "_transpose") for rank in (1, 2, 3)},
    **{(f"conv{kind}{rank}d", True): _torch_conv_backward for kind in ("", "_transpose") for rank in (1, 2, 3)},
    **{(f"max_pool{rank}d", False): _torch_max_pool for rank in (1, 2, 3)},
    **{(f"min_pool{rank}d", False): _torch_min_pool for rank in (1, 2, 3)},
    **{(f"avg_pool{rank}d", False): _torch_avg_pool for rank in (1, 2, 3)},
    **{(f"max_pool{rank}d", True): _torch_max_pool_backward for rank in (2, 3)},  # 1-d is 2-d inside
    **{(f"avg_pool{rank}d", True): _torch_avg_pool_backward for rank in (2, 3)},
    ("linear", False): _torch_linear,
    ("global_avg_pool", False): _torch_global_pool,
    ("global_max_pool", False): _torch_global_pool,
    ("global_min_pool", False): _torch_global_min,
    ("lp_pool1d", False): _torch_lp_pool1d,
    ("flatten", False): lambda torch, case, direction, t: lambda: torch.flatten(t["x"], 1),
    ("concat", False): lambda torch, case, direction, t: lambda: torch.cat((t["x"], *t["arrays"].values()), 1),
    ("add", False): lambda torch, case, direction, t: lambda: t["x"] + t["arrays"]["other"],
    ("pad", False): _torch_pad,
    ("embedding", False): lambda torch, case, direction, t: (
        lambda: torch.nn.functional.embedding(t["x"], t["weight"])),
    ("relu", False): lambda torch, case, direction, t: lambda: torch.relu(t["x"]),
    ("softmax", False): lambda torch, case, direction, t: lambda: torch.softmax(t["x"], -1),
    ("log_softmax", False): lambda torch, case, direction, t: lambda: torch.log_softmax(t["x"], -1),
}


# ---- engines that take a one-node ONNX model


def _onnx_node(case):
    """Operator, attributes and names of the constant inputs; None where ONNX has no single such operator."""
    more = dict(case.more)
    pads, strides, dilations = (_per_axis(case, v) for v in (case.padding, case.stride, case.dilation))
    window = {"strides": strides, "pads": pads * 2}
    if case.op.startswith("conv"):
        operator = "ConvTranspose" if "transpose" in case.op else "Conv"
        return operator, {**window, "dilations": dilations, "group": case.groups}, ("weight", "bias")
    if case.op.startswith("max_pool"):
        return "MaxPool", {**window, "dilations": dilations, "kernel_shape": case.kernel}, ()
    if case.op.startswith("avg_pool") and case.kernel == case.x[2:]:
        return "GlobalAveragePool", {}, ()
    if case.op.startswith("avg_pool"):
        return "AveragePool", {**window, "kernel_shape": case.kernel, "count_include_pad": 1}, ()
    return {
        "global_avg_pool": ("GlobalAveragePool", {}, ()),
        "global_max_pool": ("GlobalMaxPool", {}, ()),
        **dict.fromkeys(("lp_pool1d", "lp_pool2d", "lp_pool3d"),
                        ("LpPool", {"kernel_shape": case.kernel, "strides": strides, "p": more.get("norm_type")}, ())),
        "global_min_pool": ("ReduceMin", {"axes": list(range(2, len(case.x)))}, ()),
        "concat": ("Concat", {"axis": 1}, ("other",)),
        "add": ("Add", {}, ("other",)),
        "layer_norm": ("LayerNormalization", {"axis": -1}, ("weight", "bias")),
        "local_response_norm": ("LRN", {"size": more.get("size"), "alpha": more.get("alpha"), "beta": more.get("beta"),
                                        "bias": more.get("k")}, ()),
        "pixel_shuffle": ("DepthToSpace", {"blocksize": more.get("upscale_factor"), "mode": "CRD"}, ()),
        "leaky_relu": ("LeakyRelu", {"alpha": more.get("negative_slope")}, ()),
        "hardswish": ("HardSwish", {}, ()),
        "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6}, ()),
        "selu": ("Selu", {}, ()),
        "softplus": ("Softplus", {}, ()),
        "elu": ("Elu", {}, ()),
        "sigmoid": ("Sigmoid", {}, ()),
        "tanh": ("Tanh", {}, ()),
        "linear": ("Gemm", {"transB": 1}, ("weight", "bias")),
        "relu": ("Relu", {}, ()),
        "batch_norm": ("BatchNormalization", {"epsilon": BATCH_NORM_EPS},
                       ("weight", "bias", "running_mean", "running_var")),
        "softmax": ("Softmax", {"axis": -1}, ()),
        "log_softmax": ("LogSoftmax", {"axis": -1}, ()),
    }.get(case.op)


def one_node_model(problem):
    """The serialised ONNX model of a forward problem, or None."""
    node = _onnx_node(problem.case) if problem.direction == "forward" else None
    if node is None:
        return None
    from onnx import TensorProto, helper, numpy_helper

    operator, attributes, constants = node
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *constants], ["y"], **attributes)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, problem.x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array({**vars(problem), **problem.arrays}[name], name) for name in constants],
    )
    # Version 17 of the operators is old enough for every engine here and new enough for all attributes used.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


class OnnxRuntime:
    name, package = "onnxruntime", "onnxruntime"

    def prepare(self, problem, threads):
        model = one_node_model(problem)
        return None if model is None else self.load(model, problem.x, threads)

    @staticmethod
    def load(model, x, threads):
        """A serialised ONNX model of one input, "x", and one output, "y"."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
        binding.bind_output("y")
        session.run_with_iobinding(binding)
        y = binding.get_outputs()[0]
        binding.bind_ortvalue_output("y", y)
        return Runner(lambda: session.run_with_iobinding(binding), lambda _: y.numpy())


class OpenVino:
    name, package = "openvino", "openvino"

    def prepare(self, problem, threads):
        model = one_node_model(problem)
        return None if model is None else self.load(model, problem.x, threads)

    def load(self, model, x, threads):
        """A serialised ONNX model of one input and one output."""
        import openvino as ov

        core = self._core()
        compiled = core.compile_model(core.read_model(model), "CPU", {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",  # it would choose bfloat16 by itself where the CPU has it
        })
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))

        def run(_compiled=compiled):  # the request does not keep its model alive
            request.infer()

        return Runner(run, lambda _: request.get_output_tensor().data.copy())

    @staticmethod
    @cache
    def _core():
        """One for the life of the process: each new one moves the thread's signal stack, and freeing them in another
        order than last in, first out leaves it at freed memory, so that the next Ctrl-C is a segmentation fault."""
        import openvino as ov

        return ov.Core()


# ---- ncnn


class Ncnn:
    name, package = "ncnn", "ncnn"

    def prepare(self, problem, threads):
        layer = _ncnn_layer(problem) if problem.direction == "forward" else None
        if layer is None:
            return None
        import ncnn

        kind, parameters, blobs = layer
        net = ncnn.Net()
        options = net.opt
        options.num_threads = threads
        for name in dir(options):
            if name.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
                setattr(options, name, False)
        line = " ".join(f"{key}={value}" for key, value in parameters.items())
        net.load_param_mem(f"7767517\n2 2\nInput x 0 1 x\n{kind} y 1 1 x y {line}\n")
        with tempfile.TemporaryDirectory() as folder:  # its Python interface reads weights from files only
            path = os.path.join(folder, "layer.bin")
            Path(path).write_bytes(b"".join(blobs))
            net.load_model(path)
        flat = problem.case.op in ("linear", "softmax")
        whole_map = problem.case.kernel is not None and problem.case.kernel == problem.case.x[2:]
        inputs = [ncnn.Mat(np.ascontiguousarray(item)).clone() for item in problem.x]  # it has no batch axis

        def run():
            outputs = []
            for item in inputs:
                extractor = net.create_extractor()
                extractor.input("x", item)
                outputs.append(extractor.extract("y")[1])
            return outputs

        def to_numpy(outputs):
            y = np.stack([np.array(y).reshape(-1) if flat else np.array(y) for y in outputs])
            return y[:, :, None, None] if whole_map else y

        return Runner(run, to_numpy)


def _ncnn_layer(problem):
    case = problem.case
    if len(case.x) == 4:
        (stride_h, stride_w), (pad_h, pad_w), (dil_h, dil_w) = (
            _per_axis(case, v) for v in (case.stride, case.padding, case.dilation))
    float32_tag = b"\0\0\0\0"
    if case.op == "conv2d":
        c_out, _, kh, kw = case.weight
        parameters = {0: c_out, 1: kw, 11: kh, 2: dil_w, 12: dil_h, 3: stride_w, 13: stride_h}
        parameters.update({4: pad_w, 14: pad_h, 5: 1, 6: problem.weight.size})
        if case.groups > 1:
            parameters[7] = case.groups
        kind = "Convolution" if case.groups == 1 else "ConvolutionDepthWise"
        return kind, parameters, (float32_tag, problem.weight.tobytes(), problem.bias.tobytes())
    if case.op in ("max_pool2d", "avg_pool2d"):
        kh, kw = case.kernel
        average = int(case.op == "avg_pool2d")
        parameters = {0: average, 1: kw, 11: kh, 2: stride_w, 12: stride_h, 3: pad_w, 13: pad_h, 5: 1, 6: 1}
        if case.kernel == case.x[2:]:
            parameters[4] = 1
        return "Pooling", parameters, ()
    if case.op == "linear":
        parameters = {0: case.weight[0], 1: 1, 2: problem.weight.size}
        return "InnerProduct", parameters, (float32_tag, problem.weight.tobytes(), problem.bias.tobytes())
    if case.op == "relu":
        return "ReLU", {}, ()
    if case.op == "batch_norm":
        names = ("weight", "running_mean", "running_var", "bias")
        return "BatchNorm", {0: case.x[1], 1: BATCH_NORM_EPS}, tuple(problem.arrays[name].tobytes() for name in names)
    if case.op == "softmax":
        return "Softmax", {0: 0, 1: 1}, ()
    return None


PEERS = (Torch(), TorchChannelsLast(), OnnxRuntime(), OpenVino(), Ncnn())
NEEDS_ONNX = ("onnxruntime", "openvino")


def installed():
    """The peers that can be imported here; the engines that read ONNX models also need the onnx package."""
    def there(module):
        return importlib.util.find_spec(module) is not None

    return tuple(p for p in PEERS if there(p.package) and (p.name not in NEEDS_ONNX or there("onnx")))


def versions(peers):
    """Version of each peer by name, from its package's metadata."""
    return {p.name: importlib.metadata.version(p.package) for p in peers}
