"""A check that every bijection passes: `check_bijection`."""

from typing import Any

import torch
from torch import Tensor

from nvp.flows.bijection import Bijection
from nvp.testing.common import check_gradients, check_parts, moved, near, off, require, seeded

STEP = 1e-6  # of the weights, for a difference


def check_bijection(
    f: Bijection, x: Tensor, y: Tensor | None = None, *, gradients: bool = True
) -> None:
    """Check `f` at the points `x`, (N, ...), in float64 and evaluation mode; give two or more.

    f must keep the shape. The inverse must undo f, and the log-determinant, (N,), must be that of
    the autograd Jacobian. Each point must be mapped independently of the others, and the same each
    time. The inverse must need nothing that the last forward pass left behind. The gradients of z
    and of the log-determinant must agree with finite differences. With `gradients` every parameter
    must have a gradient: pass False if some matter only at other points. Weights and statistics of
    batch norms are moved away from their first values, which hide mistakes. `y` is the condition,
    (N, K). The check takes a copy, and raises `AssertionError` with one line. An error of f's own
    goes through.
    """
    check_parts(f)
    f = moved(f).double().eval()
    given, y = x.detach().double(), None if y is None else y.double()
    x = given.clone()
    z, log_det = _two_tensors("f", f(x, y))
    require(torch.equal(x, given), "f changes the points that it is given")
    require(z.shape == x.shape, f"f maps shape {tuple(x.shape)} to {tuple(z.shape)}")
    require(z.dtype is x.dtype, f"f maps {x.dtype} to {z.dtype}")
    require(bool(z.isfinite().all()), "f makes numbers that are not finite")
    require(log_det.dtype is x.dtype, f"log-determinants of f are {log_det.dtype}, not {x.dtype}")
    before = z.clone()
    f(x.flip(0), None if y is None else y.flip(0))  # of which the inverse must need nothing
    back, log_det_back = _two_tensors("the inverse", f.inverse(z, y))
    require(torch.equal(z, before), "the inverse changes the points that it is given")
    for whose, found in (("f", log_det), ("the inverse", log_det_back)):
        shape = tuple(found.shape)
        require(shape == (len(x),), f"the log-determinants of {whose} are {shape}, not (N,)")
    require(not torch.allclose(z, x), "f changes nothing at x, so nothing is checked")
    require(torch.equal(f(x, y)[0], z), "f maps the same x to another z")
    require(near(back, x), f"the inverse is off by {off(back, x):.1e}")
    require(
        near(log_det_back, -log_det),
        f"the log-determinants of the two directions differ by {off(log_det_back, -log_det):.1e}",
    )
    for i in range(len(x)):
        own = None if y is None else y[i : i + 1]

        def alone(point: Tensor, own: Tensor | None = own) -> Tensor:
            return f(point[None], own)[0][0]

        require(near(alone(x[i]), z[i]), "the z of a point depends on those beside it")
        jacobian = torch.func.jacrev(alone)(x[i]).reshape(x[i].numel(), x[i].numel())
        by_autograd = torch.linalg.slogdet(jacobian).logabsdet
        require(
            near(log_det[i], by_autograd),
            f"the log-determinant is off by {off(log_det[i], by_autograd):.1e}",
        )
    if gradients and any(p.requires_grad for p in f.parameters()):
        mixed = (z * torch.randn(z.shape, generator=seeded(), dtype=z.dtype).to(z.device)).sum()
        (mixed + log_det.sum()).backward()
        check_gradients(f)
    _check_slope(f, x, y)


def _two_tensors(whose: str, found: Any) -> tuple[Tensor, Tensor]:
    several = isinstance(found, tuple | list)
    pair = several and [isinstance(part, Tensor) for part in found] == [True, True]
    require(pair, f"{whose} does not return two tensors, the points and the log-determinants")
    return found


def _check_slope(f: Bijection, x: Tensor, y: Tensor | None) -> None:
    """Compare gradients, by x and the weights, with differences in one direction; moves f.

    First that of the log-determinants, then that of z: a Jacobian by autograd does not see what
    passed through `detach`.
    """
    x = x.clone().requires_grad_()
    inputs, generator = [x, *(p for p in f.parameters() if p.requires_grad)], seeded()
    along = [torch.randn(p.shape, generator=generator).to(p) for p in inputs]
    mix = torch.randn(x.shape, generator=generator).to(x)

    def values() -> list[Tensor]:
        z, log_det = f(x, y)
        # + 0 x: autograd refuses a log-determinant that is a constant.
        return [log_det.sum() + 0 * x.sum(), (mix * z).sum()]

    slopes = []
    for total in values():
        gradients = torch.autograd.grad(total, inputs, retain_graph=True, materialize_grads=True)
        slopes.append(sum((g * a).sum().item() for g, a in zip(gradients, along, strict=True)))
    ends = []
    with torch.no_grad():
        for step in (STEP, -2 * STEP):
            for p, a in zip(inputs, along, strict=True):
                p.add_(step * a)
            ends.append([value.item() for value in values()])
    for what, slope, one, other in zip(("the log-determinant", "z"), slopes, *ends, strict=True):
        by_difference = (one - other) / (2 * STEP)
        require(
            abs(slope - by_difference) < 1e-4 * max(1, abs(slope)),
            f"{what} changes by {by_difference:.3g} where its gradient says {slope:.3g}",
        )
