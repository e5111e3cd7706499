"""Records of results: one for each configuration and command, and the tables made of them."""

import json
from types import SimpleNamespace

from experiments import results as tables
from experiments.common import results


def record(monkeypatch, file, configuration, **values):
    monkeypatch.setattr(results, "FILE", file)
    monkeypatch.setattr("sys.argv", ["evaluate", "--workdir=runs/a", "--record"])
    results.record(SimpleNamespace(config={"configuration": configuration}), {"step": 3}, values)
    return json.loads(file.read_text())


def test_a_record_of_the_same_command_replaces_the_numbers_and_keeps_the_words(monkeypatch, tmp_path):
    file = tmp_path / "results.json"
    first = record(monkeypatch, file, "mine", psnr=20.0, ssim=0.5)
    first[0]["values"]["training"] = "3 minutes"
    file.write_text(json.dumps(first))
    (again,) = record(monkeypatch, file, "mine", psnr=21.0)
    assert again["values"] == {"training": "3 minutes", "psnr": 21.0}
    assert again["command"] == "python -m experiments.evaluate --workdir=runs/a" and again["step"] == 3


def test_a_table_has_a_row_for_each_configuration_also_ones_own(monkeypatch, tmp_path):
    for name in ("mine", "vqvae_mnist"):
        record(monkeypatch, tmp_path / "results.json", name, psnr=20.04, used=1.0)
    texts = tables.documents()
    rows = [line for line in texts[tables.ROOT / "README.md"].splitlines() if "20.0 " in line]
    assert [row.split(" | ")[0] for row in rows] == ["| `mine`", "| `vqvae_mnist`"]
    assert "Result: PSNR 20.0 dB, 100% of the codes in use." in texts[
        tables.ROOT / "experiments" / "configs" / "vqvae_mnist.py"]
