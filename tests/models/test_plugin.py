"""A user's architecture is checked before it runs, and whatever is wrong with it is one clear line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from algoprog.config import CODE_VARIABLE, BudgetConfig, InputError, RunConfig, allow_code, parse
from algoprog.data.store import TokenStore
from algoprog.models import build_model, model_flops, parameter_count
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

EXAMPLE = Path(__file__).parents[2] / "docs" / "guide" / "examples" / "shift_mixer.py"

GOOD = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self, width, depth, vocab, context, **settings):
        super().__init__()
        self.table = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab)
        self.v, self.w = vocab, width
    def forward(self, tokens):
        return self.head(self.table(tokens))
    def flops(self, context):
        return {"head": {"forward": 2 * context * self.v * self.w, "backward": 4 * context * self.v * self.w}}
"""


@pytest.fixture(autouse=True)
def nothing_allowed() -> Iterator[None]:
    before = os.environ.pop(CODE_VARIABLE, None)
    yield
    os.environ.pop(CODE_VARIABLE, None)
    if before is not None:
        os.environ[CODE_VARIABLE] = before


def config(file: Path, name: str = "Model", **settings: object) -> RunConfig:
    model = {"model": {"context": 16, "settings": settings}}
    run = resolve(
        f"{file}:{name}", 8, BudgetConfig(tokens=4096), data={"tokenizer": "bpe-300"}, overrides={"batch": 8, **model}
    )
    assert run.arch == name
    return run


def test_the_example_of_the_guide_trains_and_repeats(periodic: TokenStore, engine: Engine) -> None:
    allow_code(EXAMPLE)
    run = config(EXAMPLE, "ShiftMixer", ratio=2)
    assert parse(RunConfig, run.model_dump(mode="json"), "stored") == run
    first, second = train(run, periodic, engine), train(run, periodic, engine)
    assert first.loss is not None and first.loss == second.loss and first.state == "done"
    assert first.flops == model_flops(run.model).training_total * 8 * first.steps
    assert first.params == parameter_count(run.model)
    a, b = build_model(run.model, 1), build_model(run.model, 1)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(build_model(run.model, 2).parameters()))


def test_names_follow_the_contents_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    allow_code(file)
    before = config(file)
    assert model_flops(before.model).of("head") == 6 * 16 * 300 * 8
    file.write_text(GOOD + "# another comment\n")
    assert config(file).digest("f") != before.digest("f")
    with pytest.raises(InputError, match="has changed since this run was planned"):
        build_model(before.model, 0)


def test_files_that_the_command_line_does_not_name_are_not_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + GOOD)
    with pytest.raises(InputError, match=r"does not name; if you trust it, add --code .*mine\.py"):
        model_flops(config(file).model)
    assert not (tmp_path / "ran").exists()


BAD = {
    "syntax": (("import torch", "import torch torch"), "cannot be imported: SyntaxError"),
    "import": (("import torch", "import nothing_of_that_name"), "cannot be imported: ModuleNotFoundError"),
    "exit": (("import torch", "raise SystemExit(0)"), "cannot be imported: SystemExit"),
    "class": (("class Model", "class Modle"), "no class Model; expected Modle"),
    "module": (("class Model(nn.Module)", "class Model(dict)"), "not a torch.nn.Module|constructor failed"),
    "constructor": (("= vocab, width", "= vocab, width / 0"), "the constructor failed at line 9: ZeroDivisionError"),
    "forward": (("return self.head(", "return self.haed("), "a training step failed at line 11: AttributeError"),
    "shape": (("(self.table(tokens))", "(self.table(tokens))[:, 0]"), r"got \[1, 300\]; expected logits \[1, 16, 300\]"),
    "none": (("def flops", "def cost"), "no FLOP count; expected a method flops.*executes 76800 forward and 153600 backward"),
    "wrong": (("4 * context", "2 * context"), "got '76800 forward and 76800 backward'; expected 76800 forward and 153600"),
    "float": (("4 * context", "4.0 * context"), "head is no FLOP count"),
    "component": (('"head"', '"haed"'), "unknown component; got 'haed'"),
    "not a count": (("return {", "return 3  # {"), "returns no FLOP count; got '3'"),
    "future": (("self.table(tokens)", "self.table(tokens).mean(1, True).expand(-1, 16, -1)"), "depends on a later token"),
    "nan": (("self.table(tokens)", "self.table(tokens) * float('nan')"), "first loss is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line(case: str, tmp_path: Path) -> None:
    (old, new), message = BAD[case]
    assert old in GOOD
    file = tmp_path / "mine.py"
    file.write_text(GOOD.replace(old, new))
    allow_code(file)
    with pytest.raises(InputError, match=message) as caught:
        model_flops(config(file).model)
    assert "\n" not in str(caught.value) and "mine.py" in str(caught.value)


def test_missing_files_and_bad_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        config(tmp_path / "none.py")
    recipe = tmp_path / "mine.yaml"
    for text, message in (
        ("extends: modren", "did you mean 'modern'"),
        ("[1]", "not a recipe"),
        ("extends: modern\noptm: {}", "did you mean 'optim'"),
        ("description: x", "model: field required"),
    ):
        recipe.write_text(text)
        with pytest.raises(InputError, match=message):
            resolve(str(recipe), 8, BudgetConfig(tokens=4096))
    recipe.write_text("extends: retro\nbatch: 2\nschedule: {name: linear}")
    run = resolve(str(recipe), 16, BudgetConfig(tokens=4096))
    assert (run.arch, run.batch, run.schedule.name, run.optim.name) == ("mine", 2, "linear", "adam")
