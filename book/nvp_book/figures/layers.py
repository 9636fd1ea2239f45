"""Diagrams of the Pixel RNN: an LSTM's cell, the blocks of Figure 5, and the whole network."""

from nvp_book.figures import GREEN, ORANGE, PALE, SKY
from nvp_book.figures.diagram import arrow, arrows, box, circle, label, sheet


def plot_lstm_cell() -> None:
    """One step of the Row LSTM (eq 3): two convolutions, four gates, and the cell's own path."""
    axes = sheet(14.4, 6.0)
    line, gates, low = 5.4, 3.3, 1.5
    for name, y in (("c_{r-1}", line), ("h_{r-1}", low + 0.8), ("x_r", low - 0.8)):
        label(axes, (0.6, y), f"${name}$", size=12)
    for y, text, fill in (
        (low + 0.8, "state to state\n$K^{ss}$, no mask", SKY),
        (low - 0.8, "input to state\n$K^{is}$, mask B", GREEN),
    ):
        arrow(axes, (1.1, y), (1.7, y))
        box(axes, (3.1, y), (2.8, 1.1), text, fill=fill)
        arrow(axes, (4.5, y), (5.2, y), (5.2, low + (0.25 if y > low else -0.25)))
    circle(axes, (5.2, low), "+", radius=0.25)
    places = {"o": 11.4, "f": 6.6, "i": 8.1, "g": 9.6}
    arrow(axes, (5.45, low), (places["o"], low), head=False)
    label(axes, (5.95, low + 0.3), "$4h$")
    for name, x in places.items():
        arrow(axes, (x, low), (x, gates - 0.45))
        box(axes, (x, gates), (1.1, 0.9), f"${name}$\n{'tanh' if name == 'g' else 'σ'}", fill=PALE)
    # Along the top: forget, then write.
    product = (8.85, 4.35)
    arrow(axes, (1.1, line), (places["f"] - 0.25, line), colour=ORANGE)
    circle(axes, (places["f"], line), "×", radius=0.25)
    arrow(axes, (places["f"], gates + 0.45), (places["f"], line - 0.25))
    arrow(axes, (places["f"] + 0.25, line), (product[0] - 0.25, line), colour=ORANGE)
    for name, side in (("i", -0.25), ("g", 0.25)):
        x = places[name]
        arrow(axes, (x, gates + 0.45), (x, product[1]), (product[0] + side, product[1]))
    circle(axes, product, "×", radius=0.25)
    arrow(axes, (product[0], product[1] + 0.25), (product[0], line - 0.25))
    circle(axes, (product[0], line), "+", radius=0.25)
    arrow(axes, (product[0] + 0.25, line), (13.7, line), colour=ORANGE)
    label(axes, (14.05, line), "$c_r$", size=12)
    # Down on the right: show some of it.
    x = 12.9
    arrow(axes, (x, line), (x, 4.75))
    box(axes, (x, 4.35), (1.1, 0.8), "tanh", fill=PALE)
    arrow(axes, (x, 3.95), (x, gates + 0.25))
    arrow(axes, (places["o"] + 0.55, gates), (x - 0.25, gates))
    circle(axes, (x, gates), "×", radius=0.25)
    arrow(axes, (x + 0.25, gates), (13.7, gates))
    label(axes, (14.05, gates), "$h_r$", size=12)


def plot_lstm_block() -> None:
    """Figure 5, right: the residual connection around an LSTM layer, widths on the arrows."""
    axes = sheet(12.4, 3.0)
    y, up = 1.0, 2.35
    label(axes, (0.5, y), "$x$", size=12)
    box(axes, (3.3, y), (2.7, 1.0), "LSTM layer", fill=ORANGE)
    box(axes, (7.3, y), (2.3, 1.0), "1 × 1, mask B", fill=PALE)
    circle(axes, (10.3, y), "+", radius=0.25)
    for start, end, text in ((0.8, 1.95, "$2h$"), (4.65, 6.15, "$h$"), (8.45, 10.05, "$2h$")):
        arrow(axes, (start, y), (end, y))
        label(axes, ((start + end) / 2 + (0.12 if start < 1 else 0), y + 0.3), text)
    arrow(axes, (1.15, y), (1.15, up), (10.3, up), (10.3, y + 0.25))
    arrow(axes, (10.55, y), (11.6, y))
    label(axes, (11.05, y + 0.3), "$2h$")
    label(axes, (5.7, up + 0.3), "the input, unchanged")


def plot_pixelcnn_block() -> None:
    """Figure 5, left: the residual block of the PixelCNN, widths on the arrows."""
    axes = sheet(14.2, 3.0)
    y, up = 1.0, 2.35
    label(axes, (0.4, y), "$x$", size=12)
    stages = (("1 × 1", PALE), ("3 × 3", ORANGE), ("1 × 1", PALE))
    places, widths = (3.1, 6.6, 10.1), ("$2h$", "$h$", "$h$", "$2h$")
    for at, (name, fill) in zip(places, stages, strict=True):
        box(axes, (at, y), (2.4, 1.1), f"ReLU,\n{name}, mask B", fill=fill)
    starts, ends = (0.7, *(at + 1.2 for at in places)), (*(at - 1.2 for at in places), 12.2)
    for start, end, width in zip(starts, ends, widths, strict=True):
        arrow(axes, (start, y), (end, y))
        label(axes, (end - 0.55, y + 0.3), width)
    circle(axes, (12.45, y), "+", radius=0.25)
    arrow(axes, (1.0, y), (1.0, up), (12.45, up), (12.45, y + 0.25))
    arrow(axes, (12.7, y), (13.7, y))
    label(axes, (13.15, y + 0.3), "$2h$")
    label(axes, (6.6, up + 0.3), "the input, unchanged")


def plot_pixel_rnn() -> None:
    """The whole network of Table 1 with the shape of every map, and one of its layers enlarged."""
    axes = sheet(17.6, 7.6)
    y, skips = 5.1, 6.9
    box(axes, (1.0, y), (1.5, 1.2), "image", fill=SKY)
    box(axes, (3.7, y), (1.7, 1.2), "7 × 7\nmask A")
    for x, name in ((6.4, "layer 1"), (9.1, "layer $L$")):
        box(axes, (x, y), (1.7, 1.2), name, fill=ORANGE)
        arrow(axes, (x, y + 0.6), (x, skips), (11.0, skips), (11.0, y + 0.25))
    label(axes, (8.7, skips + 0.3), "skip connections, $2h$")
    label(axes, (7.75, y), "…", size=13)
    circle(axes, (11.0, y), "+", radius=0.25)
    for x in (13.0, 14.9, 16.8):
        box(axes, (x, y), (1.3, 1.2), "ReLU\n1 × 1", fill=PALE)
    arrows(axes, y, (1.75, 2.85), (4.55, 5.55), (9.95, 10.75), (11.25, 12.35))
    arrows(axes, y, (13.65, 14.25), (15.55, 16.15))
    arrow(axes, (16.8, y - 0.6), (16.8, 3.75))
    label(axes, (17.5, 3.45), "256-way softmax for each colour", align="right")
    shapes = ("$C × H × W$", "to $2h × H × W$", "$2h$ to $2h$ each", "1024 maps each")
    for x, text in zip((1.0, 3.7, 7.75, 13.95), shapes, strict=True):
        label(axes, (x, y - 0.95), text)
    label(axes, (15.5, y + 0.95), "256 $C$ maps", align="left")
    # One layer, enlarged.
    low = 1.2
    label(axes, (0.4, 3.1), "one layer", size=11, align="left")
    label(axes, (1.2, low), "$x$", size=12)
    box(axes, (5.3, low), (4.6, 1.5), "Row LSTM,\nDiagonal BiLSTM, or\nPixelCNN", fill=ORANGE)
    box(axes, (10.0, low), (1.9, 1.0), "1 × 1", fill=PALE)
    box(axes, (10.0, low + 1.55), (1.9, 1.0), "1 × 1", fill=PALE)
    circle(axes, (12.9, low), "+", radius=0.25)
    arrows(axes, low, (1.5, 3.0), (7.6, 9.05), (10.95, 12.65), (13.15, 14.1))
    for x, width in ((2.55, "$2h$"), (8.0, "$h$"), (11.8, "$2h$")):
        label(axes, (x, low + 0.3), width)
    arrow(axes, (8.4, low), (8.4, low + 1.55), (9.05, low + 1.55))
    arrow(axes, (10.95, low + 1.55), (12.3, low + 1.55))
    label(axes, (12.5, low + 1.55), "to the head, $2h$", align="left")
    arrow(axes, (1.9, low), (1.9, 0.1), (12.9, 0.1), (12.9, low - 0.25))
    label(axes, (14.25, low), "to the next layer, $2h$", align="left")


def plot_conditioning() -> None:
    """Section 3.6: the small image becomes a map, and every layer gets a 1x1 convolution of it."""
    axes = sheet(15.6, 5.0)
    y, low = 3.9, 1.0
    box(axes, (1.1, y), (1.5, 1.2), "small\nimage $s$", fill=SKY)
    box(axes, (3.9, y), (2.5, 1.2), "convolutions,\nno mask")
    box(axes, (7.4, y), (2.9, 1.2), "deconvolutions,\nside × 2 each")
    arrows(axes, y, (1.85, 2.65), (5.15, 5.95))
    label(axes, (10.3, y + 0.35), "$c$ maps, $n × n$")
    arrow(axes, (8.85, y), (13.6, y), head=False)
    box(axes, (1.1, low), (1.5, 1.2), "image $x$", fill=SKY)
    box(axes, (4.0, low), (1.7, 1.2), "7 × 7\nmask A")
    arrows(axes, low, (1.85, 3.15), (4.85, 10.6), (14.45, 15.3))
    label(axes, (12.55, low), "…")
    for x, name in ((11.5, "layer 1"), (13.6, "layer $L$")):
        box(axes, (x, low), (1.7, 1.2), name, fill=ORANGE)
        box(axes, (x, 2.6), (1.3, 0.8), "1 × 1", fill=PALE)
        arrow(axes, (x, y), (x, 3.0))
        arrow(axes, (x, 2.2), (x, low + 0.6))
    label(axes, (10.7, 2.0), "added", align="right")
