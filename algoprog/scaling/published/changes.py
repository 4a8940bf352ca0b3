"""The study's single changes and what they are said to make together."""

from __future__ import annotations

from dataclasses import dataclass

from algoprog.scaling.published.number import Number, ReadFrom

_BAR = "ablation chart, bar of the change"
_HOW = "modern, width 64, 20 tokens per parameter, one seed, loss 5.277, read to the nearest logged row (4.3 %)"


@dataclass(frozen=True)
class Change:
    """A published gain of ``new`` over ``old``, architectures or sweep variants of this package; ``label`` as shown."""

    label: str
    old: str
    new: str
    gain: Number


def _bar(label: str, old: str, value: float, note: str = "", read_from: ReadFrom = "figure") -> Change:
    return Change(label, old, "modern", Number(label, value, "x", read_from, _BAR, note=note or _HOW))


ABLATIONS = (
    _bar("Adam to AdamW", "adam", 1.00),
    _bar("inverse sqrt to cosine", "inverse-sqrt", 1.04),
    _bar("linear to cosine", "linear", 1.04),
    _bar("LayerNorm to RMSNorm", "layernorm", 1.09),
    _bar("ReLU to SwiGLU", "relu", 1.15, "not in the chart: its rule on the published curves", "curves"),
    _bar("GELU to SwiGLU", "gelu", 1.17, "from another series of runs than the other bars"),
    _bar("learned to rotary", "learned", 1.26),
    _bar("sinusoidal to rotary", "sinusoidal", 1.44),
    _bar("post to pre norm", "post-norm", 1.87, f"{_HOW}; post-norm at its own learning rate"),
)
CLASSES = (
    Change("SGD to Adam", "modern-sgd", "modern", Number(
        "SGD to Adam", 1.67, "x", "code", _BAR, note="a typed constant; the published curves give 3.45")),
    Change("retro to modern", "retro", "modern", Number(
        "retro to modern", 1.33, "x", "figure", _BAR, note="read off lines below their fitted range")),
    Change("LSTM to retro", "lstm", "retro", Number(
        "LSTM to retro", 4.69, "x", "code", _BAR, note="a typed constant; the lines give 4.48")),
    Change("LSTM to modern", "lstm", "modern", Number(
        "LSTM to modern", 6.28, "x", "figure", _BAR, note="read off lines, the modern one below its fitted range")),
)  # fmt: skip

_TOGETHER = "single changes against all together"
PREDICTED = Number("retro to modern, predicted", 3.43, "x", "text", _TOGETHER, note="product of single changes")
MEASURED = Number(
    "retro to modern, measured", 1.33, "x", "text", _TOGETHER, note="read off lines, 40 tokens per parameter"
)
PREDICTED_LSTM = Number("LSTM to modern, predicted", 16.66, "x", "code", _TOGETHER, note="4.69 times 3.55")
MEASURED_LSTM = Number("LSTM to modern, measured", 6.28, "x", "text", _TOGETHER, note="read off lines")
TOGETHER = (PREDICTED, MEASURED, PREDICTED_LSTM, MEASURED_LSTM)

FACTORS = {
    "model.activation": ("gelu", "swiglu"),
    "model.position": ("sinusoidal", "rotary"),
    "model.norm_placement": ("post", "pre"),
    "schedule.name": ("inverse_sqrt", "cosine"),
}
"""Config keys of this package that make retro out of modern, old level first."""
