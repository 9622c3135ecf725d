"""The command ``convkit``: one file per subcommand, and nothing imported before it is asked for."""

import argparse
import sys

import convkit
from convkit.cli import bench, demo, explain, info, verify
from convkit.cli.common import CommandError

_COMMANDS = {"demo": demo, "bench": bench, "verify": verify, "explain": explain, "info": info}


def main(argv=None):
    """Run one subcommand; the exit status is 0 done, 1 a check failed, 2 a wrong request, 130 stopped."""
    parser = argparse.ArgumentParser(
        prog="convkit",
        description="Convolutions and the layers around them, on NumPy arrays, fast on the CPU.")
    parser.add_argument("--version", action="version", version=f"convkit {convkit.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in _COMMANDS.items():
        text = module.__doc__
        command = commands.add_parser(name, help=text.partition("\n")[0], description=text,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(command)
    args = parser.parse_args(argv)
    try:
        return _COMMANDS[args.command].run(args)
    except (CommandError, convkit.ShapeError, convkit.DtypeError) as exc:
        print(f"convkit {args.command}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"convkit {args.command}: interrupted", file=sys.stderr)
        return 130
