"""Text files are UTF-8 in every locale."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = ("read_text", "write_text")


def _without_encoding(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opens_text = name == "open" and any(set(mode) <= set("rwaxt+") and mode for mode in modes)
        if name in TEXT or opens_text:
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_text_file_is_read_and_written_with_a_stated_encoding():
    files = [path for folder in ("jaxgen", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files and [place for path in files for place in _without_encoding(path)] == []
