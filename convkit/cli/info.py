"""Show the machine and how convkit will use it.

Version, CPU, instruction set levels and the one in use, threads and where their number comes from, the
compiler of the kernels (or why there are none), NumPy.
"""

import os
import platform

import numpy as np

import convkit
from convkit import settings
from convkit.cli.common import write_json
from convkit.kernels import native
from convkit.plan import common as plans


def add_arguments(parser):
    """Options of ``convkit info``."""
    parser.add_argument("--json", metavar="FILE", help="write the same as JSON (- for standard output)")


def run(args):
    """Print what ``gather`` found."""
    facts = gather()
    if args.json:
        write_json(args.json, facts)
    if args.json != "-":
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"{name:{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return 0


def gather():
    """Facts about this installation and machine, in the order in which they are shown."""
    isa, algorithm, precision = settings.choice()
    facts = {
        "convkit": convkit.__version__,
        "Python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "NumPy": np.__version__,
        "CPU": settings.cpu_name(),
    }
    if native.available:
        facts["kernels"] = f"native, built by {native.runtime.compiler()}"
        if native.runtime.debug_build():
            facts["kernels"] += ", with checks on (slow)"
        facts["ISA levels"] = list(native.runtime.isa_levels())
        facts["ISA in use"] = f"{isa} ({_why_isa(isa)})"
    else:
        facts["kernels"] = f"none: {native.reason}; everything runs on the NumPy twins, right but slow"
    facts["threads"] = f"{convkit.get_threads()} ({_why_threads()})"
    if algorithm is not None:
        facts["algorithm"] = f"{algorithm} (forced by {settings.ALGORITHM_ENV})"
    if settings.TUNING_ENV in os.environ:
        facts["tuning"] = (f"{len(plans.timings())} layers measured on this CPU, from "
                           f"{settings.TUNING_ENV}={os.environ[settings.TUNING_ENV]}")
    return facts


def _why_isa(isa):
    cap = os.environ.get(native.ISA_ENV)
    return "the highest that this CPU and system run" if cap is None else f"capped by {native.ISA_ENV}={cap}"


def _why_threads():
    if settings.THREADS_ENV in os.environ:
        return f"set by {settings.THREADS_ENV}"
    allowed = settings.cpus_allowed()
    quota = settings.cgroup_cpus()
    if quota is not None and quota < allowed:
        return f"the container's quota; {allowed} CPUs may be used"
    return f"the CPUs that this process may use, of {os.cpu_count()}"
