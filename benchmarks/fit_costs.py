"""Fit the coefficients of ``convkit/plan/cost.py``: time every algorithm on many shapes, and predict.

    taskset -c 1 python benchmarks/fit_costs.py time times.json --seed 0 --shapes 200   # a file as ck.tune writes them
    python benchmarks/fit_costs.py fit times.json ...    # prints the coefficients, their errors, what choosing costs
    taskset -c 1 python benchmarks/fit_costs.py gradients            # times both ways of weight gradients and fits them

Time the same shapes several times, hours apart if the machine is shared: of each algorithm the best time counts.
"""

import argparse
import contextlib
import functools
import time
import timeit
from math import prod

import numpy as np

from convkit import cases, settings
from convkit.plan import cost, depthwise, direct
from convkit.plan.common import Timing
from convkit.spec.conv import conv_spec, towards, transposed_spec
from convkit.tuning import Tuning, load_tuning, time_candidates

WORK = 1e5, 3e8  # multiply-adds of a random shape
F32 = np.dtype(np.float32)
TABLE = 4  # times that a layer of the table counts


def table_specs(largest):
    """The convolutions of the table of layers and their input gradients, up to so many multiply-adds."""
    for case in dict.fromkeys(cases.CONVOLUTIONS + cases.OTHER_CONVOLUTIONS + cases.TRAINING):
        if not case.op.startswith("conv"):
            continue
        make = transposed_spec if "transpose" in case.op else conv_spec
        spec, *_ = make(case.x, F32, case.weight, F32, rank=len(case.x) - 2, **case.options)
        if spec.macs <= largest:
            yield spec, _images(spec)
            if make is conv_spec:
                yield towards(spec, "input_gradient"), _images(spec)


CHANNELS = [3, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]


def random_spec(rng):
    """A convolution that a network could have, every second one such as most networks have, and a batch for it."""
    while True:
        usual = rng.random() < 0.5
        rank = int(rng.choice([1, 2, 2, 2, 2, 3]))
        kernel = (int(rng.choice([1, 3, 3, 3, 5] if usual else [1, 2, 3, 4, 5, 7, 9])),) * rank
        stride, dilation = int(rng.choice([1, 1, 1, 2])), int(rng.choice([1] * 7 if usual else [1, 1, 1, 2, 4]))
        size = (_log_uniform(rng, *{1: (16, 8000), 2: (5, 160), 3: (4, 48)}[rank]),) * rank
        groups = 1 if usual else int(rng.choice([1, 1, 2, 4, 16]))
        c_in, c_out = (int(rng.choice(CHANNELS)) if usual else groups * _log_uniform(rng, 1, 600 // groups)
                       for _ in range(2))
        padding = int(rng.choice([0, 1, 1])) * (kernel[0] - 1) * dilation // 2
        if (kernel[0] - 1) * dilation >= size[0] + 2 * padding:
            continue
        spec, *_ = conv_spec((1, c_in, *size), F32, (c_out, c_in // groups, *kernel), F32, stride=stride,
                             padding=padding, dilation=dilation, groups=groups, rank=rank,
                             direction=str(rng.choice(["forward", "forward", "input_gradient"])))
        if WORK[0] <= spec.macs <= WORK[1] and 4 * prod(spec.x_shape(1)) < 2**25:
            return spec, _images(spec)


def _images(spec):
    return max(1, min(16, int(2e6 / spec.macs)))


def _log_uniform(rng, low, high):
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def measure(args):
    """Time every algorithm on the table's convolutions, or with ``--shapes`` on random ones; save as tuning."""
    isa, rng = settings.choice()[0], np.random.default_rng(args.seed)
    specs = (random_spec(rng) for _ in range(args.shapes)) if args.shapes else table_specs(args.largest)
    layers = {}
    for spec, images in specs:
        times = time_candidates(spec, isa, images, True, args.seconds)
        if times:
            layers[spec, isa] = Timing(images, times)
    Tuning(settings.cpu_name(), layers).save(args.file)


# ---- fitting

KNOWN = {spec for spec, _ in table_specs(1e12)}
amounts, row = functools.cache(cost.amounts), functools.cache(cost.row)


def read(paths):
    """The best microseconds an image of each algorithm in all files: {(spec, isa): {algorithm: time}}."""
    found = {}
    for path in paths:
        for key, timing in load_tuning(path).layers.items():
            if any(cost.by_rule(name, key[0]) for name in timing.microseconds):
                continue  # a rule decides
            best = found.setdefault(key, {})
            for name, t in timing.microseconds.items():
                best[name] = min(best.get(name, np.inf), t / timing.images)
    return found


def non_negative(a, b, weights, x):
    """The x >= 0 for which the weighted squares of ``a x - b`` are least, by one coordinate after the other from x."""
    a = a * weights[:, None]
    square, right, x = a.T @ a, a.T @ (b * weights), x.copy()
    for _ in range(100):
        for k in np.flatnonzero(square.diagonal()):
            x[k] = max(0.0, x[k] + (right[k] - square[k] @ x) / square[k, k])
    return x


def fitted(found):
    """{row: coefficients} with the least sum of |log(predicted / measured)|, where layers of the table, which networks
    have, count several times."""
    rows = {}
    for (spec, isa), times in found.items():
        for name, t in times.items():
            line = np.array(amounts(name, spec, isa)) / t
            rows.setdefault(row(name, spec, isa), []).append((line, TABLE if spec in KNOWN else 1))
    result = {}
    for name, lines in sorted(rows.items()):
        relative, counts = (np.array(values, float) for values in zip(*lines, strict=True))
        scale = relative.max(axis=0, initial=1e-30)
        weights, x, one = counts ** 0.5, np.zeros(len(scale)), np.ones(len(counts))
        for _ in range(10):
            x = non_negative(relative / scale, one, weights, x)
            ratio = (relative / scale @ x).clip(0.01)
            errors = np.abs(np.log(ratio))  # near (ratio - 1) / ratio ** 0.5, which is linear but for a weight
            weights = (counts / errors.clip(0.03) / ratio) ** 0.5
        result[name] = tuple(float(f"{c:.3g}") for c in x / scale)
        print(f"# {name}: {len(lines)} times, error: median {np.median(errors):.0%}, 90 % below "
              f"{np.quantile(errors, 0.9):.0%}, worst {np.exp(errors.max()):.1f} times")
    return result


def regrets(found, coefficients):
    """What is predicted fastest over what is fastest, of every shape."""
    def predicted(name, key):
        return np.dot(coefficients[row(name, *key)], amounts(name, *key))

    return [times[min(times, key=lambda name: predicted(name, key))] / min(times.values())
            for key, times in found.items()]


def balanced(found, coefficients):
    """The coefficients of each algorithm scaled as a whole, up to a quarter, so that choosing by them costs least.

    Errors are largest where an algorithm is far from the best, and nothing is chosen there.
    """
    def cost_of_choosing(values):
        counts = [TABLE if spec in KNOWN else 1 for spec, _ in found]
        return np.average(np.log(regrets(found, values)), weights=counts)

    for name in (*coefficients, *coefficients):
        scaled = [{**coefficients, name: tuple(float(f"{c * factor:.3g}") for c in coefficients[name])}
                  for factor in (1, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.18, 1.25)]
        coefficients = min(scaled, key=cost_of_choosing)
    return coefficients


def show_regrets(title, values):
    mean = np.exp(np.log(values).mean())
    most, nearly_all = np.quantile(values, [0.9, 0.99])
    print(f"# {title}: {len(values)} shapes, time of the chosen over the best: mean {mean:.3f}, 90 % below {most:.2f}, "
          f"99 % below {nearly_all:.2f}, worst {max(values):.2f}")


def fit(args):
    """Fit, and say how well it predicts what it has not seen."""
    found = read(args.files)
    for isa in sorted({isa for _, isa in found}):
        of_isa = {key: times for key, times in found.items() if key[1] == isa}
        keys, unseen = list(of_isa), []
        with contextlib.redirect_stdout(None):
            for part in range(4):
                others = {key: of_isa[key] for i, key in enumerate(keys) if i % 4 != part}
                rest = balanced(others, fitted(others))
                unseen += regrets({key: of_isa[key] for key in keys[part::4]}, rest)
        print(f"# {isa}")
        coefficients = balanced(of_isa, fitted(of_isa))
        show_regrets("fitted to these", regrets(of_isa, coefficients))
        show_regrets("fitted to the others", unseen)
        print(f'    "{isa}": {{')
        for name, values in coefficients.items():
            print(f'        "{name}": ({", ".join(f"{v:g}" for v in values)}),')
        print("    },")


def random_gradient(rng):
    """The weight gradient of a 2-d layer of few channels, or of many, and square maps."""
    while True:
        c_in, c_out = int(rng.choice([1, 2, 4, 8, *CHANNELS])), int(rng.choice([2, 4, 8, 16, 32, 64, 96, 128, 256]))
        width, kernel = _log_uniform(rng, 7, 224), int(rng.choice([1, 1, 2, 3, 3, 5, 7]))
        groups, stride = int(rng.choice([1, 1, 1, 2, 8])), int(rng.choice([1, 1, 2]))
        padding = int(rng.choice([0, kernel // 2]))
        size = (width - 1) * stride + kernel - 2 * padding
        if size > 0 and 1e6 <= c_in * c_out * groups * (width * kernel) ** 2 <= WORK[1]:
            x, w = (1, groups * c_in, size, size), (groups * c_out, c_in, kernel, kernel)
            return conv_spec(x, F32, w, F32, stride=stride, padding=padding, groups=groups, rank=2,
                             direction="weight_gradient")[0]


def gradients(args):
    """Time weight gradients by dot products and by sums over pixels, and print coefficients for both."""
    rng, isa, end = np.random.default_rng(args.seed), settings.choice()[0], time.perf_counter() + args.seconds
    times, amounts = [], []
    while time.perf_counter() < end:
        spec = random_gradient(rng)
        dy, x = (rng.standard_normal(shape, np.float32) for shape in (spec.y_shape(1), spec.x_shape(1)))
        dw = np.empty(spec.weight_shape, np.float32)
        ways = depthwise.WeightGradient(spec, isa), direct.WeightGradient(spec, isa)
        if ways[0].variant != "tiles":
            continue
        calls = [functools.partial(way, dy, x, dw) for way in ways]
        times.append([1e9 * min(timeit.repeat(call, number=1, repeat=8)) for call in calls])
        amounts.append((cost.dot_amounts(spec, isa), cost.pixel_amounts(spec, isa)))
    measured, predicted = np.array(times), []
    for name, a, b in zip(("DOTS", "SUMS"), zip(*amounts, strict=True), measured.T, strict=True):
        a = np.array(a, float)
        found = non_negative(a, b, 1 / b, np.zeros(a.shape[1]))
        predicted.append(a @ found)
        print(f"{name} {isa}: {', '.join(f'{v:.3g}' for v in found)}")
    dots, sums = predicted
    chosen, best = np.where(dots <= cost.WORTH_DOTS * sums, *measured.T), measured.min(1)
    for title, values in (("as predicted", chosen), ("direct alone", measured[:, 1])):
        over = values / best
        print(f"{title}: {np.exp(np.log(over).mean()):.3f} times the best, at most {over.max():.2f}, {len(over)} specs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    timing = commands.add_parser("time")
    timing.add_argument("file")
    timing.add_argument("--shapes", type=int, default=0)
    timing.add_argument("--seed", type=int, default=0)
    timing.add_argument("--largest", type=float, default=1e9, help="multiply-adds of a layer of the table")
    timing.add_argument("--seconds", type=float, default=0.02)
    timing.set_defaults(run=measure)
    fitting = commands.add_parser("fit")
    fitting.add_argument("files", nargs="+")
    fitting.set_defaults(run=fit)
    both = commands.add_parser("gradients")
    both.add_argument("--seed", type=int, default=0)
    both.add_argument("--seconds", type=float, default=60)
    both.set_defaults(run=gradients)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
