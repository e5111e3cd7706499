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

    row = conv.measure((2, 8, 8, 4, 8, 3, 1), 1e11, torch=None, rounds=1)
    assert row["floor"] == pytest.approx(1e3 * 3 * 2 * 2 * 8 * 8 * 8 * 9 * 4 / 1e11)
    assert row["native_over_ours"] == pytest.approx(row["native"] / row["ours"]) and "nan" in conv._line(row)


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
