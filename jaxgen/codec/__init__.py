"""Images as files of learned codes: integer arrays to bytes and back, and the file format.

    codec = jaxgen.runs.load("vqvae_mnist").codec()         # a tokenizer, and the probabilities of its tokens
    data = compress(codec, images)                          # uint8 [N, H, W, C] to bytes
    images = decompress(codec, data)

Coder and decoder must see the same probabilities to the last bit, on every machine: they are whole numbers throughout.
"""

from jaxgen.codec.codec import GROUP, OVERLAP, TILE, Codec, compress, reconstruct
from jaxgen.codec.coder import Reader, Transfer, Writer
from jaxgen.codec.context import Context, fit_context
from jaxgen.codec.decode import DamageWarning, Decoded, decode, decompress
from jaxgen.codec.file_format import SUFFIX, FileError, Header, read_header
from jaxgen.codec.probabilities import Plane, Probabilities, Static, fit_static
from jaxgen.codec.tables import bits, frequencies, softmax_frequencies, to_grid

# Files
__all__ = ["GROUP", "OVERLAP", "SUFFIX", "TILE", "Codec", "DamageWarning", "Decoded", "FileError", "Header", "compress",
           "decode", "decompress", "read_header", "reconstruct"]
# Probabilities of tokens
__all__ += ["Context", "Plane", "Probabilities", "Static", "fit_context", "fit_static"]
# Tables and the coder
__all__ += ["Reader", "Transfer", "Writer", "bits", "frequencies", "softmax_frequencies", "to_grid"]
