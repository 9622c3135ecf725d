"""Show how an operation would be computed, and why.

For example: convkit explain conv2d --x 1,64,56,56 --weight 64,64,3,3 --padding 1
             convkit explain interpolate --x 1,64,56,56 --option scale_factor=2 --option mode=bilinear

Prints the candidates in the library's order with the reason why each is or is not taken, the arithmetic, the
bytes and the workspace. CONVKIT_ISA and CONVKIT_ALGORITHM have the effect that they have on a real call.
"""

import argparse
import ast

from convkit.cli.common import CommandError


def add_arguments(parser):
    """Options of ``convkit explain``."""
    parser.add_argument("operation", help="a function of convkit.functional, such as conv2d or max_pool2d")
    parser.add_argument("--x", required=True, type=_integers, metavar="N,C,H,W", help="shape of the input")
    parser.add_argument("--weight", type=_integers, metavar="OUT,IN,KH,KW", help="shape of the weight")
    parser.add_argument("--kernel-size", type=_integer_or_more, metavar="K", help="pooling window: 3 or 3,2")
    parser.add_argument("--stride", type=_integer_or_more, metavar="S", help="2 or 2,1")
    parser.add_argument("--padding", type=_padding, metavar="P", help="1 or 1,0 or same or valid")
    parser.add_argument("--dilation", type=_integer_or_more, metavar="D", help="2 or 2,1")
    parser.add_argument("--groups", type=int, metavar="G")
    parser.add_argument("--option", type=_option, action="append", default=[], metavar="NAME=VALUE",
                        help="any other argument, written as in Python: norm_type=2; may be repeated")
    parser.add_argument("--dtype", choices=("float16", "float32", "float64"), default="float32")


def run(args):
    """Print ``convkit.explain`` of the call that the options describe."""
    import convkit
    from convkit.plan.explain import OPERATIONS

    if args.operation not in OPERATIONS:
        raise CommandError(f"the operation must be one of {', '.join(OPERATIONS)}, got {args.operation}")
    names = ("kernel_size", "stride", "padding", "dilation", "groups")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    options.update(args.option)
    try:
        print(convkit.explain(args.operation, args.x, args.weight, dtype=args.dtype, **options))
    except convkit.plan.common.AlgorithmRefused as exc:
        raise CommandError(str(exc)) from exc
    return 0


def _integers(text):
    return tuple(int(part) for part in text.split(","))


def _integer_or_more(text):
    values = _integers(text)
    return values[0] if len(values) == 1 else values


def _padding(text):
    return text if text in ("same", "valid") else _integer_or_more(text)


def _option(text):
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals or name in ("operation", "x", "weight", "dtype"):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, NAME one of the operation's options, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word, such as that of a mode


for _type in (_integers, _integer_or_more, _padding):  # argparse names the type in its messages
    _type.__name__ = "list of whole numbers"
