"""load_runs: every form of a table, and one clear line for every kind of bad input."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprog.scaling import (
    InputError,
    PowerLaw,
    Status,
    analyse,
    excluded_runs,
    final_points,
    gain_at_loss,
    load_runs,
)

GOOD = "arch,flops,loss\nlstm,1e15,5.5\nmodern,1e15,5.25\n"


@pytest.fixture
def csv(tmp_path: Path):
    def write(text: str | bytes, name: str = "runs.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def make_store(folder: Path, rows: list[tuple[object, ...]]) -> Path:
    folder.mkdir(exist_ok=True)
    connection = sqlite3.connect(folder / "store.sqlite")
    connection.execute(
        "CREATE TABLE t (run, arch, width, depth, params, tokens, seed, lr, flops, loss, seconds, state)"
    )
    connection.executemany("INSERT INTO t VALUES (?, ?, 64, 2, 1000, 20000, 0, 0.01, ?, ?, 1.5, ?)", rows)
    connection.execute("CREATE VIEW points AS SELECT * FROM t")
    connection.commit()
    connection.close()
    return folder


def refused(path: Path, *parts: str, mapping: dict[str, str] | None = None) -> None:
    with pytest.raises(InputError) as error:
        load_runs(path, mapping)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# ---------------------------------------------------------------- good tables


def test_smallest_csv(csv) -> None:
    runs = load_runs(csv(GOOD))
    assert list(runs.columns) == ["run", "arch", "state", "flops", "loss"]
    assert list(runs["run"]) == ["line 2", "line 3"]
    assert list(runs["flops"]) == [1e15, 1e15] and list(runs["loss"]) == [5.5, 5.25]
    assert len(final_points(runs)) == 2 and excluded_runs(runs) == {}


def test_byte_order_mark_blank_lines_spaces_quotes_and_extra_columns(csv) -> None:
    text = '\ufeffarch , flops,loss,note\r\n\r\n"lstm", 1e15 ,5.5,"two\r\nlines"\r\n\r\nmodern,1e15,5.25,\r\n'
    runs = load_runs(csv(text))
    assert list(runs["arch"]) == ["lstm", "modern"]
    assert list(runs["run"]) == ["line 3", "line 6"]
    assert "note" not in runs


def test_optional_columns_and_their_blanks(csv) -> None:
    runs = load_runs(csv("arch,flops,loss,width,seed\nlstm,1e15,5.5,64,\nlstm,1e16,5.0,,1\n"))
    assert runs["width"].iloc[0] == 64 and np.isnan(runs["width"].iloc[1]) and np.isnan(runs["seed"].iloc[0])


def test_mapping_renames_theirs_to_ours(csv) -> None:
    path = csv("model,C,val_loss,loss\nlstm,1e15,5.5,9.9\n")
    runs = load_runs(path, {"model": "arch", "C": "flops", "val_loss": "loss"})
    assert runs[["arch", "flops", "loss"]].iloc[0].tolist() == ["lstm", 1e15, 5.5]


def test_final_point_is_the_last_step(csv) -> None:
    runs = load_runs(csv("run,arch,step,flops,loss\na,lstm,20,2e15,5.0\na,lstm,10,1e15,5.5\nb,lstm,5,1e15,5.4\n"))
    assert len(runs) == 3
    final = final_points(runs)
    assert list(final["run"]) == ["a", "b"] and list(final["loss"]) == [5.0, 5.4]


def test_unfinished_runs_are_counted_and_left_out(csv) -> None:
    rows = "a,lstm,1e15,5.5,done\nb,lstm,1e15,,diverged\nc,lstm,,nan,diverged\nd,lstm,1e15,5,failed\n"
    runs = load_runs(csv("run,arch,flops,loss,state\n" + rows))
    assert excluded_runs(runs) == {"diverged": 2, "failed": 1}
    assert list(final_points(runs)["run"]) == ["a"]


def test_a_run_that_diverged_after_good_steps_has_no_final_point(csv) -> None:
    text = "run,arch,step,flops,loss,state\na,lstm,1,1e15,5.5,done\na,lstm,2,2e15,,diverged\n"
    runs = load_runs(csv(text))
    assert final_points(runs).empty and excluded_runs(runs) == {"diverged": 1}


def test_repeated_rows_are_kept_once(csv) -> None:
    assert len(load_runs(csv("run,arch,flops,loss\na,lstm,1e15,5.5\na,lstm,1e15,5.5\n"))) == 1


def test_store_of_a_sweep(tmp_path: Path) -> None:
    folder = make_store(
        tmp_path / "sweep",
        [
            ("r1", "lstm", 123456789012345678, 5.5, "done"),
            ("r2", "modern", 1e15, 5.2, "done"),
            ("r3", "lstm", 1e15, None, "diverged"),
        ],
    )
    runs = load_runs(folder)
    assert list(runs["run"]) == ["r1", "r2", "r3"] and runs["flops"].iloc[0] == 123456789012345678.0
    assert {"width", "depth", "params", "tokens", "seed", "lr", "seconds"} <= set(runs.columns)
    assert excluded_runs(runs) == {"diverged": 1} and len(final_points(runs)) == 2
    pd.testing.assert_frame_equal(load_runs(folder / "store.sqlite"), runs)


def test_store_is_not_written(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "sweep", [("r1", "lstm", 1e15, 5.5, "done")])
    before = (folder / "store.sqlite").read_bytes()
    load_runs(folder)
    assert (folder / "store.sqlite").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["store.sqlite"]


def test_parquet_round_trip(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {"arch": ["lstm", "modern"], "flops": [10**15, 10**16], "loss": [5.5, np.nan], "state": ["done", "diverged"]}
    )
    frame.to_parquet(tmp_path / "runs.parquet")
    runs = load_runs(tmp_path / "runs.parquet")
    assert list(runs["run"]) == ["row 1", "row 2"] and excluded_runs(runs) == {"diverged": 1}
    frame.assign(state="done").to_parquet(tmp_path / "bad.parquet")
    refused(tmp_path / "bad.parquet", "row 2", "blank loss")


# ---------------------------------------------------------------- bad files


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.csv", "none.csv", "no such file")


def test_directory_without_a_store(tmp_path: Path) -> None:
    refused(tmp_path, "no store.sqlite", "sweep's directory")


def test_store_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("hello")
    refused(tmp_path, "not a readable store")


def test_store_without_the_view(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "store.sqlite").execute("CREATE TABLE other (x)").connection.commit()
    refused(tmp_path, "not a readable store", "points")


def test_store_without_runs(tmp_path: Path) -> None:
    refused(make_store(tmp_path / "sweep", []), "no rows")


@pytest.mark.parametrize("content", [b"", b"  \n\n "])
def test_empty_file(csv, content: bytes) -> None:
    refused(csv(content), "empty")


def test_not_utf8(csv) -> None:
    refused(csv("arch,flops,loss\nlstm,1e15,5\n# caf\u00e9".encode("latin-1")), "not UTF-8", "position")


def test_binary(csv) -> None:
    refused(csv(b"\x89PNG\r\n\x00\x00\x01"), "binary")


def test_parquet_without_pyarrow(csv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(csv(b"PAR1 and so on", "runs.parquet"), 'pip install "algoprog[parquet]"')


def test_broken_parquet(csv) -> None:
    pytest.importorskip("pyarrow")
    refused(csv(b"PAR1 and so on", "runs.parquet"), "not a readable Parquet file")


def test_header_only(csv) -> None:
    refused(csv("arch,flops,loss\n"), "no rows")


def test_semicolons(csv) -> None:
    refused(csv("arch;flops;loss\nlstm;1e15;5\n"), "one column only", "commas")


def test_open_quote(csv) -> None:
    refused(csv('arch,flops,loss\nlstm,1e15,"5.5\n'), "not readable as CSV")


@pytest.mark.parametrize("row", ["lstm,1e15", "lstm,1e15,5.5,6"])
def test_wrong_number_of_cells(csv, row: str) -> None:
    refused(csv(f"arch,flops,loss\nlstm,1e15,5.5\n{row}\n"), "line 3", "number of cells", "3 cells")


def test_column_twice(csv) -> None:
    refused(csv("arch,flops,loss,loss\nlstm,1e15,5,6\n"), "column loss occurs more than once")


# ---------------------------------------------------------------- bad columns


def test_missing_columns_are_named_with_a_way_out(csv) -> None:
    refused(
        csv("model,C,val_loss\nlstm,1e15,5\n"),
        "missing columns arch, flops, loss",
        "columns model, C, val_loss",
        "--map model=arch --map C=flops --map val_loss=loss",
    )
    refused(csv("arch,flop,loss\nlstm,1e15,5\n"), "missing column flops", "--map flop=flops")
    refused(csv("arch,flops,zzz\nlstm,1e15,5\n"), "missing column loss", "rename with --map")


def test_mapping_that_fits_nothing(csv) -> None:
    path = csv("model,flops,loss\nlstm,1e15,5\n")
    refused(path, "no column modle", "did you mean --map model=arch", mapping={"modle": "arch"})
    refused(path, "unknown name archi", "did you mean --map model=arch", mapping={"model": "archi"})
    refused(path, "two columns mapped to loss", mapping={"flops": "loss", "loss": "loss"})


def test_step_needs_run(csv) -> None:
    refused(csv("arch,step,flops,loss\nlstm,1,1e15,5\n"), "step without column run")


def test_more_than_one_flop_convention(csv) -> None:
    text = "arch,flops,loss,flop_convention\nlstm,1e15,5,causal_exact\nlstm,2e15,4,6nd\n"
    refused(csv(text), "more than one FLOP convention", "6nd in 1 row, causal_exact in 1 row", "separate files")


# ---------------------------------------------------------------- bad cells


@pytest.mark.parametrize(
    ("cell", "what"),
    [("1e15x", "flops is not a number"), ("1_000", "flops is not a number"), ("", "blank flops")]
    + [(bad, "bad flops") for bad in ("0", "-1e15", "inf", "nan", "1e999")],
)
def test_bad_flops(csv, cell: str, what: str) -> None:
    refused(csv(f"arch,flops,loss\nlstm,1e15,5\n\nlstm,{cell},5\n"), "line 4", what, cell)


@pytest.mark.parametrize(("cell", "what"), [("five", "loss is not a number"), ("", "blank loss"), ("-5", "bad loss")])
def test_bad_loss(csv, cell: str, what: str) -> None:
    refused(csv(f"arch,flops,loss\nlstm,1e15,{cell}\n"), "line 2", what, cell)


def test_bad_optional_number_step_and_names(csv) -> None:
    refused(csv("arch,flops,loss,width\nlstm,1e15,5,64d\n"), "line 2", "width is not a number", "'64d'")
    refused(csv("run,arch,step,flops,loss\na,lstm,,1e15,5\n"), "blank step")
    refused(csv("run,arch,step,flops,loss\na,lstm,nan,1e15,5\n"), "bad step")
    refused(csv("arch,flops,loss\n ,1e15,5\n"), "line 2", "blank arch")
    refused(csv("arch,flops,loss,state\nlstm,1e15,5,\n"), "line 2", "blank state")


def test_conflicting_runs(csv) -> None:
    twice = "run,arch,flops,loss\na,lstm,1e15,5\nb,lstm,1e15,5\na,lstm,1e15,5.1\n"
    refused(csv(twice), "line 2 and line 4", "run a occurs twice with different values")
    steps = "run,arch,step,flops,loss\na,lstm,1,1e15,5\na,lstm,1,1e15,5.1\n"
    refused(csv(steps), "for one step")
    archs = "run,arch,flops,loss\na,lstm,1e15,5\na,modern,1e15,5\n"
    refused(csv(archs), "more than one architecture", "lstm, modern")


# ---------------------------------------------------------------- stores, kept columns, faults further in


def with_configs(folder: Path, configs: list[str]) -> Path:
    """A store whose runs carry configs, as a sweep writes them."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "store.sqlite")
    connection.execute("CREATE TABLE runs (digest, position, config, flops, loss)")
    rows = [(f"r{i}", i, config, 4e7 * (i + 1), 5.0 - 0.1 * i) for i, config in enumerate(configs)]
    connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", rows)
    view = "SELECT digest AS run, 'a' AS arch, flops, loss, 'done' AS state FROM runs ORDER BY position"
    connection.execute(f"CREATE VIEW points AS {view}")
    connection.commit()
    connection.close()
    return folder


def test_store_gives_config_keys_that_are_asked_for(tmp_path: Path) -> None:
    """Tiny FLOPs are not questioned either: a store knows its units."""
    configs = ['{"model": {"activation": "gelu", "heads": 2}}', '{"model": {"activation": "swiglu", "heads": 4}}', "{}"]
    folder = with_configs(tmp_path / "sweep", configs)
    runs = load_runs(folder, keep=["model.activation", "model.heads"])
    assert runs["model.activation"].tolist() == ["gelu", "swiglu", ""] and runs["model.heads"].tolist() == [
        "2",
        "4",
        "",
    ]
    with pytest.raises(InputError, match="no column model.norm"):
        load_runs(folder, keep=["model.norm"])
    assert list(load_runs(folder).columns) == ["run", "arch", "state", "flops", "loss"]


def test_kept_columns_are_text_whatever_the_file(csv, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"arch": "a", "flops": [1e15, 2e15], "loss": [5.0, 4.0], "experts": [8, None], "tied": [True, False]}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.json", orient="records")
    for name in ("t.csv", "t.json"):
        runs = load_runs(tmp_path / name, keep=["experts", "tied"])
        assert runs["tied"].tolist() == ["True", "False"] and runs["experts"].iloc[1] == ""
    with pytest.raises(InputError, match="did you mean experts"):
        load_runs(tmp_path / "t.csv", keep=["expert"])


def test_required_columns_can_be_others(csv) -> None:
    path = csv("params,tokens,loss\n1e8,2e9,3.5\n2e8,4e9,3.2\n")
    runs = load_runs(path, required=("params", "tokens", "loss"))
    assert runs["arch"].tolist() == ["all", "all"] and "flops" not in runs
    with pytest.raises(InputError, match="bad tokens"):
        load_runs(csv("params,tokens,loss\n1e8,0,3.5\n"), required=("params", "tokens", "loss"))
    with pytest.raises(InputError, match="missing columns params, tokens"):
        load_runs(csv("n_params,D,loss\n1e8,1,3.5\n"), required=("params", "tokens", "loss"))


def two_laws(count: int = 8) -> pd.DataFrame:
    laws = {"a": PowerLaw(1.9, 40.0, 0.10), "b": PowerLaw(1.9, 60.0, 0.12)}
    rows = [
        {"arch": arch, "flops": flops, "loss": law.loss(flops) * (1 + 0.001 * (-1) ** i)}
        for arch, law in laws.items()
        for i, flops in enumerate(np.geomspace(1e15, 1e18, count))
    ]
    return pd.DataFrame(rows)


def test_what_the_data_lack_is_a_status_and_a_warning() -> None:
    few = analyse(two_laws(2), draws=100)
    assert few.fit.status is Status.TOO_FEW and "4 usable points for 5 parameters" in few.warnings[0]
    one_budget = analyse(two_laws().assign(flops=1e15), draws=100)
    assert one_budget.fit.status is Status.TOO_FEW and not one_budget.laws
    flat = two_laws()
    bound = analyse(flat.assign(loss=60 * flat["flops"] ** -0.07), draws=100)
    assert bound.fit.status is Status.BOUND_HIT and any("bound_hit" in warning for warning in bound.warnings)


def test_one_size_is_one_model_trained_longer() -> None:
    table = two_laws()
    assert not any("trained for longer" in warning for warning in analyse(table, draws=100).warnings)
    told = analyse(table.assign(width=64), draws=100).warnings
    assert sum("have width 64: its frontier is one model trained for longer" in warning for warning in told) == 2
    varied = table.assign(width=[64, 128] * 8)
    assert not any("trained for longer" in warning for warning in analyse(varied, draws=100).warnings)


def test_losses_at_or_below_a_fixed_irreducible_loss_are_refused() -> None:
    table = two_laws()
    for e in (float(table["loss"].min()), 3.0, -1.0):
        with pytest.raises(InputError, match="bad irreducible loss.*the lowest loss on the frontier"):
            analyse(table, e, draws=100)


def test_thresholds_outside_all_data() -> None:
    found = analyse(two_laws(), draws=100)
    with pytest.raises(InputError, match="neither law ever reaches it"):
        gain_at_loss(found.fit, "a", "b", 1.0)
    near = gain_at_loss(found.fit, "a", "b", 1.95)
    assert not near.in_range and near.far_beyond_data and near.decades_beyond > 5
    with pytest.raises(InputError, match="no run inside the cuts"):
        analyse(two_laws(), min_flops=1e20, draws=100)
    with pytest.raises(InputError, match="did you mean b"):
        gain_at_loss(found.fit, "a", "bb", 3.0)
