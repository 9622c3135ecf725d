"""Check every operation against its NumPy twin on random shapes.

Each operation is run at every instruction set level, with every algorithm and in all three precisions, at one
and at two threads, and compared with its twin in float64. The exit status is 0 if everything passes and 1
if not.
"""

import sys

from convkit.cli.common import CommandError, positive, write_json


def add_arguments(parser):
    """Options of ``convkit verify``."""
    parser.add_argument("operations", nargs="*", metavar="operation",
                        help="functions of convkit.functional, such as conv2d (default: all)")
    parser.add_argument("--cases", type=positive, default=30, metavar="N",
                        help="calls drawn per operation and precision (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="decides all shapes and numbers (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON (- for standard output)")


def run(args):
    """Run ``convkit.verify`` and print its report."""
    from dataclasses import asdict

    from convkit.verification import OPERATIONS, verify

    if args.seed < 0:
        raise CommandError(f"--seed must not be negative, got {args.seed}")
    names = [op.name for op in OPERATIONS]
    unknown = [name for name in args.operations if name not in names]
    if unknown:
        raise CommandError(f"an operation must be one of {', '.join(names)}, got {unknown[0]}")
    watched = sys.stderr.isatty()
    report = verify(args.cases, args.seed, args.operations or None, progress=_show if watched else None)
    if watched:
        print(end="\r\033[K", file=sys.stderr)
    if args.json:
        write_json(args.json, {"passed": report.passed, "seed": report.seed, "cases": report.cases,
                               "rows": [{**asdict(row), "passed": row.passed} for row in report.rows]})
    if args.json != "-":
        print(report)
    return 0 if report.passed else 1


def _show(operation):
    print(f"\r\033[K{operation} ...", end="", file=sys.stderr, flush=True)
