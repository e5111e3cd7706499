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
