"""The command contract: every command with ``--json`` prints one object, bad input exits 2 with one line, logs go to stderr."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from algoprog import quickstart
from algoprog.cli import app
from algoprog.scaling import PowerLaw, Surface

LAWS = {"lstm": PowerLaw(1.9, 40.0, 0.10), "modern": PowerLaw(1.9, 60.0, 0.12)}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def parsed(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == code, (result.output, result.exception)
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def refused(*arguments: object) -> str:
    """The one line on stderr of a refused command; nothing is on stdout."""
    result = call(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    errors = [
        line for line in result.stderr.splitlines() if not line.startswith("algoprog: ")
    ]  # progress of preparing data
    assert result.stdout == "" and len(errors) == 1 and errors[0].startswith("error: "), result.output
    return errors[0]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for number in range(40):
        words = [f"word{(number * 7 + k * k) % 97}" for k in range(500)]
        (folder / f"{number}.txt").write_text(" ".join(words))
    return folder


@pytest.fixture(scope="module")
def sweep_file(texts: Path) -> Path:
    grids = [
        {"arch": ["modern", "retro", "lstm"], "width": [8, 16], "flops": ["4e7", "1e8", "2.5e8", "6e8"], "lr": 0.01}
    ]
    values = {
        "name": "tiny", "data": {"corpus": str(texts), "tokenizer": "bpe-300"},
        "settings": {"batch": 4, "model": {"context": 32}}, "grids": grids, "compare": [["lstm", "modern"]],
    }  # fmt: skip
    path = texts.parent / "tiny-sweep.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def swept(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept")
    summary = parsed("sweep", sweep_file, "--out", out, "--precision", "fp32")
    assert summary["done"] == summary["planned"] == 24 and summary["complete"]
    return out


@pytest.fixture()
def table(tmp_path: Path) -> Path:
    """A CSV of final points of two known laws with a little noise: 10 budgets over two decades."""
    rows = [
        {
            "arch": arch,
            "flops": 1e15 * 10 ** (i / 4.5),
            "loss": law.loss(1e15 * 10 ** (i / 4.5)) * (1 + 0.001 * (-1) ** i),
        }
        for arch, law in LAWS.items()
        for i in range(10)
    ]
    path = tmp_path / "runs.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_data_prepare(texts: Path) -> None:
    first = parsed("data", "prepare", texts, "--tokenizer", "bpe-300")
    assert first["vocab"] == 300 and first["train_tokens"] > first["validation_tokens"] > 0
    assert len(first["fingerprint"]) == 64 and parsed("data", "prepare", texts, "--tokenizer", "bpe-300") == first


def test_plan(sweep_file: Path) -> None:
    plan = parsed("plan", sweep_file, "--precision", "fp32")
    assert len(plan["runs"]) == 24 and all(isinstance(run["flops"], int) for run in plan["runs"])


def test_sweep_status_and_export(swept: Path, sweep_file: Path) -> None:
    assert parsed("sweep", sweep_file, "--out", swept, "--precision", "fp32")["executed"] == 0
    status = parsed("status", swept)
    assert status["states"] == {"done": 24} and status["problems"] == [] and status["flops_left"] == 0
    exported = parsed("runs", "export", swept)
    assert exported["rows"] == 24
    columns = {"run", "arch", "width", "params", "tokens", "seed", "flops", "loss", "flop_convention"}
    assert columns <= set(pd.read_csv(exported["file"]).columns)


def test_fit_and_ceg_on_a_sweep_and_on_its_export_agree(swept: Path) -> None:
    exported = parsed("runs", "export", swept)["file"]
    for arguments in (
        ["fit", "--draws", 100],
        ["ceg", "--from", "lstm", "--to", "modern", "--at-flops", "2e8", "--draws", 100],
    ):
        name, *options = arguments
        from_store, from_csv = parsed(name, swept, *options), parsed(name, exported, *options)
        assert from_store == from_csv


def test_fit_contract(table: Path) -> None:
    result = parsed("fit", table, "--law", "frontier", "--draws", 200)
    assert [law["arch"] for law in result["laws"]] == ["lstm", "modern"]
    for law in result["laws"]:
        assert set(law) >= {"arch", "E", "A", "alpha", "n_points", "n_runs", "intervals", "flops_range"}
        low, high = law["intervals"]["alpha"]
        assert low <= law["alpha"] <= high and law["n_points"] == 10
    fixed = parsed("fit", table, "--irreducible", "1.9", "--draws", 100)
    for law in fixed["laws"]:
        assert law["alpha"] == pytest.approx(LAWS[law["arch"]].alpha, rel=0.02) and law["E"] == 1.9


@pytest.fixture()
def grid(tmp_path: Path) -> Path:
    """A CSV with params, tokens and loss only: a known surface, five budgets of seven sizes, a little noise."""
    surface = Surface(1.7, 400.0, 400.0, 0.34, 0.28)
    rows = []
    for i in range(35):
        flops, factor = 1e17 * 10 ** (i // 7), 4.0 ** ((i % 7 - 3) / 3)
        n = surface.optimal(flops)[0] * factor
        loss = surface.loss(n, flops / 6 / n) * (1 + 0.001 * (-1) ** (i * i // 3))
        rows.append({"params": n, "tokens": flops / 6 / n, "loss": loss})
    path = tmp_path / "grid.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("options", [[], ["--delta", "1e-3"], ["--loss", "lad"], ["--loss", "squared"]], ids=" ".join)
def test_fit_surface_contract(grid: Path, options: list[str]) -> None:
    result = parsed("fit", grid, "--law", "surface", *options, "--draws", 100)
    assert (result["law"], result["arch"], result["status"], result["n"]) == ("surface", "all", "converged", 35)
    for key in ("E", "A", "B", "alpha", "beta", "a", "gamma"):
        low, high = result["intervals"][key]
        assert low <= result[key] <= high, key
    assert result["a"] == pytest.approx(0.4516, abs=0.02) and result["E"] == pytest.approx(1.7, abs=0.05)
    assert result["sigma"] > 0 and result["bootstrap"]["draws"] == 100
    assert result["delta"] == 1e-3 if options[:1] == ["--delta"] else result["loss"] == (options or [0, "huber"])[1]


def test_fit_surface_of_several_architectures(grid: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(grid)
    both = pd.concat([rows.assign(arch="one"), rows.assign(arch="two", loss=rows["loss"] * 1.01)])
    both.to_csv(tmp_path / "both.csv", index=False)
    arguments = ["fit", tmp_path / "both.csv", "--law", "surface", "--draws", 100]
    result = parsed(*arguments)
    assert [found["arch"] for found in result["surfaces"]] == ["one", "two"] and result["law"] == "surface"
    shown = call(*arguments)
    assert shown.exit_code == 0 and "one: L = E + A N^-alpha" in shown.stdout and "starts agree" in shown.stdout


def test_fit_reads_a_frontier_off_the_surface(grid: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(grid)
    rows.assign(arch="modern", flops=6 * rows["params"] * rows["tokens"]).to_csv(tmp_path / "all.csv", index=False)
    (law,) = parsed("fit", tmp_path / "all.csv", "--points", "surface", "--draws", 100)["laws"]
    surface = parsed("fit", grid, "--law", "surface", "--draws", 100)
    assert law["alpha"] == pytest.approx(surface["gamma"], rel=1e-6) and law["n_points"] == 5 and law["n_runs"] == 35
    assert law["intervals"]["alpha"][0] < law["alpha"] < law["intervals"]["alpha"][1]


def test_fit_cuts_compute(table: Path, grid: Path) -> None:
    cut = parsed("fit", table, "--draws", 100, "--min-flops", "3e15")
    assert all(law["flops_range"][0] >= 3e15 for law in cut["laws"])
    cut = parsed("fit", grid, "--law", "surface", "--draws", 100, "--max-flops", "5e20")
    assert cut["n"] == 28 and cut["excluded"] == {"outside the cuts on flops": 7}


def test_breaks_contract(table: Path, tmp_path: Path) -> None:
    found = parsed("breaks", table, "--arch", "modern", "--draws", 99, "--at-flops", "1e25")
    assert found["arch"] == "modern" and found["n_points"] == 10
    test, walk = found["break"], found["extrapolation"]
    assert test["status"] == "tested" and 0 < test["p_value"] <= 1 and not test["claimed"] and test["method"]
    assert {"sup_f", "delta_bic", "delta_aicc", "position", "detectable_change", "sentence"} <= set(test)
    assert [cut["n"] for cut in walk["cuts"]] == [4, 5, 6, 7, 8, 9]
    assert {"error", "half_width", "flagged", "counted"} <= set(walk["cuts"][0]["later"][0])
    assert found["target"]["status"] in ("unlicensed", "failed") and found["target"]["beyond"] > 7
    few = parsed("breaks", table, "--arch", "lstm", "--max-flops", "1e16", "--draws", 99, "--out", tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"extrapolation.png", "extrapolation.pdf"}
    assert few["break"]["status"] == "too_few" and few["excluded"] == {"outside the cuts on flops": 5}


def test_power_contract(tmp_path: Path) -> None:
    found = parsed("power", "--decades", 2, "--refits", 40, "--out", tmp_path)
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")
    row = next(row for row in found["rows"] if row["decades"] == 2)
    assert row["points_per_arch"] == {"known": 3, "shared": 24, "separate": 957}
    assert found["check"]["refits"] == 40 and 0 <= found["check"]["power"] <= 1
    assert sum(found["c_optimal"]["by_runs"]["runs"]) == 16 and found["log_gain"]["middle"]["gain"] > 1


def test_breaks_and_power_refuse_bad_input(table: Path) -> None:
    assert "modern" in refused("breaks", table, "--arch", "modren")
    assert "tolerance" in refused("breaks", table, "--arch", "modern", "--tolerance", 0)
    assert "no compute" in refused("breaks", table, "--arch", "modern", "--min-flops", "1e20", "--max-flops", "1e16")
    assert "inside the cuts" in refused("breaks", table, "--arch", "modern", "--min-flops", "1e20")
    assert "target" in refused("breaks", table, "--arch", "modern", "--at-flops", -1)
    assert "written" in refused("power", "--refits", 20, "--out", table / "figures")
    assert "gap" in refused("power", "--gap", 0) and "points" in refused("power", "--points", 2)
    assert call("power", "--refits", 3).exit_code == 2 and call("breaks", table).exit_code == 2


@pytest.mark.parametrize(
    ("at", "in_range"), [(["--at-flops", "3e15"], True), (["--at-flops", "1e22"], False), (["--at-loss", "3.5"], None)]
)
def test_ceg_contract(table: Path, at: list[str], in_range: bool | None) -> None:
    gain = parsed("ceg", table, "--from", "lstm", "--to", "modern", *at, "--irreducible", "1.9", "--draws", 100)
    assert set(gain) >= {"gain", "interval", "in_range", "anchor", "method", "loss", "flops"}
    loss = float(at[1]) if at[0] == "--at-loss" else LAWS["modern"].loss(float(at[1]))
    expected = LAWS["lstm"].compute(loss) / LAWS["modern"].compute(loss)
    assert gain["gain"] == pytest.approx(expected, rel=0.1)
    assert gain["interval"][0] <= gain["gain"] <= gain["interval"][1]
    if in_range is not None:
        assert gain["in_range"] is in_range


def test_decompose_contract() -> None:
    found = parsed("decompose", "--preset", "gundlach-2025")
    assert found == parsed("decompose")
    for label, study, composed in (("2012-2023", 6926.35, 10100.6), ("2013-2025", 21415.66, 31230.1)):
        assert found["study"][label]["total"] == pytest.approx(study, abs=0.005)
        assert found["composed"][label]["total"] == pytest.approx(composed, rel=1e-5)
        for kind in ("study", "composed"):
            assert set(found[kind][label]["factors"]) == {"transformer", "invariant", "chinchilla"}
            assert sum(found[kind][label]["shares"].values()) == pytest.approx(1)
    assert {"shapley", "level_slope", "reference_free", "reference_dependence", "notes"} <= set(found)


def test_decompose_with_laws_from_runs(table: Path, tmp_path: Path) -> None:
    config = {
        "name": "mine", "start": "old", "spans": [[2016, 2020]], "compute": {"flops": 1e15, "year": 2018, "growth": 4},
        "laws": {"old": {"E": 1.9, "A": 36.3, "alpha": 0.065, "arch": "lstm"},
                 "new": {"E": 1.9, "A": 81.7, "alpha": 0.091, "arch": "modern"}},
        "stages": [{"name": "transformer", "kind": "law", "law": "new", "year": 2017},
                   {"name": "data", "kind": "invariant", "gain": 2, "year": 2018}],
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    options = ["--runs", table, "--irreducible", "1.9", "--draws", 100, "--out", tmp_path / "figures"]
    found = parsed("decompose", path, *options)["composed"]["2016-2020"]
    low, high = found["intervals"]["total"]
    flops = 2 * found["flops"]
    expected = 2 * LAWS["lstm"].compute(LAWS["modern"].loss(flops)) / flops
    assert low <= found["total"] <= high and found["total"] == pytest.approx(expected, rel=0.1)
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == ["waterfall.pdf", "waterfall.png"]
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("decompose", path, "--out", tmp_path / "file")


def test_report(swept: Path) -> None:
    written = parsed("report", swept, "--draws", 100)
    assert Path(written["page"]).read_text().startswith("<!doctype html>") or Path(written["page"]).exists()
    for figure in written["figures"]:
        assert Path(figure).stat().st_size > 1000


def test_train(texts: Path, tmp_path: Path) -> None:
    options = ["--arch", "lstm", "--width", 8, "--tokens", "20000", "--corpus", texts, "--tokenizer", "bpe-300",
               "--precision", "fp32", "--set", "batch=4", "--out", tmp_path / "run"]  # fmt: skip
    record = parsed("train", *options)
    assert record["state"] == "done" and record["loss"] < 5.7 and record["tokens"] <= 20000
    assert record["loss_windowed"] > 0 and record["loss"] == record["loss_streaming"]
    assert parsed("train", *options) == record, "a finished run is read, not repeated"
    assert "holds another run" in refused("train", *[16 if option == 8 else option for option in options])
    assert parsed("train", *options) == record, "nothing was overwritten"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["flops"] == record["flops"] and not (tmp_path / "run" / "checkpoints" / record["run"]).exists()


def test_train_into_a_file_or_a_foreign_folder(texts: Path, tmp_path: Path) -> None:
    options = ["train", "--width", 8, "--tokens", "20000", "--corpus", texts, "--tokenizer", "bpe-300", "--out"]
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(*options, tmp_path / "file")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("[1, 2]")
    assert "not a record of a run" in refused(*options, tmp_path / "foreign")


def test_quickstart(sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole job on a tiny sweep; the real one is run by hand and measured in the README."""
    monkeypatch.setattr(quickstart, "_sweep_for_this_machine", lambda: str(sweep_file))
    first = parsed("quickstart", "--out", tmp_path, "--draws", 100)
    assert first["executed"] == 24 and Path(first["page"]).exists() and first["baselines"]["unigram"] > 0
    assert {"data", "sweep", "report", "total"} == set(first["seconds"])
    again = call("quickstart", "--out", tmp_path, "--draws", 100)
    assert again.exit_code == 0 and "index.html" in again.stdout.replace("\n", "")


def test_human_output_of_every_reading_command(swept: Path, table: Path, sweep_file: Path, texts: Path) -> None:
    for arguments in (
        ["status", swept], ["runs", "export", swept], ["fit", table, "--draws", 100], ["report", swept, "--draws", 100],
        ["ceg", table, "--from", "lstm", "--to", "modern", "--at-loss", "3.5", "--draws", 100],
        ["plan", sweep_file], ["data", "prepare", texts, "--tokenizer", "bpe-300"], ["decompose"],
        ["breaks", table, "--arch", "modern", "--draws", 99, "--at-flops", "1e18"], ["power", "--refits", 20],
    ):  # fmt: skip
        result = call(*arguments)
        assert result.exit_code == 0 and len(result.stdout) > 20, (arguments, result.output, result.exception)


def every_command() -> list[list[str]]:
    groups = {"data": ["prepare"], "runs": ["export"]}
    names = [["quickstart"], ["plan"], ["sweep"], ["status"], ["train"], ["fit"], ["ceg"], ["decompose"], ["report"]]
    names += [["breaks"], ["power"]]
    return names + [[group, name] for group, members in groups.items() for name in members]


@pytest.mark.parametrize("name", every_command(), ids=" ".join)
def test_help_and_json_option(name: list[str]) -> None:
    result = call(*name, "--help")
    assert result.exit_code == 0 and "--json" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--arch", "modrn"], "did you mean 'modern'"),
        (["train", "--width", "64", "--set", "model.heads=5"], "not divisible by heads 5"),
        (["train", "--set", "model.hedas=5"], "did you mean 'heads'"),
        (["train", "--set", "model=3"], "model is a group of keys"),
        (["train", "--set", "model.depth=[1"], "not valid YAML"),
        (["train", "--set", "model.depth={}"], "model.depth"),
        (["train", "--flops", "0"], "greater than 0"),
        (["train", "--flops", "1"], "below one step"),
        (["train", "--flops", "1e9", "--tokens", "5"], "exactly one of"),
        (["train", "--tokenizer", "bpe-9999999999"], "largest token type"),
        (["train", "--corpus", "no/such/place"], "no/such/place"),
        (["train", "--corpus", "sottu"], "did you mean 'sotu'"),
        (["train", "--precision", "fp8"], "auto, fp32 or bf16"),
        (["train", "--engine", "jax", "--width", "16"], "unknown engine"),
        (["data", "prepare", "no-such-corpus"], "no-such-corpus"),
        (["plan", "no-such-sweep"], "unknown sweep"),
        (["sweep", "missing.yaml", "--out", "x"], "no such file"),
        (["status", "."], "no store here"),
        (["runs", "export", "."], "no store here"),
        (["fit", "missing.csv"], "missing.csv"),
        (["report", "."], "no store here"),
        (["decompose", "--preset", "gundlach-2026"], "did you mean 'gundlach-2025'"),
        (["decompose", "missing.yaml"], "no such file"),
        (["decompose", "a.yaml", "--preset", "gundlach-2025"], "two decompositions"),
        (["decompose", "--runs", "missing.csv"], "missing.csv"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert not list(tmp_path.rglob("*.json")), "nothing half-written"


BAD_TABLES = {
    "no loss column": ("arch,flops\nmodern,1e15\n", "loss"),
    "unparsable": ("arch,flops,loss\nmodern,1e15,3.1\nmodern,much,3.0\n", "much"),
    "negative": ("arch,flops,loss\nmodern,-1e15,3.1\n", "flops"),
    "empty": ("", "empty"),
    "header only": ("arch,flops,loss\n", "no r"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name: str, tmp_path: Path) -> None:
    text, message = BAD_TABLES[name]
    (tmp_path / "t.csv").write_text(text)
    assert message in refused("fit", tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02binary", "NUL|binary"),
        (b"caf\xe9 " * 100, "UTF-8"),
        (b"short", "document|small|few"),
    ],
)
def test_bad_corpora(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(content)
    assert re.search(message, refused("data", "prepare", tmp_path / "c.txt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--law", "line"], "unknown law; got 'line'; expected frontier or surface"),
        (["--law", "surface", "--irreducible", "1.7"], "--irreducible: does not apply to --law surface"),
        (["--law", "surface", "--points", "final"], "--points: does not apply to --law surface"),
        (["--loss", "lad"], "--loss: does not apply to --law frontier"),
        (["--delta", "0.001"], "--delta: does not apply to --law frontier"),
        (["--law", "surface", "--loss", "l1"], "unknown objective; got 'l1'; expected huber, lad, squared"),
        (["--law", "surface", "--loss", "lad", "--delta", "0.1"], "bad Huber knee"),
        (["--law", "surface"], "missing columns params, tokens"),
        (["--min-flops", "1e16", "--max-flops", "1e15"], "no compute lies between the cuts"),
        (["--min-flops", "1e30"], "no run inside the cuts on flops"),
        (["--points", "best"], "unknown frontier rule"),
        (["--points", "envelope"], "no training curves"),
        (["--points", "surface"], "missing columns params, tokens"),
    ],
)
def test_fit_refuses_options_that_change_nothing(table: Path, options: list[str], message: str) -> None:
    assert message in refused("fit", table, *options)


def test_ceg_needs_one_anchor_and_known_names(table: Path) -> None:
    assert "exactly one of" in refused("ceg", table, "--from", "lstm", "--to", "modern")
    assert "modern" in refused("ceg", table, "--from", "lstm", "--to", "modren", "--at-loss", 3.5)


def test_units_are_asked_about_and_can_be_stated(table: Path) -> None:
    honest = parsed("fit", table, "--draws", 100)["laws"]
    frame = pd.read_csv(table)
    frame.assign(flops=frame["flops"] / 8.64e19).to_csv(table, index=False)
    for command in (["fit"], ["ceg", "--from", "lstm", "--to", "modern", "--at-loss", 3.5]):
        assert "--unit flops=UNIT" in refused(command[0], table, *command[1:])
    mended = parsed("fit", table, "--draws", 100, "--unit", "flops=pflop-days")["laws"]
    assert [law["alpha"] for law in mended] == pytest.approx([law["alpha"] for law in honest], rel=1e-6)
    assert "did you mean --unit loss=bits" in refused("fit", table, "--unit", "loss=bit")


def test_interactions(tmp_path: Path) -> None:
    rows = []
    for norm, act in (("post", "a"), ("post", "b"), ("pre", "a"), ("pre", "b")):
        gain = (1.5 if norm == "pre" else 1.0) * (1.2 if act == "b" else 1.0)
        rows.append({"norm": norm, "act": act, "flops": 1e15, "loss": LAWS["modern"].loss(1e15 * gain)})
    path = tmp_path / "ablation.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    options = [path, "--factor", "norm=post,pre", "--factor", "act=a,b"]
    found = parsed("interactions", *options, "--exponent", 0.12, "--irreducible", 1.9)
    assert [effect["gain"] for effect in found["effects"]] == pytest.approx([1.5, 1.2, 1.0])
    assert found["product"]["predicted"]["gain"] == pytest.approx(1.8)
    assert found["product"]["measured"]["gain"] == pytest.approx(1.8)
    assert "say how a loss becomes a gain" in refused("interactions", *options)
    assert "did you mean pre" in refused("interactions", path, "--factor", "norm=post,prenorm", "--exponent", 0.12,
                                         "--irreducible", 1.9)  # fmt: skip


def test_faults_exit_1_and_unknown_options_exit_2() -> None:
    code = "import algoprog.sweep.commands as c, algoprog.cli as m; c.status = lambda folder: 1 / 0; m.main(['status', '.'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 1
    assert call("status", ".", "--jsno").exit_code == 2
