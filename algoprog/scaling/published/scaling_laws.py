"""The study's scaling experiments: fitted lines, gains read off them, and the final losses behind them.

Lines are ``L - 1.9 = A C^-alpha`` with C in training FLOPs as the study's profiler counts them and L in nats per token, on C4
under GPT-2's 50,257 tokens.
"""

from __future__ import annotations

from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.published.number import Number, Point

IRREDUCIBLE = Number("E", 1.9, "nats/token", "text", "law of the scaling experiments", note="held fixed, not fitted")
_LINE = "scaling figure, line of the class"
_NATS = "nats/token at 1 FLOP"
LINES = (
    Number("lstm A", 36.3, _NATS, "figure", _LINE),
    Number("lstm alpha", 0.065, "exponent", "figure", _LINE),
    Number("retro A", 81.7, _NATS, "figure", _LINE),
    Number("retro alpha", 0.091, "exponent", "figure", _LINE),
    Number("modern A", 88.0, _NATS, "figure", _LINE),
    Number("modern alpha", 0.094, "exponent", "figure", _LINE),
)
_REFIT = "the study's own fit repeated on its published curves"
REFITTED = (
    Number("lstm A, unrounded", 36.32842, _NATS, "curves", _REFIT),
    Number("lstm alpha, unrounded", 0.0651363, "exponent", "curves", _REFIT),
    Number("retro A, unrounded", 81.70841, _NATS, "curves", _REFIT),
    Number("retro alpha, unrounded", 0.0911047, "exponent", "curves", _REFIT),
    Number("modern A, unrounded", 87.96009, _NATS, "curves", _REFIT),
    Number("modern alpha, unrounded", 0.0941251, "exponent", "curves", _REFIT),
)
FLOPS_RANGE = {"lstm": (1e16, 4.14e16), "retro": (1e16, 1.56e17), "modern": (1e16, 2.11e17)}
"""FLOPs of the points that each line was fitted to, read from the published curves."""

HIGH_LOSS, LOW_LOSS = 5.277, 4.4
"""The two losses (nats per token) at which the study reads gains off its lines."""
_READ_OFF = "gains read off the lines"
GAINS = (
    Number("lstm to modern at 5.277", 6.28, "x", "figure", _READ_OFF),
    Number("lstm to modern at 4.4", 26.0, "x", "figure", _READ_OFF, note="the LSTM line ends at loss 4.89"),
    Number("retro to modern at 5.277", 1.33, "x", "figure", _READ_OFF),
    Number("retro to modern at 4.4", 1.5, "x", "figure", _READ_OFF, note="1.48 before rounding"),
    Number("lstm to retro at 5.277", 4.69, "x", "code", "ablation chart", note="a typed constant, not read off lines"),
)

_WIDTH_FLOPS_LOSS = {
    "lstm": (
        (32, 6.40e14, 5.8087), (128, 1.02e16, 5.2064), (160, 1.60e16, 5.0834), (192, 2.31e16, 5.0224),
        (224, 3.16e16, 4.9876), (256, 4.15e16, 4.8936),
    ),
    "retro": (
        (32, 6.58e14, 5.7209), (64, 2.82e15, 5.2074), (80, 4.68e15, 5.0383), (96, 7.29e15, 4.8989),
        (128, 1.54e16, 4.6891), (160, 2.97e16, 4.5217), (192, 5.38e16, 4.3952), (224, 9.31e16, 4.2862),
        (256, 1.56e17, 4.1437),
    ),
    "modern": (
        (32, 6.62e14, 5.5831), (48, 1.54e15, 5.2729), (64, 2.94e15, 5.0400), (128, 1.75e16, 4.5074),
        (160, 3.55e16, 4.3453), (192, 6.73e16, 4.1957), (224, 1.22e17, 4.0661), (256, 2.11e17, 3.9509),
    ),
}  # fmt: skip
POINTS = tuple(Point(arch, *row) for arch, rows in _WIDTH_FLOPS_LOSS.items() for row in rows)
POINTS_FROM = (
    "last logged losses of the runs at 40 tokens per parameter, read from the curves that the authors published "
    "(arXiv 2511.21622); one seed each; the line of the study is fitted to all logged rows from 1e16 FLOPs on"
)


def line(arch: str, unrounded: bool = False) -> PowerLaw:
    """The line of ``arch`` (lstm, retro or modern) as printed, or with the digits of the repeated fit."""
    numbers = {number.name: number.value for number in (*LINES, *REFITTED)}
    suffix = ", unrounded" if unrounded else ""
    return PowerLaw(IRREDUCIBLE.value, numbers[f"{arch} A{suffix}"], numbers[f"{arch} alpha{suffix}"])
