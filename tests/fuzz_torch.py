"""What PyTorch says in float64 about a call of convkit: results, and gradients by its own differentiation.

``by_torch(name, args, options)`` returns one array (or None) per output, or None where PyTorch has no such operation
or geometry. Padding that it cannot express is added or cropped around its own operation.
"""

from math import ceil, inf, prod

import numpy as np
import torch
from torch.nn import functional as T

from convkit.spec.activation import ACTIVATIONS, FROM_OUTPUT

LOSSES = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss")
NORMS = ("layer_norm", "group_norm", "instance_norm", "local_response_norm")
# convkit takes groups of one value, and padding up to half of a dilated window; refusals are compared elsewhere
MORE_THAN_TORCH = ("group_norm", "max_pool", "min_pool")
SHAPED = ("avg_pool", "adaptive_avg_pool", "global_avg_pool", "interpolate", "unfold")  # gradients by input_shape


def by_torch(name, args, options):
    to = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    forward = name.removesuffix("_backward")
    try:
        result = _backward(forward, to, options) if forward != name else _forward(forward, to, options)
    except NotHere:
        return None
    except (RuntimeError, ValueError):
        if name.startswith(MORE_THAN_TORCH):
            return None
        raise
    return [r if r is None else r.detach().numpy() for r in (result if isinstance(result, tuple) else (result,))]


class NotHere(Exception):
    """PyTorch has no such thing."""


def _forward(name, args, options):
    for family, function in FORWARD.items():
        if name.startswith(family):
            return function(name, *args, **options)
    if name == "group_norm" and args[0][0].numel() == args[1]:
        raise NotHere  # groups of one value: rounding errors over sqrt(eps)
    if name in ACTIVATIONS or name in NORMS or name in LOSSES or name in ("softmax", "log_softmax", "linear", "prelu"):
        return getattr(T, name)(*args, **options)
    raise NotHere


def _backward(name, args, options):
    """Gradients of the operation ``name`` in the order in which convkit returns them."""
    if name in LOSSES:
        options = dict(options)
        dloss = torch.as_tensor(options.pop("dloss", 1.0))
        return _gradients(name, dloss, args, options, (0,))[0]
    if name in FROM_OUTPUT:  # relu, sigmoid, tanh: PyTorch's own take the output too
        dy, y = args
        return {"relu": lambda: dy * (y > 0), "sigmoid": lambda: dy * y * (1 - y), "tanh": lambda: dy * (1 - y * y)}[name]()
    if name in ("softmax", "log_softmax"):
        dy, y, axis = args
        function = torch.ops.aten._softmax_backward_data if name == "softmax" else \
            torch.ops.aten._log_softmax_backward_data
        return function(dy, y, axis, y.dtype)
    if name == "fold":
        return _unfold(name, *args, **options)
    if name == "flatten":
        return _gradients(name, args[0], [torch.zeros(args[1], dtype=args[0].dtype)], options, (0,))[0]
    if name == "concat":
        dy, sizes = args
        return torch.split(dy, sizes, options["axis"])
    if name == "add":
        return args[0], args[0]
    dy, x, *rest = args
    if name.startswith("conv"):
        filters = rest[0].shape[1] * options["groups"] if "transpose" in name else len(rest[0])
        return _gradients(name, dy, [x, rest[0], torch.zeros(filters, dtype=dy.dtype)], options, (0, 1, 2))
    if name == "linear":
        return _gradients(name, dy, [x, rest[0], torch.zeros(len(rest[0]), dtype=dy.dtype)], options, (0, 1, 2))
    if name == "interpolate" and "nearest" in options["mode"]:  # PyTorch's own gradient has places of float32
        numbered = torch.arange(np.prod(x[2:]), dtype=dy.dtype).reshape(1, 1, *x[2:])
        places = _interpolate(name, numbered, **options).long().expand(dy.shape)
        return torch.zeros(x, dtype=dy.dtype).flatten(2).scatter_add(-1, places.flatten(2), dy.flatten(2)).reshape(x)
    if name.startswith(SHAPED):
        if name.startswith("adaptive"):
            rest = [dy.shape[-int(name[-2]):]]
        return _gradients(name, dy, [torch.zeros(x, dtype=dy.dtype), *rest], options, (0,))[0]
    if name.startswith("lp_pool"):
        if (x == 0).any() or options["norm_type"] == inf:
            raise NotHere  # no gradient there
        return _gradients(name, dy, [x], options, (0,))[0]
    if name.startswith("max_unpool"):
        rank = int(name[-2])
        return torch.gather(dy.flatten(-rank), -1, x.flatten(-rank)).reshape(x.shape)
    if "pool" in name:  # by indices
        indices, shape = x, rest[0]
        return torch.zeros(shape, dtype=dy.dtype).flatten(2 - len(shape) if "global" in name else -int(name[-2])) \
            .scatter_add(-1, *(a.flatten(2 - len(shape) if "global" in name else -int(name[-2]))
                               for a in (indices, dy))).reshape(shape)
    if name == "embedding":
        rows, padding = rest
        table = torch.zeros(rows, dy.shape[-1], dtype=dy.dtype, requires_grad=True)
        return torch.autograd.grad(T.embedding(x, table, padding), table, dy)[0]
    if name in ("pixel_shuffle", "pixel_unshuffle"):
        return {"pixel_shuffle": T.pixel_unshuffle, "pixel_unshuffle": T.pixel_shuffle}[name](dy, x)
    if name == "prelu":
        return _gradients(name, dy, [x, rest[0]], options, (0, 1))
    if name in ACTIVATIONS or name == "local_response_norm":
        return _gradients(name, dy, [x, *rest], options, (0,))[0]
    if name in ("layer_norm", "group_norm"):
        by, weight = rest
        bias = None if weight is None else torch.zeros_like(weight)
        got = _gradients(name, dy, [x, by, weight, bias], options, (0, 2, 3) if weight is not None else (0,))
        return got if weight is not None else got[0]
    if name in ("batch_norm", "instance_norm"):
        weight, = rest
        bias = None if weight is None else torch.zeros_like(weight)
        if name == "batch_norm":
            options = {"training": True}
        got = _gradients(name, dy, [x, None, None, weight, bias], options, (0, 3, 4) if weight is not None else (0,))
        return got if weight is not None else got[0]
    raise NotHere


def _gradients(name, dy, args, options, wanted):
    args = [a.clone().requires_grad_() if i in wanted else a for i, a in enumerate(args)]
    y = _forward(name, args, options)
    return torch.autograd.grad(y, [args[i] for i in wanted], dy.reshape(y.shape), allow_unused=False)


def _tuple(value, rank):
    return value if isinstance(value, tuple) else (value,) * rank


def _pairs(padding, rank):
    return tuple(p if isinstance(p, tuple) else (p, p) for p in _tuple(padding, rank))


def _flat(pairs):
    return [v for pair in reversed(pairs) for v in pair]


def _unrolled(channels, weight, pixels):
    """PyTorch copies what every kernel position meets, in float64 and for an image at a time; not gigabytes of it."""
    if 8 * channels * prod(weight.shape[2:]) * prod(pixels) > 2**31:
        raise NotHere


def _conv(name, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    rank = weight.ndim - 2
    if padding == "same":
        padding = []
        for n, k, s, d in zip(x.shape[-rank:], weight.shape[2:], _tuple(stride, rank), _tuple(dilation, rank), strict=True):
            total = max((ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            padding.append((total // 2, total - total // 2))
        padding = tuple(padding)
    pairs = _pairs(0 if padding == "valid" else padding, rank)
    if padding_mode != "zeros" and rank == 3 and x.ndim == 4:
        x = x[None]  # T.pad pads the last three axes of five
        return _conv(name, x, weight, bias, stride, padding, dilation, groups, padding_mode)[0]
    x = T.pad(x, _flat(pairs), "constant" if padding_mode == "zeros" else padding_mode)
    _unrolled(x.shape[-rank - 1], weight, [n // s for n, s in zip(x.shape[-rank:], _tuple(stride, rank), strict=True)])
    return getattr(T, name)(x, weight, bias, stride, 0, dilation, groups)


def _conv_transpose(name, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    rank = weight.ndim - 2
    pairs, extra = _pairs(padding, rank), _tuple(output_padding, rank)
    _unrolled(groups * weight.shape[1], weight, x.shape[-rank:])
    full = getattr(T, name)(x, weight, None, stride, 0, 0, groups, dilation)
    full = T.pad(full, _flat([(0, e) for e in extra]))  # before it is cropped: more may be cropped than there was
    y = T.pad(full, _flat([(-lo, -hi) for lo, hi in pairs]))
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _extreme_pool(name, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    rank = int(name[-2])
    if any(lo != hi for lo, hi in _pairs(padding, rank)):
        raise NotHere
    padding = tuple(lo for lo, _ in _pairs(padding, rank))
    sign = -1 if name.startswith("min") else 1
    y, indices = getattr(T, f"max_pool{rank}d")(sign * x, kernel_size, stride, padding, dilation, ceil_mode, True)
    return (sign * y, indices) if return_indices else sign * y


def _avg_pool(name, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
              divisor_override=None):
    rank = int(name[-2])
    if any(lo != hi for lo, hi in _pairs(padding, rank)):
        raise NotHere
    padding = tuple(lo for lo, _ in _pairs(padding, rank))
    if rank == 1:  # PyTorch's takes no divisor
        stride = kernel_size if stride is None else stride
        return T.avg_pool2d(x[..., None, :], (1, *_tuple(kernel_size, 1)), (1, *_tuple(stride, 1)), (0, *padding),
                            ceil_mode, count_include_pad, divisor_override)[..., 0, :]
    return getattr(T, name)(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _lp_pool(name, x, norm_type, kernel_size, stride=None, ceil_mode=False):
    rank = int(name[-2])
    if norm_type == inf:
        raise NotHere
    kernel = _tuple(kernel_size, rank)
    y = _avg_pool(f"avg_pool{rank}d", x.abs() ** norm_type, kernel, stride, ceil_mode=ceil_mode)
    return (y * np.prod(kernel)) ** (1 / norm_type)


def _adaptive(name, x, output_size, return_indices=False):
    rank = int(name[-2])
    size = tuple(n if o is None else o for n, o in zip(x.shape[-rank:], _tuple(output_size, rank), strict=True))
    if "max" in name:
        y, indices = getattr(T, name)(x, size, return_indices=True)
        return (y, indices) if return_indices else y
    return getattr(T, name)(x, size)


def _global(name, x, return_indices=False):
    rank = x.ndim - 2
    if "avg" in name:
        return x.mean(tuple(range(2, x.ndim)), keepdim=True)
    kind = name.split("_")[1]
    return _extreme_pool(f"{kind}_pool{rank}d", x, tuple(x.shape[2:]), return_indices=return_indices)


def _unpool(name, x, indices, kernel_size, stride=None, padding=0, output_size=None):
    if any(np.unique(plane).size != plane.size for plane in indices.flatten(-int(name[-2])).reshape(
            -1, int(np.prod(indices.shape[-int(name[-2]):])))):
        raise NotHere  # the winner among equal indices depends on PyTorch's threads
    return getattr(T, name)(x, indices, kernel_size, stride, padding, None if output_size is None else list(output_size))


def _interpolate(name, x, **options):
    y = T.interpolate(x, **options)
    given = None if options.get("recompute_scale_factor") else options.get("scale_factor")
    if given is not None and options["mode"] == "nearest" and x.ndim != 4 and any(
            out in (n, 2 * n) for n, out in zip(x.shape[2:], y.shape[2:], strict=True)):
        raise NotHere  # a factor that gave the same or twice the size: PyTorch has a rule for it in 2-d alone
    if any(map(_rounding_decides, x.shape[2:], y.shape[2:], _tuple(given, x.ndim - 2), [options] * 3)):
        raise NotHere
    return y


def _rounding_decides(size, out, factor, options):
    """Whether PyTorch, which has places or their whole parts in float32, takes another neighbour for any pixel."""
    step, steps = size / out if factor is None else 1 / factor, np.arange(out)
    if "nearest" in options["mode"]:
        centre = steps + 0.5 * (options["mode"] == "nearest-exact")
        return (np.floor(centre.astype(np.float32) * np.float32(step)) != np.floor(centre * step)).any()
    places = steps * ((size - 1) / max(1, out - 1)) if options.get("align_corners") else (steps + 0.5) * step - 0.5
    return (np.floor(places.astype(np.float32)) != np.floor(places)).any()


def _unfold(name, x, kernel_size, dilation=1, padding=0, stride=1):
    rank = len(kernel_size)
    if rank != 2:
        raise NotHere
    return T.unfold(T.pad(x, _flat(_pairs(padding, rank))), kernel_size, dilation, 0, stride)


def _fold(name, x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    rank = len(kernel_size)
    if rank != 2:
        raise NotHere
    pairs = _pairs(padding, rank)
    whole = [n + lo + hi for n, (lo, hi) in zip(output_size, pairs, strict=True)]
    return T.pad(T.fold(x, whole, kernel_size, dilation, 0, stride), [-v for v in _flat(pairs)])


def _pad(name, x, padding, mode="constant", value=0.0):
    return T.pad(x, padding, mode, value if mode == "constant" else None)


def _batch_norm(name, x, mean, var, weight=None, bias=None, **options):
    if mean is None:
        return T.batch_norm(x, None, None, weight, bias, **options)
    mean, var = mean.clone(), var.clone()
    return T.batch_norm(x, mean, var, weight, bias, **options), mean, var


def _embedding(name, indices, weight, padding_idx=None):
    return T.embedding(indices, weight, padding_idx)


def _hardsigmoid(name, x):
    return T.relu6(x + 3) / 6  # PyTorch's own gradient has a float32 1/6


def _shuffle(name, x, r):
    return getattr(T, name)(x, r)


def _channel_shuffle(name, x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


FORWARD = {"conv_transpose": _conv_transpose, "conv": _conv, "max_pool": _extreme_pool, "min_pool": _extreme_pool,
           "avg_pool": _avg_pool, "lp_pool": _lp_pool, "adaptive": _adaptive, "global": _global, "max_unpool": _unpool,
           "interpolate": _interpolate, "unfold": _unfold, "fold": _fold, "pad": _pad, "batch_norm": _batch_norm,
           "embedding": _embedding, "pixel": _shuffle, "channel_shuffle": _channel_shuffle,
           "hardsigmoid": _hardsigmoid, "flatten": lambda name, x, start_dim, end_dim: torch.flatten(x, start_dim, end_dim),
           "concat": lambda name, *xs, axis: torch.cat(xs, axis), "add": lambda name, x, other: x + other}
