"""The NumPy twin of every operation: same names and signatures as ``convkit.functional``, in float64 inside.

These functions are the definition that every fast result is measured against, and what computes on a machine
without compiled kernels. They are written to be read.
"""

from convkit.reference.activation import relu, relu_backward
from convkit.reference.conv import conv2d, conv2d_backward
from convkit.reference.dropout import dropout, dropout_backward
from convkit.reference.linear import linear, linear_backward
from convkit.reference.loss import cross_entropy, cross_entropy_backward
from convkit.reference.norm import batch_norm, batch_norm_backward
from convkit.reference.pool import (
                                    avg_pool2d,
                                    avg_pool2d_backward,
                                    max_pool2d,
                                    max_pool2d_backward,
                                    min_pool2d,
                                    min_pool2d_backward,
)
from convkit.reference.shape import (
    channel_shuffle,
    channel_shuffle_backward,
    flatten,
    pixel_shuffle,
    pixel_shuffle_backward,
    pixel_unshuffle,
    pixel_unshuffle_backward,
)
from convkit.reference.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = ["avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "channel_shuffle",
           "channel_shuffle_backward", "conv2d", "conv2d_backward", "cross_entropy",
           "cross_entropy_backward", "dropout", "dropout_backward", "flatten", "linear",
           "linear_backward", "log_softmax", "log_softmax_backward", "max_pool2d", "max_pool2d_backward",
           "min_pool2d", "min_pool2d_backward", "pixel_shuffle", "pixel_shuffle_backward",
           "pixel_unshuffle", "pixel_unshuffle_backward", "relu", "relu_backward", "softmax",
           "softmax_backward"]
