"""The operations without state: NumPy arrays in, NumPy arrays out.

Names, argument order and defaults are those of ``torch.nn.functional`` wherever it has the operation. Each
function checks its arguments through ``spec``, asks ``plan`` how to compute, and runs that.
"""

from convkit.functional.activation import relu, relu_backward
from convkit.functional.conv import conv2d, conv2d_backward
from convkit.functional.dropout import dropout, dropout_backward
from convkit.functional.linear import linear, linear_backward
from convkit.functional.loss import cross_entropy, cross_entropy_backward
from convkit.functional.norm import batch_norm, batch_norm_backward
from convkit.functional.pool import (
                                     avg_pool2d,
                                     avg_pool2d_backward,
                                     max_pool2d,
                                     max_pool2d_backward,
                                     min_pool2d,
                                     min_pool2d_backward,
)
from convkit.functional.shape import (
    channel_shuffle,
    channel_shuffle_backward,
    flatten,
    pixel_shuffle,
    pixel_shuffle_backward,
    pixel_unshuffle,
    pixel_unshuffle_backward,
)
from convkit.functional.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = ["avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "channel_shuffle",
           "channel_shuffle_backward", "conv2d", "conv2d_backward", "cross_entropy",
           "cross_entropy_backward", "dropout", "dropout_backward", "flatten", "linear",
           "linear_backward", "log_softmax", "log_softmax_backward", "max_pool2d", "max_pool2d_backward",
           "min_pool2d", "min_pool2d_backward", "pixel_shuffle", "pixel_shuffle_backward",
           "pixel_unshuffle", "pixel_unshuffle_backward", "relu", "relu_backward", "softmax",
           "softmax_backward"]
