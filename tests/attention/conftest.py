import pytest

import jaxgen.attention
from jaxgen.attention import dot_product

# Bytes of scores at once and of a block, for the 6 heads of 5 * 4 * 4 bytes of `tests/attention/oracle.py`.
FORMS = {"whole": (1 << 20, 1 << 20), "two heads of a step": (0, 200), "three queries of a block": (0, 100)}


@pytest.fixture(params=FORMS)
def attend(request, monkeypatch):
    """The function in one form; another one each time, so that no compiled program of another form is taken."""
    whole, block = FORMS[request.param]
    monkeypatch.setattr(dot_product, "WHOLE_BYTES", whole)
    monkeypatch.setattr(dot_product, "CPU_BLOCK_BYTES", block)
    return lambda *args, **options: jaxgen.attention.attend(*args, **options)
