"""Files as disks, networks and editors damage them: bytes flipped, lost and doubled, and values of JSON replaced."""

import json

ODD = (None, True, False, -1, 0, 1, 3, 1.5, -0.0, 1e-5, 1e300, float("inf"), float("nan"), 2**31, 2**63, 2**70, "", "x",
       "1e-5", "..", [], {}, [None], [0], [-1], [1.0], ["x"], [[1]], {"x": 1})
DIGITS = b"0123456789-.eE\"'{}[]:, \\\x00\xff"


def mutated_bytes(rng, content):
    """`content` with one to three places changed, never as it was."""
    found = content
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(len(found) + 1)), int(rng.integers(1, 9))
        kind = rng.integers(6)
        if kind == 0 and at < len(found):
            found = found[:at] + bytes([found[at] ^ 1 << rng.integers(8)]) + found[at + 1:]
        elif kind == 1:
            found = found[:at]
        elif kind == 2:
            found = found[:at] + found[at + length:]
        elif kind == 3:
            found = found[:at] + rng.bytes(length) + found[at:]
        elif kind == 4:
            found = found[:at] + found[max(0, at - length):at] + found[at:]
        else:
            found = found[:at] + bytes([rng.choice(list(DIGITS))]) + found[at + 1:]
    return found if found != content else content + b"\n\x00"


def mutated_json(rng, content):
    """The JSON object in `content` with one value replaced, removed, renamed, or given twice."""
    tree = json.loads(content)
    places = list(_places(tree))
    inside, key = places[rng.integers(len(places))]
    kind = rng.integers(8)
    if kind == 0:
        del inside[key]
    elif kind == 1 and isinstance(inside, dict):
        inside[f"{key}_" if rng.integers(2) else key[:-1]] = inside.pop(key)
    elif kind == 2 and isinstance(inside, dict):
        other = list(inside)[rng.integers(len(inside))]
        inside[key], inside[other] = inside[other], inside[key]
    elif kind == 3 and isinstance(inside, dict):
        inside["\0twice"] = ODD[rng.integers(len(ODD))]
        return json.dumps(tree).replace(json.dumps("\0twice"), json.dumps(key)).encode()
    else:
        inside[key] = ODD[rng.integers(len(ODD))]
    return json.dumps(tree).encode()


def outcome(names, read):
    """What `read` gives, or None where it raises what is documented: an error that has all of `names` in its words."""
    try:
        return read()
    except (ValueError, OSError) as error:
        assert all(name in str(error) for name in names), f"{type(error).__name__} does not name {names}: {error}"
        return None


def _places(tree):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)
