"""The records of a run's `metrics.jsonl`, read back."""

import json
from pathlib import Path


def read_records(path: str | Path) -> list[dict]:
    """The records of a `metrics.jsonl`; a last line cut short by a crash is left out.

    Args:
        path: the file; a missing one has no records.

    Returns:
        The records in order.

    Raises:
        ValueError: a line other than the last is not a record.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            record["step"] + 0
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is no record of metrics: delete the line or the file") from error
        records.append(record)
    return records


def drop_records_after(path: str | Path, step: int) -> list[dict]:
    """Rewrites a `metrics.jsonl` without the records of later steps.

    Args:
        path: the file; nothing happens if it is missing.
        step: the last one to keep.

    Returns:
        The records that are left.
    """
    path = Path(path)
    kept = [record for record in read_records(path) if record["step"] <= step]
    if path.is_file():
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        temporary.replace(path)
    return kept
