"""What each sub-pixel sees: nothing at or after its own place, and all that the paper says."""

from itertools import product

import pytest
import torch
from nvp_book.figures import contexts
from pixels import VARIANTS, config, moved_by_change, moved_by_gradient, names, randomised
from torch import Tensor

from nvp import PixelRNN, PixelRNNConfig
from nvp.autoregressive.config import Kind


def receptive_field(of: PixelRNNConfig) -> Tensor:
    """[o, i]: whether sub-pixel o sees sub-pixel i, derived on paper: (D, D) bool, in order.

    For a kernel at most two wider than the first, so that no way leads around the image's edge.
    """
    channels, height, width = of.image_shape
    places = list(product(range(height), range(width), range(channels)))
    return torch.tensor([[_sees(of, target, source) for source in places] for target in places])


def _sees(of: PixelRNNConfig, target: tuple[int, int, int], source: tuple[int, int, int]) -> bool:
    channels, _, width = of.image_shape
    up, right = target[0] - source[0], source[1] - target[1]
    if source >= target:
        return False
    if (up, right) == (0, 0):
        return True  # an earlier colour of the same pixel
    # How far the first convolution and the others reach, and how many others there are.
    a, b, n = of.first_kernel // 2, of.kernel_size // 2, of.num_layers
    # Of the mask A convolution's features at a pixel, none sees that pixel's last colour, but
    # some see the others: where the layers alone reach a pixel, they find those.
    last_colour = source[2] == channels - 1
    match of.kind:
        case Kind.PIXELCNN:
            # A wedge: each layer takes it b to the right, but only together with a row up. What
            # is further up right is the blind spot.
            last = -1 if up == 0 else a + b * min(up - 1, n)
            seen = up <= a + n * b and -(a + n * b) <= right <= last
            by_layers = 0 < up <= n * b and -n * b <= right <= b * min(up, n)
            return seen or (by_layers and not last_colour)
        case Kind.ROW_LSTM:
            # A triangle that widens by b a row: to the right of the first convolution's field in
            # the row above; to the left with b more for each masked input-to-state convolution.
            last = -1 if up == 0 else a + b * (up - 1)
            seen = -(a + b * (up + n)) <= right <= last
            by_layers = up > 0 and -b * (up + n) <= right <= b * up
            return seen or (by_layers and not last_colour)
        case Kind.DIAGONAL_BILSTM:
            # All that came before, but for the last colour of the last pixel of the row above:
            # its own features do not see it (mask A), none are to its right, and of those below
            # only the ones that are not to the right of the target come before it.
            hidden = up == 1 and source[1] == width - 1 and right > a
            return not (hidden and last_colour)


@pytest.mark.slow
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        *(((1, 3, 4), each) for each in VARIANTS[3:]),
        # Of three colours with widths that three does not divide, and with one that it does.
        *(((3, 3, 4), {"hidden": 7, "head": 11, **each}) for each in VARIANTS),
        ((3, 3, 4), {"hidden": 6}),
        *(((1, 6, 9), {"num_layers": n}) for n in (1, 2)),
        ((1, 6, 9), {"first_kernel": 5}),
        ((1, 6, 9), {"first_kernel": 7, "num_layers": 2}),  # the paper's kernels
        ((1, 6, 9), {"kernel_size": 5}),
        ((1, 9, 5), {"num_layers": 2}),
        ((1, 1, 7), {}),
        ((1, 7, 1), {}),
        ((3, 4, 5), {"hidden": 6, "first_kernel": 5}),
        ((3, 4, 5), {"hidden": 6, "kernel_size": 5}),  # red and green are seen further than blue
    ],
    ids=str,
)
def test_no_more_is_seen_than_the_paper_says_and_no_less(kind: Kind, shape, settings) -> None:
    """By both ways of finding out.

    Of two models or more, since a ReLU of one may be closed to all images.
    """
    of = config(kind, shape, **settings)
    stated = receptive_field(of)
    for way in (moved_by_change, moved_by_gradient):
        moved = torch.zeros_like(stated)
        for seed in range(6):
            model = randomised(PixelRNN(of), seed)
            moved |= way(model, trials=2)
            if seed > 0 and torch.equal(moved, stated):
                break
        assert names(model, stated & ~moved) == []
        assert names(model, moved & ~stated) == []


def test_a_field_has_its_place_and_no_other_image() -> None:
    """The output at a place is the input one row up and two columns to the right."""
    seen = contexts.receptive_field(
        lambda x: x.roll((1, -2), (2, 3)).relu()[:, :1], (2, 4, 5), (2, 1)
    )
    assert seen.nonzero().tolist() == [[1, 3]]
