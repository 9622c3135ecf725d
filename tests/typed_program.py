"""A user's program as a type checker sees it: `mypy --strict` must find nothing here (.ci/run)."""

import numpy as np
from numpy.typing import NDArray

import convkit
import convkit.functional as F
from convkit import nn, optim


class Residual(nn.Module):
    """A layer of one's own."""

    def __init__(self, body: nn.Module) -> None:
        self.body = body

    def forward(self, x: convkit.typing.Floats) -> tuple[convkit.typing.Floats, convkit.typing.Backward]:
        y, backward = self.body.forward(x)
        return x + y, lambda dy: dy + backward(dy)


def network(rng: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same", rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        Residual(nn.Conv2d(8, 8, (3, 3), padding=((1, 1), (1, 1)), rng=rng)), nn.BatchNorm2d(8),
        nn.Flatten(), nn.Dropout(0.1, rng=rng), nn.Linear(8 * 4 * 4, 10, rng=rng))


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 1, 8, 8)).astype(np.float32)
    target = rng.integers(0, 10, 32)
    model = network(rng)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    groups = optim.RMSprop([{"params": model[:5].requires_grad_(False).parameters()},
                            {"params": model[5:].parameters(), "lr": 0.1}], lr=0.01)
    for group in groups.param_groups:
        group["lr"] *= 0.5
    print(optim.StepLR(groups, 1).get_last_lr(), groups.momentum, model.apply(print).float().requires_grad_())
    history = convkit.fit(model, nn.CrossEntropyLoss(), optimizer, x, target, epochs=1, batch_size=8, progress=False)
    rate: float = history.epochs[-1].images_per_second
    scores: NDArray[np.floating] = convkit.predict(model, x)
    dx, dw, db = F.conv2d_backward(F.conv2d(x, x[:, :, :3, :3]), x, x[:, :, :3, :3], needs=(True, True, False))
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    up = nn.ConvTranspose2d(8, 8, 2, stride=2, rng=rng)(x[:, :1].repeat(8, axis=1), output_size=(16, 16))
    padded = F.pad_backward(F.pad(F.conv_transpose1d(x[:, 0], x[:8, 0, :8, :3], output_padding=0), (1, 1), "reflect"),
                            (1, 1), "reflect")
    with convkit.threads(2), convkit.use(algorithm="reference"):
        y = F.relu(F.max_pool2d(x, kernel_size=2, stride=(2, 2)))
    convkit.save("model.safetensors", model.state_dict())
    model.load_state_dict(convkit.load("model.safetensors"))
    print(convkit.evaluate(model, nn.CrossEntropyLoss(), x, target), convkit.load_metadata("model.safetensors").keys())
    print(rate, scores.shape, dx, dw, db, pooled, indices, up, padded, y, model.summary((1, 8, 8)).macs)
    if convkit.tune(model, (32, 1, 8, 8), backward=True, path="tuning.json").in_use:
        convkit.clear_tuning()
    print(convkit.load_tuning("tuning.json").layers)
    first: nn.Parameter = nn.init.zeros_(model[-1].bias)
    print(first.shape)
    algorithm: str = convkit.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1).steps[0].algorithm
    together: tuple[str, ...] = convkit.explain(model, x).stages[0].layers
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    print(algorithm, together, convkit.verify(cases=1).passed)


main()
