"""The instructions of a compiled program: what kind of work each is, its operations and the bytes that it moves.

XLA's text of a program names each instruction as its profiler does. Operations are counted for matrix products and
convolutions only: what else there is takes its time for memory. Bytes are an instruction's operands and results; where
it reads or writes a slice, the slice's.
"""

import math
import re
from typing import NamedTuple

PRODUCTS, CONVOLUTIONS, REDUCTIONS, COPIES, ARITHMETIC, LOOPS, RANDOM = (
    "matrix products", "convolutions", "reductions", "copies, paddings, transposes", "element by element",
    "loops and calls", "random numbers")
KINDS = (PRODUCTS, CONVOLUTIONS, REDUCTIONS, COPIES, ARITHMETIC, LOOPS, RANDOM)
MOVES = {"copy", "transpose", "pad", "concatenate", "slice", "dynamic-slice", "dynamic-update-slice", "broadcast",
         "bitcast", "reshape", "reverse", "gather", "tuple", "get-tuple-element", "parameter", "constant", "iota",
         "convert"}
BY_OPCODE = {"dot": PRODUCTS, "convolution": CONVOLUTIONS, "reduce": REDUCTIONS, "reduce-window": REDUCTIONS,
             "sort": REDUCTIONS, "while": LOOPS, "call": LOOPS, "conditional": LOOPS, "rng-bit-generator": RANDOM}
# A fusion that sums over an image and multiplies what is left is a reduction: its product is not what takes the time.
LEAST_OPERATIONS_PER_BYTE = 1
BITS = {"pred": 8, "bf16": 16}

_LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.-]+)")


class Instruction(NamedTuple):
    """One instruction: its kind of work, and the operations and bytes of one run."""

    kind: str
    operations: float
    size: float
    source: str  # the JAX function that it comes from, where the program says


class _Line(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: list[str]
    rest: str
    root: bool


def parse(text: str) -> dict[str, Instruction]:
    """{name: instruction} of the text of a compiled program; a fusion is one."""
    computations, lines = {}, {}
    current = []
    for raw in text.splitlines():
        if raw.rstrip().endswith("{") and not _LINE.match(raw):
            current = computations.setdefault(raw.split("(")[0].replace("ENTRY", "").strip().lstrip("%").split(" ")[0],
                                              [])
        elif match := _LINE.match(raw):
            name, shape, opcode, rest = match.groups()
            inside = rest.split("), ")[0] if opcode != "constant" else ""
            line = _Line(name, shape, opcode, _NAME.findall(inside), rest, raw.lstrip().startswith("ROOT"))
            current.append(line)
            lines[name] = line
    fused = {part.name for line in lines.values() if line.opcode == "fusion" for part in computations[_called(line)]}
    return {name: _instruction(line, lines, computations) for name, line in lines.items() if name not in fused}


def _instruction(line: _Line, lines: dict[str, _Line], computations: dict[str, list[_Line]]) -> Instruction:
    inner = computations.get(_called(line), []) if line.opcode == "fusion" else []
    operations, size = sum(_operations(part, lines) for part in inner or [line]), _size(line, lines, inner)
    opcodes = {part.opcode for part in inner or [line]}
    kinds = sorted({BY_OPCODE[opcode] for opcode in opcodes if opcode in BY_OPCODE}, key=KINDS.index)
    if len(kinds) > 1 and operations < LEAST_OPERATIONS_PER_BYTE * size:
        kinds = [kind for kind in kinds if kind not in (PRODUCTS, CONVOLUTIONS)] or kinds
    kind = kinds[0] if kinds else COPIES if opcodes <= MOVES else ARITHMETIC
    source = re.search(r'op_name="([^"]*)"', line.rest)
    return Instruction(kind, operations, 0.0 if kind == LOOPS else size, source.group(1) if source else "")


def _called(line: _Line) -> str:
    match = re.search(r"calls=%?([\w.-]+)", line.rest)
    return match.group(1) if match else ""


def _bytes(shape: str) -> float:
    total = 0.0
    for dtype, sizes in _ARRAY.findall(shape):
        bits = BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 0)
        total += math.prod(int(n) for n in sizes.split(",") if n) * bits / 8
    return total


def _operations(line: _Line, lines: dict[str, _Line]) -> float:
    """Multiplications and additions of a product: two for each element of the result and of what is summed over."""
    if line.opcode not in ("dot", "convolution"):
        return 0.0
    result = math.prod(_sizes(line.shape))
    first, second = (_sizes(lines[name].shape) for name in line.operands[:2])
    if line.opcode == "dot":
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest).group(1)
        return 2.0 * result * math.prod(first[int(axis)] for axis in summed.split(",") if axis)
    kernel = re.search(r"dim_labels=\w+_(\w+)->", line.rest).group(1)
    return 2.0 * result * math.prod(second) / second[kernel.index("o")]


def _sizes(shape: str) -> list[int]:
    return [int(n) for n in _ARRAY.search(shape).group(2).split(",") if n]


def _size(line: _Line, lines: dict[str, _Line], inner: list[_Line]) -> float:
    if line.opcode in ("dynamic-slice", "slice"):
        return 2 * _bytes(line.shape)
    if line.opcode == "dynamic-update-slice":
        return 2 * _bytes(lines[line.operands[1]].shape)
    result = _bytes(line.shape)
    root = next((part for part in inner if part.root), None)
    if root is not None and root.opcode == "dynamic-update-slice":
        result = _bytes(lines[root.operands[1]].shape)
    return result + sum(_read(index, name, lines, inner) for index, name in enumerate(line.operands))


def _read(index: int, name: str, lines: dict[str, _Line], inner: list[_Line]) -> float:
    """Bytes of an operand that are read: of one that a fusion only takes slices of or writes into, the slices."""
    whole = _bytes(lines[name].shape) if name in lines else 0.0
    parameter = next((p.name for p in inner if p.opcode == "parameter" and p.rest.startswith(f"{index})")), None)
    users = [part for part in inner if parameter in part.operands]
    if not users or any(part.opcode not in ("dynamic-slice", "slice", "dynamic-update-slice") for part in users):
        return whole
    read = sum(_bytes(part.shape) for part in users if part.opcode != "dynamic-update-slice")
    written_into = all(part.operands[0] == parameter for part in users if part.opcode == "dynamic-update-slice")
    return read if written_into else whole
