"""The layers that convkit is measured on: one table for ``convkit bench``, ``benchmarks/`` and the tests.

Every row is a layer of a published network at the input size that the network is known for. ``SMALL`` holds
miniature geometries, each there for one thing that can go wrong.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Case:
    """One operation on one shape. ``x`` and ``weight`` are shapes; ``kernel`` is a pooling window.

    What only a few operations have is given by name: ``arrays`` are the operands beside ``x``, ``more`` the options, as
    pairs of name and value.
    """

    network: str
    name: str
    group: str
    op: str
    x: tuple
    weight: tuple | None = None
    kernel: tuple | None = None
    stride: int | tuple = 1
    padding: int | tuple = 0
    dilation: int | tuple = 1
    groups: int = 1
    arrays: tuple = ()
    more: tuple = ()

    @property
    def id(self):
        """Network and layer, the name that ``--filter`` looks in."""
        return f"{self.network}: {self.name}"

    @property
    def options(self):
        """Keyword arguments of the operation, as ``convkit.functional`` takes them."""
        if self.op.startswith("conv"):
            names = ("stride", "padding", "dilation", "groups")
        elif self.op.startswith(("max_pool", "min_pool")):
            names = ("stride", "padding", "dilation")
        elif self.op.startswith("avg_pool"):
            names = ("stride", "padding")
        else:
            names = ("stride",) if self.kernel is not None else ()
        options = {name: getattr(self, name) for name in names} | dict(self.more)
        return options if self.kernel is None else {"kernel_size": self.kernel, **options}

    @property
    def gradients(self):
        """The directions in which it is measured backward: dx and dw apart where each is a product of its own, and
        otherwise all gradients together, as one call computes them.
        """
        return ("dx", "dw") if self.op.startswith(("conv", "linear")) else ("grad",)


def _group(kernel, stride, dilation, c_in, groups):
    if groups == c_in and groups > 1:
        return "depthwise"
    if groups > 1:
        return "grouped"
    if dilation != 1:
        return "dilated"
    if c_in <= 6:
        return "few channels"
    if kernel == 1:
        return "1x1"
    return f"{kernel}x{kernel}" if stride == 1 else f"{kernel}x{kernel} stride {stride}"


def _conv(network, kernel, c_in, c_out, size, stride=1, groups=1, dilation=1, batch=1, padding=None):
    """A square convolution, padded by half its kernel unless told otherwise, named as people write it."""
    padding = (kernel - 1) * dilation // 2 if padding is None else padding
    depthwise = groups == c_in == c_out and groups > 1
    words = ["dw"] if depthwise else []
    words.append(f"{kernel}x{kernel}" + (f"s{stride}" if stride != 1 else ""))
    words += [f"d{dilation}"] if dilation != 1 else []
    words += [f"g{groups}"] if groups > 1 and not depthwise else []
    words += [str(c_in) if depthwise else f"{c_in}-{c_out}", f"@{size}"]
    words += [f"b{batch}"] if batch > 1 else []
    return Case(network, " ".join(words), _group(kernel, stride, dilation, c_in, groups), "conv2d",
                (batch, c_in, size, size), (c_out, c_in // groups, kernel, kernel),
                stride=stride, padding=padding, dilation=dilation, groups=groups)


def _conv1d(network, kernel, c_in, c_out, length, stride=1, groups=1, dilation=1, padding=0, batch=1):
    return _any_rank(network, "conv1d", (kernel,), c_in, c_out, (length,), stride, groups, dilation, padding, batch)


def _conv3d(network, kernel, c_in, c_out, size, stride=1, groups=1):
    """Padded by half its kernel."""
    padding = tuple(k // 2 for k in kernel)
    return _any_rank(network, "conv3d", kernel, c_in, c_out, size, stride, groups, 1, padding, 1)


def _transposed(network, kernel, c_in, c_out, size, stride, padding=0, batch=1):
    case = _any_rank(network, f"conv_transpose{len(size)}d", (kernel,) * len(size), c_in, c_out, size, stride, 1, 1,
                     padding, batch)
    return replace(case, name=f"up {case.name}", group="transposed", weight=(c_in, c_out, *case.weight[2:]))


def _any_rank(network, op, kernel, c_in, c_out, size, stride, groups, dilation, padding, batch):
    """Named as the square convolutions are."""
    depthwise = groups == c_in == c_out and groups > 1
    words = ["dw"] if depthwise else []
    words.append("x".join(map(str, kernel)) + (f"s{stride}" if stride != 1 else ""))
    words += [f"d{dilation}"] if dilation != 1 else []
    words += [f"g{groups}"] if groups > 1 and not depthwise else []
    words += [str(c_in) if depthwise else f"{c_in}-{c_out}", "@" + "x".join(map(str, size))]
    words += [f"b{batch}"] if batch > 1 else []
    return Case(network, " ".join(words), op.removeprefix("conv"), op, (batch, c_in, *size),
                (c_out, c_in // groups, *kernel), stride=stride, padding=padding, dilation=dilation, groups=groups)


def _pool(network, kind, kernel, stride, channels, size, padding=0, batch=1):
    """A pooling of a square image, or of the axes given, with windows as long along each."""
    size = size if isinstance(size, tuple) else (size, size)
    rank = len(size)
    name = f"{kind} {'x'.join([str(kernel)] * rank)}s{stride}" + (f"p{padding}" if padding else "")
    name += f" {channels} @{'x'.join(map(str, size)) if len(set(size)) > 1 or rank != 2 else size[0]}"
    return Case(network, name + (f" b{batch}" if batch > 1 else ""), "pooling", f"{kind}_pool{rank}d",
                (batch, channels, *size), kernel=(kernel,) * rank, stride=stride, padding=padding)


def _named(group, network, name, op, x, *arrays, kernel=None, **more):
    """An operation with options of its own; windows do not overlap."""
    return Case(network, name, group, op, x, kernel=kernel, stride=kernel or 1, arrays=arrays, more=tuple(more.items()))


def _wise(network, op, size, *arrays, batch=1, **more):
    """An activation of images ``(C, H, W)``, or of rows."""
    name = f"{op} {size[0]}" + (f" @{size[-1]}" if len(size) > 1 else "") + (f" b{batch}" if batch > 1 else "")
    return _named("activations", network, name, op, (batch, *size), *arrays, **more)


CONVOLUTIONS = (
    _conv("LeNet-5", 5, 1, 6, 28, batch=64),
    _conv("LeNet-5", 5, 6, 16, 14, batch=64, padding=0),
    _conv("ResNet-18", 7, 3, 64, 224, stride=2),
    _conv("ResNet-18", 3, 64, 64, 56),
    _conv("ResNet-18", 3, 64, 128, 56, stride=2),
    _conv("ResNet-18", 1, 64, 128, 56, stride=2),
    _conv("ResNet-18", 3, 128, 128, 28),
    _conv("ResNet-18", 3, 256, 256, 14),
    _conv("ResNet-18", 3, 512, 512, 7),
    _conv("ResNet-50", 1, 64, 256, 56),
    _conv("ResNet-50", 1, 256, 64, 56),
    _conv("ResNet-50", 3, 128, 128, 56, stride=2),
    _conv("ResNet-50", 1, 1024, 256, 14),
    _conv("ResNet-50", 1, 512, 2048, 7),
    _conv("VGG-16", 3, 3, 64, 224),
    _conv("VGG-16", 3, 64, 64, 224),
    _conv("VGG-16", 3, 256, 256, 56),
    _conv("VGG-16", 3, 512, 512, 28),
    _conv("VGG-16", 3, 512, 512, 14),
    _conv("AlexNet", 5, 96, 256, 27, groups=2),
    _conv("Inception", 5, 16, 32, 28),
    _conv("Inception", 5, 32, 128, 14),
    _conv("Inception", 5, 48, 128, 7),
    _conv("Inception-v3", 5, 48, 64, 35),
    replace(_any_rank("Inception-v3", "conv2d", (1, 7), 128, 128, (17, 17), 1, 1, 1, (0, 3), 1), group="1x7, 7x1"),
    replace(_any_rank("Inception-v3", "conv2d", (7, 1), 192, 192, (17, 17), 1, 1, 1, (3, 0), 1), group="1x7, 7x1"),
    _conv("pix2pix", 4, 256, 512, 32, padding=1),
    _conv("MobileNetV2", 3, 3, 32, 224, stride=2),
    _conv("MobileNetV2", 1, 32, 16, 112),
    _conv("MobileNetV2", 3, 96, 96, 112, stride=2, groups=96),
    _conv("MobileNetV2", 1, 24, 144, 56),
    _conv("MobileNetV2", 3, 144, 144, 56, groups=144),
    _conv("MobileNetV2", 3, 960, 960, 7, groups=960),
    _conv("MobileNetV2", 1, 320, 1280, 7),
    _conv("EfficientNet-B0", 5, 240, 240, 28, groups=240),
    _conv("EfficientNet-B0", 5, 672, 672, 14, stride=2, groups=672),
    _conv("ConvNeXt-T", 7, 96, 96, 56, groups=96),
    _conv("ConvNeXt-T", 7, 768, 768, 7, groups=768),
    _conv("ResNeXt-50", 3, 128, 128, 56, groups=32),
    _conv("ResNeXt-50", 3, 512, 512, 14, groups=32),
    _conv("DeepLabV3", 3, 256, 256, 28, dilation=2),
    _conv("Image filter", 5, 1, 1, 1024),
)

# Sound and text, video and volumes, and what enlarges.
OTHER_CONVOLUTIONS = (
    _conv1d("M5", 80, 1, 128, 32000, stride=4, padding=38),
    _conv1d("M5", 3, 128, 256, 500, padding=1),
    _conv1d("TCN", 3, 600, 600, 400, dilation=4, padding=8),
    _conv1d("wav2vec 2.0", 10, 1, 512, 16000, stride=5),
    _conv1d("wav2vec 2.0", 3, 512, 512, 3199, stride=2),
    _conv1d("wav2vec 2.0", 128, 768, 768, 49, groups=16, padding=64),
    _conv1d("Tacotron 2", 5, 512, 512, 100, padding=2),
    _conv1d("HiFi-GAN", 7, 128, 128, 2048, dilation=3, padding=9),
    _conv1d("Kim text CNN", 4, 300, 100, 56, batch=50),
    _conv1d("Conformer", 31, 512, 512, 500, groups=512, padding=15),
    _conv3d("C3D", (3, 3, 3), 3, 64, (16, 112, 112)),
    _conv3d("C3D", (3, 3, 3), 128, 256, (8, 28, 28)),
    _conv3d("C3D", (3, 3, 3), 512, 512, (2, 7, 7)),
    _conv3d("R(2+1)D-18", (1, 3, 3), 64, 144, (8, 56, 56)),
    _conv3d("R(2+1)D-18", (3, 1, 1), 144, 64, (8, 56, 56)),
    _conv3d("X3D-M", (3, 3, 3), 54, 54, (16, 56, 56), groups=54),
    _transposed("DCGAN", 4, 512, 256, (8, 8), 2, 1),
    _transposed("DCGAN", 4, 128, 3, (32, 32), 2, 1),
    _transposed("U-Net", 2, 256, 128, (56, 56), 2),
    _transposed("HiFi-GAN", 16, 512, 256, (100,), 8, 4),
    _transposed("3-D U-Net", 2, 128, 128, (8, 16, 16), 2),
)

# What an epoch of training is made of beside the layers below: batches.
TRAINING = (
    _conv("ResNet-18", 7, 3, 64, 224, stride=2, batch=8),
    _conv("ResNet-18", 3, 64, 64, 56, batch=8),
    _conv("ResNet-18", 3, 256, 256, 14, batch=8),
    _conv("ResNet-18", 3, 512, 512, 7, batch=8),
    _conv("ResNet-50", 3, 128, 128, 56, stride=2, batch=8),
    _conv("ResNet-50", 1, 256, 64, 56, batch=8),
    _conv("MobileNetV2", 3, 144, 144, 56, groups=144, batch=8),
    _conv("ResNeXt-50", 3, 128, 128, 56, groups=32, batch=8),
    _conv("LeNet-5", 5, 1, 6, 28, batch=64),
    _conv("LeNet-5", 5, 6, 16, 14, batch=64, padding=0),
    _conv("CIFAR net", 3, 32, 64, 32, batch=64),
    _conv1d("wav2vec 2.0", 3, 512, 512, 799, stride=2),
    _conv3d("C3D", (3, 3, 3), 128, 256, (8, 28, 28)),
    _transposed("DCGAN", 4, 512, 256, (8, 8), 2, 1, batch=8),
    _transposed("HiFi-GAN", 16, 512, 256, (100,), 8, 4),
    _transposed("3-D U-Net", 2, 128, 128, (8, 16, 16), 2),
    _named("norms", "ResNet-18", "batch_norm 64 @56 b8", "batch_norm", (8, 64, 56, 56), "running_mean", "running_var",
           "weight", "bias", training=True),
)

POOLINGS = (
    _pool("VGG-16", "max", 2, 2, 64, 112),
    _pool("ResNet-18", "max", 3, 2, 64, 112, padding=1),
    _pool("Inception", "max", 3, 1, 64, 112, padding=1),
    _pool("DenseNet", "avg", 2, 2, 64, 112),
    _pool("Inception", "avg", 3, 2, 64, 112, padding=1),
    _pool("Global", "avg", 112, 112, 64, 112),
    _pool("Filter", "min", 3, 1, 64, 112, padding=1),
    _pool("Inception", "max", 3, 1, 192, 28, padding=1),
    _pool("ResNet-50", "avg", 7, 7, 2048, 7),
    _pool("M5", "max", 4, 4, 128, (1990,)),
    _pool("C3D", "max", 2, 2, 64, (16, 28, 28)),
    _pool("3-d DenseNet", "avg", 2, 2, 64, (16, 28, 28)),
    _pool("Envelope", "min", 9, 9, 8, (16000,)),
    _pool("CT filter", "min", 3, 1, 4, (32, 64, 64), padding=1),
    _pool("M5", "avg", 31, 31, 512, (31,)),
    _pool("Autoformer", "avg", 25, 1, 512, (120,), batch=32),
)

OTHERS = (
    Case("AlexNet", "linear 9216-4096 b1", "linear", "linear", (1, 9216), (4096, 9216)),
    Case("AlexNet", "linear 4096-4096 b64", "linear", "linear", (64, 4096), (4096, 4096)),
    Case("ResNet-18", "relu 64 @112", "elementwise", "relu", (1, 64, 112, 112)),
    _named("elementwise", "ResNet-18", "batch_norm 64 @112", "batch_norm", (1, 64, 112, 112), "running_mean",
           "running_var", "weight", "bias"),
    Case("ImageNet", "softmax 1000 b256", "elementwise", "softmax", (256, 1000)),
    Case("Deep Speech 2", "log_softmax 29 b1000", "elementwise", "log_softmax", (1000, 29)),
    Case("BERT-base", "embedding 30522-768 b512", "elementwise", "embedding", (512,), (30522, 768)),
)

OTHER_POOLINGS = (
    _named("other pooling", "SVHN net", "L2 2x2s2 16 @28 b64", "lp_pool2d", (64, 16, 28, 28), kernel=(2, 2),
           norm_type=2),
    _named("other pooling", "PSPNet", "adaptive avg 2048 @60-6", "adaptive_avg_pool2d", (1, 2048, 60, 60),
           output_size=6),
    _named("other pooling", "SPP-net", "adaptive max 256 @13-6", "adaptive_max_pool2d", (1, 256, 13, 13),
           output_size=6),
    _named("other pooling", "MobileNetV2", "global avg 1280 @7", "global_avg_pool", (1, 1280, 7, 7)),
    _named("other pooling", "PointNet", "global max 1024 @1024", "global_max_pool", (1, 1024, 1024)),
    _named("other pooling", "SegNet", "unpool 2x2 64 @112", "max_unpool2d", (1, 64, 112, 112), "indices",
           kernel=(2, 2)),
    _named("other pooling", "Deep music", "L2 35s35 512 @35", "lp_pool1d", (1, 512, 35), kernel=(35,), norm_type=2),
    _named("other pooling", "Stacked ISA", "L2 2x2x2s2 64 @16x28x28", "lp_pool3d", (1, 64, 16, 28, 28),
           kernel=(2, 2, 2), norm_type=2),
    _named("other pooling", "ECAPA-TDNN", "adaptive avg 512 @200-1", "adaptive_avg_pool1d", (1, 512, 200),
           output_size=1),
    _named("other pooling", "ResNet3D-18", "adaptive avg 512 @2x7x7-1", "adaptive_avg_pool3d", (1, 512, 2, 7, 7),
           output_size=1),
    _named("other pooling", "Kim text CNN", "adaptive max 100 @53-1 b50", "adaptive_max_pool1d", (50, 100, 53),
           output_size=1),
    _named("other pooling", "3-d CBAM", "adaptive max 64 @16x28x28-1", "adaptive_max_pool3d", (1, 64, 16, 28, 28),
           output_size=1),
    _named("other pooling", "Filter", "global min 64 @112", "global_min_pool", (1, 64, 112, 112)),
    _named("other pooling", "1-d SegNet", "unpool 4 64 @2000", "max_unpool1d", (1, 64, 2000), "indices", kernel=(4,)),
    _named("other pooling", "3-d SegNet", "unpool 2x2x2 64 @8x28x28", "max_unpool3d", (1, 64, 8, 28, 28), "indices",
           kernel=(2, 2, 2)),
)

NORMS = (
    _named("norms", "ViT-B/16", "layer_norm 768 @197", "layer_norm", (1, 197, 768), "weight", "bias",
           normalized_shape=(768,)),
    _named("norms", "Stable Diffusion", "group_norm 320 g32 @64", "group_norm", (1, 320, 64, 64), "weight", "bias",
           num_groups=32),
    _named("norms", "CycleGAN", "instance_norm 256 @64", "instance_norm", (1, 256, 64, 64)),
    _named("norms", "AlexNet", "local_response_norm 96 @55", "local_response_norm", (1, 96, 55, 55), size=5, alpha=1e-4,
           beta=0.75, k=2.0),
)

ACTIVATIONS = (
    _wise("MobileNetV2", "relu6", (96, 112, 112)),
    _wise("YOLOv3", "leaky_relu", (64, 208, 208), negative_slope=0.1),
    _wise("PReLU-net", "prelu", (64, 112, 112), "weight"),
    _wise("MobileNetV3", "hardswish", (16, 112, 112)),
    _wise("EfficientNet-B0", "silu", (96, 112, 112)),
    _wise("YOLOv4", "mish", (64, 208, 208)),
    _wise("BERT-base", "gelu", (3072,), batch=128),
    _wise("GPT-2", "gelu", (3072,), batch=1024, approximate="tanh"),
    _wise("ELU net", "elu", (96, 56, 56)),
    _wise("U-Net", "sigmoid", (1, 388, 388)),
    _wise("DCGAN", "tanh", (3, 64, 64), batch=64),
    _wise("MobileNetV3", "hardsigmoid", (960, 1, 1), batch=64),
    _wise("SNN", "selu", (1024,), batch=128),
    _wise("Mamba", "softplus", (1536,), batch=1024),
)

# Whole channels where they are dropped.
DROPOUTS = (
    _named("dropout", "VGG-16", "dropout 4096 b64", "dropout", (64, 4096), p=0.5),
    _named("dropout", "ED-TCN", "channels 64 @1000", "dropout1d", (1, 64, 1000), p=0.3),
    _named("dropout", "ENet", "channels 128 @64", "dropout2d", (1, 128, 64, 64), p=0.1),
    _named("dropout", "V-Net", "channels 128 @8x16x16", "dropout3d", (1, 128, 8, 16, 16), p=0.5),
)

RESAMPLINGS = (
    _named("resampling", "FPN", "nearest x2 256 @28", "interpolate", (1, 256, 28, 28), scale_factor=2, mode="nearest"),
    _named("resampling", "DeepLabV3", "bilinear 21 @65-513", "interpolate", (1, 21, 65, 65), size=(513, 513),
           mode="bilinear"),
    _named("resampling", "ESPCN", "pixel_shuffle x3 9 @256", "pixel_shuffle", (1, 9, 256, 256), upscale_factor=3),
    _named("resampling", "Real-ESRGAN", "pixel_unshuffle x2 3 @512", "pixel_unshuffle", (1, 3, 512, 512),
           downscale_factor=2),
    _named("resampling", "ShuffleNet", "channel_shuffle 240 g3 @28", "channel_shuffle", (1, 240, 28, 28), groups=3),
    _named("resampling", "CycleGAN", "reflect 3 3 @256", "pad", (1, 3, 256, 256), padding=(3, 3, 3, 3), mode="reflect"),
    _named("resampling", "T2T-ViT", "unfold 7x7s4 3 @224", "unfold", (1, 3, 224, 224), kernel_size=7, stride=4,
           padding=2),
    _named("resampling", "FuseFormer", "fold 7x7s3 128 @60x108", "fold", (1, 6272, 720), output_size=(60, 108),
           kernel_size=7, stride=3, padding=3),
)

# A flattened array is the same one in another shape: what is timed is the call.
MERGES = (
    _named("merging", "VGG-16", "flatten 512 @7", "flatten", (1, 512, 7, 7)),
    _named("merging", "DenseNet-121", "concat 480+32 @28", "concat", (1, 480, 28, 28), "other"),
    _named("merging", "ResNet-50", "add 256 @56", "add", (1, 256, 56, 56), "other"),
)

LOSSES = (
    _named("losses", "ImageNet", "cross_entropy 1000 b256", "cross_entropy", (256, 1000), "target"),
    _named("losses", "FCN-8s", "cross_entropy 21 @224", "cross_entropy", (1, 21, 224, 224), "target"),
    _named("losses", "M5", "nll 35 b256", "nll_loss", (256, 35), "target"),
    _named("losses", "U-Net", "bce 1 @388", "binary_cross_entropy_with_logits", (1, 1, 388, 388), "target"),
    _named("losses", "SRResNet", "mse 3 @96 b16", "mse_loss", (16, 3, 96, 96), "target"),
    _named("losses", "pix2pix", "l1 3 @256", "l1_loss", (1, 3, 256, 256), "target"),
    _named("losses", "Faster R-CNN", "smooth_l1 324 b512", "smooth_l1_loss", (512, 324), "target"),
    _named("losses", "V-Net", "dice 2 @64x128x128", "dice_loss", (1, 2, 64, 128, 128), "target"),
)

LAYERS = (CONVOLUTIONS + OTHER_CONVOLUTIONS + POOLINGS + OTHER_POOLINGS + OTHERS + NORMS + ACTIVATIONS + DROPOUTS
          + RESAMPLINGS + MERGES + LOSSES)

def _layer(case):
    """What stays the same in another batch."""
    return case.network, case.op, case.x[1:], case.weight, case.options.items()


_TRAINED = [_layer(case) for case in TRAINING]

# What has its row in TRAINING is not measured again on one image; a batch norm learns behind statistics of a batch.
GRADIENTS = tuple((case, direction)
                  for case in TRAINING + tuple(c for c in LAYERS if c.op != "batch_norm" and _layer(c) not in _TRAINED)
                  for direction in case.gradients)


def _small(name, x, weight, op=None, **options):
    return Case("small", name, "small", op or f"conv{len(x) - 2}d", x, weight, **options)


SMALL = (
    _small("one pixel", (1, 1, 1, 1), (1, 1, 1, 1)),
    _small("empty batch", (0, 3, 5, 5), (4, 3, 3, 3)),
    _small("plain 3x3", (2, 3, 9, 10), (5, 3, 3, 3)),
    _small("odd channels past one vector", (1, 17, 6, 7), (33, 17, 3, 3), padding=1),
    _small("kernel as large as the image", (2, 4, 5, 6), (7, 4, 5, 6)),
    _small("even kernel", (1, 2, 7, 8), (3, 2, 2, 4), padding=1),
    _small("padding beyond the kernel", (1, 2, 3, 3), (3, 2, 2, 2), padding=4),
    _small("lopsided padding", (1, 3, 6, 5), (4, 3, 3, 2), padding=((0, 2), (3, 1))),
    _small("stride past the kernel", (2, 3, 11, 13), (4, 3, 2, 2), stride=(3, 5)),
    _small("last row unused by the stride", (1, 2, 8, 8), (3, 2, 3, 3), stride=2),
    _small("dilated", (1, 3, 12, 11), (4, 3, 3, 3), dilation=(2, 3), padding=2),
    _small("strided and dilated", (2, 3, 13, 12), (4, 3, 3, 2), stride=(2, 1), dilation=(2, 3), padding=1),
    _small("two groups", (2, 6, 7, 7), (8, 3, 3, 3), groups=2, padding=1),
    _small("depthwise", (2, 19, 9, 9), (19, 1, 3, 3), groups=19, padding=1),
    _small("depthwise, two filters each", (1, 5, 8, 9), (10, 1, 3, 3), groups=5, stride=2, padding=1),
    _small("1x1", (2, 20, 5, 7), (33, 20, 1, 1)),
    _small("1x1 strided", (1, 8, 9, 9), (12, 8, 1, 1), stride=2),
    _small("one row", (1, 3, 1, 40), (4, 3, 1, 5), padding=(0, 2)),
    _small("wide row past one tile", (1, 2, 3, 67), (18, 2, 3, 3), padding=1),
    _small("seven by seven map", (2, 16, 7, 7), (48, 16, 3, 3), padding=1),
    _small("one sample", (1, 2, 1), (3, 2, 1)),
    _small("causal", (2, 5, 70), (18, 5, 3), dilation=4, padding=((8, 0),)),
    _small("1-d depthwise", (2, 19, 40), (19, 1, 31), groups=19, padding=15),
    _small("1-d strided, long kernel", (1, 1, 300), (17, 1, 80), stride=4, padding=38),
    _small("cube", (2, 3, 4, 5, 6), (17, 3, 3, 3, 3), padding=1),
    _small("3-d, all unequal", (1, 4, 6, 7, 9), (6, 2, 2, 3, 1), stride=(1, 2, 3), padding=((1, 0), (2, 1), (0, 2)),
           dilation=(2, 1, 1), groups=2),
    _small("3-d depthwise", (1, 19, 3, 9, 10), (19, 1, 3, 3, 3), groups=19, padding=1),
    _small("up by two", (2, 5, 4, 6), (5, 18, 4, 4), "conv_transpose2d", stride=2, padding=1),
    _small("up with gaps", (1, 3, 4, 3), (3, 2, 1, 2), "conv_transpose2d", stride=(3, 4)),
    _small("up, grouped and dilated", (1, 6, 9), (6, 3, 3), "conv_transpose1d", stride=2, dilation=3, groups=2),
    _small("up depthwise", (2, 19, 5, 6), (19, 1, 4, 3), "conv_transpose2d", stride=2, groups=19),
    _small("up in three dimensions", (1, 3, 2, 3, 4), (3, 17, 2, 3, 2), "conv_transpose3d", stride=(1, 2, 2),
           padding=1),
)
