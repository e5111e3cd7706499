"""The benchmarks run, at a size that measures nothing."""

import json

import pytest


@pytest.mark.slow
def test_the_demos_step_is_compiled_with_both_kinds_of_convolutions(scripts, tmp_path):
    scripts.run("benchmark", "demo", "--rounds=1", "--steps=1", "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["convolutions"] for row in rows] == ["jaxgen", "native"]
    assert all(row["compile"] > 0.1 and row["step"] > 0.001 for row in rows)


def test_a_line_of_the_table_of_convolutions_has_its_ratios():
    from experiments.benchmarks import conv

    row = conv.row_of((2, 8, 9, 4, 8, 3, 2), 1e11, {"ours": [3.0, 1.0, 2.0], "native": [5.0, 4.0, 9.0]})
    assert row["floor"] == pytest.approx(1e3 * 3 * 2 * 2 * 4 * 5 * 8 * 9 * 4 / 1e11)
    assert (row["ours"], row["native_over_ours"], row["ours_min"]) == (2, 2.5, 1) and "nan" in conv._line(row)
    assert "[2,8,9,4]->8, 3/2 |" in conv._line(row)
    times = {"ours": [2.0], "native": [1.0], "torch_nchw": [8.0], "torch_nhwc": [4.0]}
    assert conv.row_of((2, 8, 9, 4, 8, 3, 1), 1e11, times)["ours_over_torch"] == 0.5


def test_a_convolutions_step_has_the_shape_that_its_floor_counts():
    import jax

    from experiments.benchmarks import conv

    for shape in ((2, 8, 9, 4, 8, 3, 2), (1, 7, 7, 2, 3, 4, 2)):
        for library in ("ours", "native"):
            step = conv.prepare({"library": library, "shapes": [shape]})[conv.label(shape)]
            y, (dx, dk) = jax.device_get(step())
            assert (y.shape, dx.shape, dk.shape) == (conv.output_shape(shape), shape[:4], (shape[5],) * 2 + shape[3:5])


def test_decoding_is_timed_for_both_kinds_of_priors(tmp_path, capsys):
    from experiments import benchmark

    rows = tmp_path / "rows.json"
    benchmark.main(["prior", "--lengths=4", "--steps=2", "--batch=2", "--codes=5", "--features=8", "--depth=1",
                    "--heads=2", "--rounds=1", f"--json={rows}"])
    rows = json.loads(rows.read_text())
    assert [row["library"] for row in rows] == ["autoregressive, cached", "autoregressive", "MaskGIT, 2 steps"]
    cached, whole = (rows[i]["median"] / rows[2]["median"] for i in (0, 1))
    assert (f"4 tokens, MaskGIT, 2 steps: {whole:.2f} times as fast as autoregressive, {cached:.2f} times as with a "
            "cache") in capsys.readouterr().out
