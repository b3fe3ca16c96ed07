"""Muon for the matrices, AdamW for the rest: the time is short, and Muon learns more from each batch.

Muon (Jordan et al., 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so that every direction learns at
the same rate. Updates are scaled to the size that AdamW's have (Liu et al., 2025), hence one learning rate for both.
"""

import torch

# Newton-Schulz iteration that drives all singular values to about 1, and how often.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5

# Root mean square of one AdamW update before the learning rate.
_ADAMW_RMS = 0.2


def orthogonal(matrix):
    """The orthogonal matrix nearest to `matrix` (rows, columns), roughly."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; those beyond the first are taken as one."""

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, group)

    def _update(self, parameter, group):
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
        update = orthogonal(ahead) * (_ADAMW_RMS * max(ahead.shape) ** 0.5)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view_as(parameter), alpha=-group["lr"])


def make(model, lr_muon, lr_adamw):
    """The optimisers of `model`: [Muon, AdamW]."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        hidden = parameter.ndim >= 2 and not name.startswith(("embedding", "decoder_positions", "ctc"))
        (matrices if hidden else rest).append(parameter)
    return [Muon(matrices, lr_muon), torch.optim.AdamW(rest, lr_adamw, betas=(0.9, 0.98), weight_decay=0.01)]
