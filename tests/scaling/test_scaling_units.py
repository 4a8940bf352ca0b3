"""Units: stated ones are converted, doubtful ones are asked about, and honest tables pass untouched."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.scaling import InputError, excluded_runs, final_points, load_runs
from algoprog.scaling.runs.units import UNITS, parse_units

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
DAY = 8.64e19
N = np.repeat([1.1e8, 3.3e8, 1.1e9, 3.3e9], 4)
D = N * np.tile([10.0, 20.0, 40.0, 80.0], 4)
C = 6 * N * D
LOSS = 1.7 + 406.4 * N**-0.34 + 410.7 * D**-0.28
GOOD = pd.DataFrame({"arch": "a", "params": N, "tokens": D, "flops": C, "loss": LOSS})
SHORT = GOOD.drop(columns=["params", "tokens"])


@pytest.fixture
def read(tmp_path: Path):
    def load(frame: pd.DataFrame, **arguments: object) -> pd.DataFrame:
        path = tmp_path / "runs.csv"
        frame.to_csv(path, index=False)
        return load_runs(path, **arguments)  # type: ignore[arg-type]

    return load


@pytest.fixture
def asked(read):
    def refuse(frame: pd.DataFrame, *parts: str, **arguments: object) -> None:
        with pytest.raises(InputError) as error:
            read(frame, **arguments)
        message = str(error.value)
        assert "\n" not in message
        for part in parts:
            assert part in message, message

    return refuse


# ---------------------------------------------------------------- honest tables pass


def test_good_tables_are_not_questioned(read) -> None:
    for frame in (GOOD, SHORT, GOOD.drop(columns="tokens"), GOOD.drop(columns="params")):
        assert read(frame)["flops"].tolist() == pytest.approx(C.tolist())


def test_toy_runs_are_not_questioned(read) -> None:
    """2e10 to 6e11 FLOPs, 1,024 token types, losses of 3.6 to 6 nats at 2.94 bytes per token, FLOPs near 6ND."""
    flops = np.geomspace(2e10, 6.4e11, 12)
    params = np.linspace(1.2e4, 1.7e5, 12)
    loss = np.linspace(6.0, 3.6, 12)
    toy = pd.DataFrame({
        "arch": "modern", "params": params, "tokens": flops / (6 * params) * np.linspace(0.9, 1.12, 12), "flops": flops,
        "loss": loss, "bits_per_byte": loss / (2.94 * math.log(2)), "vocab": 1024,
    })  # fmt: skip
    read(toy)
    read(toy[["arch", "flops", "loss"]])


def test_tiny_runs_pass_where_flops_params_and_tokens_agree(read) -> None:
    read(
        pd.DataFrame({"arch": "a", "params": [3e3, 6e3], "tokens": [2e3, 4e3], "flops": [3.6e7, 1.4e8], "loss": [5, 4]})
    )


@pytest.mark.parametrize("factor", [1 / 25, 0.1, 3.0, 25.0])
def test_conventions_and_experts_stay_below_the_alarm(read, factor: float) -> None:
    """Embeddings left out of params (up to 23x at vocabulary 50257) and inactive experts are no unit errors."""
    read(GOOD.assign(flops=C * factor))


def test_untrained_rows_of_curves_are_not_questioned(read) -> None:
    """The first rows of a run lie above ln(vocab); only its end is judged."""
    curve = pd.DataFrame({"run": "a", "arch": "a", "step": [0, 1, 2], "flops": [1e15, 2e15, 3e15], "vocab": 50257})
    assert len(read(curve.assign(loss=[11.2, 9.0, 5.0]))) == 3


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference tables are absent")
@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("chinchilla_epoch_245", {"C": "flops", "N": "params", "D": "tokens"}),
        ("chinchilla_kyo_takano_234", {"C": "flops", "N": "params", "D": "tokens"}),
        ("porian_isoflop_points", {"setting": "arch", "C": "flops", "N": "params", "D": "tokens"}),
        ("porian_optima", {"setting": "arch", "C": "flops", "N_opt": "params", "D_opt": "tokens", "loss_opt": "loss"}),
    ],
)
def test_public_tables_are_not_questioned(read, name: str, mapping: dict[str, str]) -> None:
    table = pd.read_csv(REFERENCE / f"{name}.csv")
    table = table.dropna(subset=[theirs for theirs in ("loss", "loss_opt") if theirs in table])
    if "setting" not in table:
        table["arch"] = "chinchilla"
    found = read(table, mapping=mapping)
    assert len(found) == len(table.drop_duplicates())
    without = {theirs: ours for theirs, ours in mapping.items() if ours in ("arch", "flops", "loss")}
    read(table, mapping=without)


# ---------------------------------------------------------------- doubts


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"flops": C / DAY}, "say --unit flops=pflop-days;"),
        ({"flops": C / 1e18}, "say --unit flops=exaflops;"),
        ({"flops": C / 1e15}, "say --unit flops=petaflops;"),
        ({"flops": C / 1e12}, "say --unit flops=teraflops;"),
        ({"flops": C / 1e9}, "say --unit flops=gigaflops;"),
        ({"flops": C / 1e6}, "say --unit flops=megaflops;"),
        ({"flops": C / 1e3}, "say --unit flops=kiloflops;"),
        ({"tokens": D / 1e6}, "say --unit tokens=millions;"),
        ({"tokens": D / 1e9}, "say --unit tokens=billions;"),
        ({"params": N / 1e6}, "say --unit params=millions;"),
        ({"params": N / 1e6, "tokens": D / 1e9}, "say --unit params=millions --unit tokens=billions;"),
        ({"params": N / 1e9, "tokens": D / 1e9}, "say --unit params=billions --unit tokens=billions;"),
        ({"params": N / 1e6, "tokens": D / 1e9, "flops": C / DAY},
         "say --unit flops=pflop-days --unit params=millions --unit tokens=billions;"),
        ({"flops": 6 * N}, "say --unit flops=per-token;"),
        ({"flops": 2 * N}, "say --unit flops=per-token;"),
    ],
)  # fmt: skip
def test_products_that_do_not_fit_name_the_unit_and_the_way_out(read, asked, changes, options: str) -> None:
    wrong = GOOD.assign(**changes)
    asked(wrong, "times 6 x params x tokens (median), which looks like", options, "right as they are: --unit")
    units = parse_units(options.removeprefix("say ").removesuffix(";").replace("--unit ", "").split())
    mended = read(wrong, units=units)
    ratio = mended["flops"] / (6 * mended["params"] * mended["tokens"])
    assert ratio.between(0.3, 1.1).all()


def test_a_stated_unit_is_not_questioned_again(read, asked) -> None:
    wrong = GOOD.assign(flops=C / DAY)
    assert read(wrong, units={"flops": "flops"})["flops"].tolist() == pytest.approx((C / DAY).tolist())
    asked(wrong.assign(tokens=D / 1e9), "tokens", units={"flops": "flops"})


def test_columns_that_fit_in_no_unit_are_asked_about_without_a_guess(asked) -> None:
    rng = np.random.default_rng(0)
    asked(GOOD.assign(flops=C * 7e6 * np.exp(8 * rng.standard_normal(16))), "state the units with --unit")


@pytest.mark.parametrize("scale", [DAY, 1e18, 1e9])
def test_compute_alone_below_1e9_is_asked_about(asked, read, scale: float) -> None:
    asked(SHORT.assign(flops=C / scale), "column flops looks too small", "--unit flops=UNIT", "--unit flops=flops")
    read(SHORT.assign(flops=C / scale), units={"flops": "flops"})


def test_flops_per_token_without_tokens(asked) -> None:
    asked(GOOD.drop(columns="tokens").assign(flops=6 * N), "FLOPs per token", "it implies 1 tokens")


def test_small_counts_without_flops_to_check_them(asked) -> None:
    asked(GOOD.drop(columns="params").assign(tokens=D / 1e9), "column tokens looks too small", "millions or billions")


@pytest.mark.parametrize(
    ("header", "ours", "unit"),
    [
        ("train_pf_days", "flops", "pflop-days"), ("compute (EFLOP)", "flops", "exaflops"),
        ("gflops", "flops", "gigaflops"), ("FLOPs/token", "flops", "per-token"),
        ("val/bpb", "loss", "bits-per-byte"), ("bits_per_char", "loss", "bits-per-byte"), ("val_bits", "loss", "bits"),
        ("val_ppl", "loss", "perplexity"), ("eval/perplexity", "loss", "perplexity"),
    ],
)  # fmt: skip
def test_headers_that_name_a_unit(asked, header: str, ours: str, unit: str) -> None:
    table = SHORT.rename(columns={ours: header})
    asked(table, f"column {ours} ({header}) looks like {unit}", f"--unit {ours}={unit}", mapping={header: ours})


def test_losses_that_are_no_nats(asked, read) -> None:
    asked(SHORT.assign(loss=np.exp(LOSS)), "like a perplexity", "--unit loss=perplexity")
    asked(SHORT.assign(bits_per_byte=LOSS), "like bits per byte: it equals that column", "--unit loss=bits-per-byte")
    read(SHORT.assign(bits_per_byte=LOSS / 2.9))
    asked(SHORT.assign(loss=2.1 * LOSS, vocab=256), "above ln(vocab)", "--unit loss=bits")
    asked(SHORT.assign(loss=np.exp(LOSS), vocab=256), "above ln(vocab)", "--unit loss=perplexity")
    read(SHORT.assign(loss=[*LOSS[:-1], 14.0]))  # one bad run is no unit


def test_the_way_out_of_a_doubtful_loss_is_the_option(read) -> None:
    back = read(SHORT.assign(loss=np.exp(LOSS)), units={"loss": "perplexity"})
    assert back["loss"].tolist() == pytest.approx(LOSS.tolist())
    assert read(SHORT.assign(loss=LOSS / math.log(2)), units={"loss": "bits"})["loss"].tolist() == pytest.approx(
        LOSS.tolist()
    )
    assert read(SHORT.assign(loss=np.exp(LOSS)), units={"loss": "nats"})["loss"].max() == pytest.approx(
        np.exp(LOSS).max()
    )


# ---------------------------------------------------------------- stated units


@given(st.sampled_from([unit for unit in UNITS["flops"] if unit != "per-token"]), st.floats(1e12, 1e24))
def test_every_unit_of_flops_is_a_factor(unit: str, flops: float) -> None:
    from algoprog.scaling.runs.units import SCALE, convert

    frame = pd.DataFrame({"flops": [flops / SCALE.get(unit, 1.0)]})
    assert convert(frame, {"flops": unit}, "t")["flops"].iloc[0] == pytest.approx(flops, rel=1e-12)


def test_flops_per_token_times_tokens_in_either_order(read) -> None:
    wrong = GOOD.assign(flops=6 * N, tokens=D / 1e9)
    for units in ({"flops": "per-token", "tokens": "billions"}, {"tokens": "billions", "flops": "per-token"}):
        assert read(wrong, units=units)["flops"].tolist() == pytest.approx(C.tolist())


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"flops": "pflopdays"}, "did you mean --unit flops=pflop-days?"),
        ({"width": "cm"}, "no unit can be given"),
        ({"params": "millions"}, "no column params"),
        ({"flops": "per-token"}, "need the tokens"),
        ({"loss": "perplexity"}, "a perplexity is above 1"),
    ],
)
def test_bad_units(asked, units: dict[str, str], message: str) -> None:
    asked(SHORT.assign(loss=LOSS / 5), message, units=units)


@pytest.mark.parametrize("item", ["flops", "=bits", "flops="])
def test_bad_unit_options(item: str) -> None:
    with pytest.raises(InputError, match="column=unit"):
        parse_units([item])
    with pytest.raises(InputError, match="given twice"):
        parse_units(["loss=bits", "loss=nats"])


# ---------------------------------------------------------------- exports of Weights & Biases

TABLE = """"Name","State","Notes","User","Tags","Created","Runtime","Sweep","arch","model.width","flops","train/loss","val/loss"
"a","finished","-","me","","2025-01-01T00:00:00.000Z","100","","lstm","64","1e15","3.1","5.2"
"a","finished","-","me","","2025-01-01T00:00:00.000Z","100","","lstm","64","3e15","3.1","5.0"
"b","crashed","-","me","","2025-01-01T00:00:00.000Z","100","","modern","64","1e15","3.1",""
"c","finished","-","me","","2025-01-01T00:00:00.000Z","100","","modern","64","1e15","3.1","NaN"
"d","finished","-","me","","2025-01-01T00:00:00.000Z","100","","modern","64","1e15","3.1",""
"e","killed","-","me","","2025-01-01T00:00:00.000Z","100","","modern","64","","3.1",""
"f","running","-","me","","2025-01-01T00:00:00.000Z","100","","modern","64","1e15","3.1","5.9"
"""
SERIES = [f'"{run} - val/loss{part}"' for run in ("lstm-64", "m - x") for part in ("", "__MIN", "__MAX")]
CHART = f"""\"Step\",{",".join(SERIES)}
"10","5.5","5.5","5.5","","",""
"20","5.3","5.3","5.3","5.1","5.1","5.1"
"""
HISTORY = [
    {"_step": 0, "_runtime": 1.0, "_timestamp": 1.7e9, "train/loss": 9.0, "flops": 1e15},
    {"_step": 10, "_runtime": 2.0, "_timestamp": 1.7e9, "val/loss": 5.0, "flops": 2e15, "arch": "lstm"},
    {"_step": 20, "_runtime": 3.0, "_timestamp": 1.7e9, "val/loss": 4.5, "flops": 4e15, "arch": "lstm"},
]


@pytest.fixture
def wandb(tmp_path: Path):
    def load(text: str, name: str = "export.csv", **mapping: str) -> pd.DataFrame:
        (tmp_path / name).write_text(text)
        return load_runs(tmp_path / name, {theirs: ours for ours, theirs in mapping.items()})

    return load


def test_table_of_runs(wandb) -> None:
    runs = wandb(TABLE, loss="val/loss", width="model.width")
    assert runs["run"].tolist() == ["a (line 2)", "a (line 3)", "b", "c", "d", "e", "f"]
    assert excluded_runs(runs) == {"crashed": 1, "diverged": 1, "killed": 1, "running": 1, "unmeasured": 1}
    final = final_points(runs)
    assert final["loss"].tolist() == [5.2, 5.0] and final["width"].tolist() == [64.0, 64.0]


def test_table_of_runs_asks_with_a_ready_mapping(wandb) -> None:
    with pytest.raises(InputError, match="missing column loss.*try --map val/loss=loss"):
        wandb(TABLE)
    other = TABLE.replace('"arch"', '"model_type"').replace('"flops"', '"total_flos"')
    with pytest.raises(InputError, match="--map model_type=arch --map total_flos=flops --map val/loss=loss"):
        wandb(other)


def test_two_losses_are_a_choice(wandb) -> None:
    both = TABLE.replace("train/loss", "loss")
    with pytest.raises(InputError, match="two losses, loss and val/loss; say --map val/loss=loss, or --map loss=loss"):
        wandb(both)
    assert final_points(wandb(both, loss="loss"))["loss"].tolist() == [3.1] * 4
    assert final_points(wandb(both, loss="val/loss"))["loss"].tolist() == [5.2, 5.0]


def test_table_from_the_python_interface(wandb) -> None:
    """A frame of ``Api().runs`` has lower-case names; ids win over names."""
    text = "id,name,state,arch,flops,loss\nx1,n,finished,a,1e15,5\nx2,n,failed,a,1e15,\n"
    runs = wandb(text)
    assert runs["run"].tolist() == ["x1", "x2"] and excluded_runs(runs) == {"failed": 1}


def test_tables_that_are_no_export_keep_their_states(wandb) -> None:
    runs = wandb("run,name,state,arch,flops,loss\na,n,done,a,1e15,5\nb,n,failed,a,1e15,6\n")
    assert runs["state"].tolist() == ["done", "failed"] and runs["run"].tolist() == ["a", "b"]


def test_chart(wandb) -> None:
    text = CHART.replace('"Step"', '"train/flops"').replace('"10"', "1e15").replace('"20"', "2e15")
    runs = wandb(text, flops="train/flops", arch="name", loss="val/loss")
    assert runs[["run", "flops", "loss"]].to_numpy().tolist() == [
        ["lstm-64", 1e15, 5.5], ["lstm-64", 2e15, 5.3], ["m - x", 2e15, 5.1],
    ]  # fmt: skip
    assert final_points(runs)["loss"].tolist() == [5.3, 5.1]


def test_chart_over_steps_asks_for_flops(wandb) -> None:
    with pytest.raises(InputError, match=r"missing columns arch, flops, loss.*choose logged FLOPs as its x axis"):
        wandb(CHART)


def test_chart_with_steps_beside_another_axis(wandb) -> None:
    text = (
        '"train/flops","r - _step","r - _step__MIN","r - _step__MAX","r - val/loss","r - val/loss__MIN",'
        '"r - val/loss__MAX"\n1e15,10,10,10,5.5,5.5,5.5\n2e15,20,20,20,,,\n'
    )
    runs = wandb(text, flops="train/flops", arch="name", loss="val/loss")
    assert runs[["step", "loss"]].to_numpy().tolist() == [[10.0, 5.5]]


def test_grouped_chart_is_refused(wandb) -> None:
    with pytest.raises(InputError, match="grouped runs: each line is a mean"):
        wandb(CHART.replace("lstm-64 -", "Group: lstm -"))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(HISTORY), "\n".join(map(json.dumps, HISTORY)), pd.DataFrame(HISTORY).to_json(),
        pd.DataFrame(HISTORY).to_csv(),
    ],
    ids=["records", "lines", "columns", "csv"],
)  # fmt: skip
def test_history_in_every_form(wandb, text: str) -> None:
    """One run, named by the file; rows that lack the loss are other metrics' steps."""
    runs = wandb(text, "my-run.json", loss="val/loss")
    assert runs["run"].tolist() == ["my-run"] * 2 and runs["step"].tolist() == [10, 20]
    assert final_points(runs)["loss"].tolist() == [4.5]


def test_history_in_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame(HISTORY).to_parquet(tmp_path / "h.parquet")
    assert load_runs(tmp_path / "h.parquet", {"val/loss": "loss"})["loss"].tolist() == [5.0, 4.5]


def test_history_asks_for_what_was_not_logged(wandb) -> None:
    rows = [{key: value for key, value in row.items() if key not in ("arch", "flops")} for row in HISTORY]
    with pytest.raises(InputError, match="missing columns arch, flops, loss.*add what was not as a column"):
        wandb(json.dumps(rows), "h.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "no table"), ("{nope", "not readable as JSON"), ("[]", "missing columns"),
        ('{"a": [1], "b": [1, 2]}', "different lengths"),
    ],
)  # fmt: skip
def test_bad_json(wandb, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wandb(text, "x.json")
