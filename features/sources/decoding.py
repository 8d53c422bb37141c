"""Decode files (plain or gz, UTF-8 or UTF-16) into pieces of UTF-8, in bounded memory even for a gz bomb."""

import codecs
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from features.errors import SourceError

_GZIP = b"\x1f\x8b"
_GZIP_WBITS = 31
_PIECE = 1 << 16
_UNPACKED = 1 << 20
"""Bytes unpacked at a time: 64 KB of a gz may unpack to 64 MB."""
_LARGE = 1 << 28
MAX_RATIO = 500
"""Largest compression ratio of a gz that unpacks to more than 256 MB; logs reach about 20, DEFLATE at most 1,032."""


class BrokenGzip(Exception):
    """A gz is truncated or corrupt. What was read before is valid."""


def read_pieces(path: Path, size: int, after: int = 0) -> Iterator[bytes]:
    """Read a text file as UTF-8: `size` bytes of a plain file at a time, from byte `after` on.

    Raises BrokenGzip at the first error in a gz, and SourceError for a gz bomb.
    """
    with path.open("rb") as file:
        head = file.read(len(_GZIP))
        file.seek(after)
        pieces = _unzip(file) if head == _GZIP else iter(lambda: file.read(size), b"")
        yield from _as_utf8(pieces)


def _as_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Convert text to UTF-8 without a byte-order mark."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 4:
            break
    mark, encoding = _encoding(head)
    pieces = chain([head.removeprefix(mark)], pieces)
    if encoding is None:
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for piece in pieces:
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def _encoding(head: bytes) -> tuple[bytes, str | None]:
    """The byte-order mark at the start of a text, and its encoding unless that is UTF-8."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark):
            return mark, encoding
    # Without a mark, every other byte of a header or of a JSON line's beginning is NUL.
    for encoding, zeros in (("utf-16-le", head[1:4:2]), ("utf-16-be", head[0:3:2])):
        if zeros == b"\0\0" and head.strip(b"\0"):
            return b"", encoding
    return codecs.BOM_UTF8, None


def _unzip(file: BinaryIO) -> Iterator[bytes]:
    packed = file.read(_PIECE)
    unpacked = 0
    while packed:
        member = zlib.decompressobj(wbits=_GZIP_WBITS)
        while not member.eof:
            before = member.copy()
            try:
                piece = member.decompress(packed, _UNPACKED)
            except zlib.error:
                yield _salvage(before, packed)
                raise BrokenGzip from None
            yield piece
            unpacked += len(piece)
            if unpacked > max(_LARGE, MAX_RATIO * file.tell()):
                raise SourceError(
                    f"{file.name} unpacks to more than {MAX_RATIO} times its size, which logs do not: "
                    "if it is a log, unpack it"
                )
            packed = member.unconsumed_tail
            # At the end of the file zlib may still buffer text.
            if not member.eof and not packed and not (packed := file.read(_PIECE)) and not piece:
                raise BrokenGzip
        packed = _next_member(member.unused_data, file)


def _next_member(packed: bytes, file: BinaryIO) -> bytes:
    """The start of the next gz member, after zero padding."""
    packed = packed.lstrip(b"\0")
    while len(packed) < len(_GZIP) and (more := file.read(_PIECE)):
        packed = (packed + more).lstrip(b"\0")
    if packed and not packed.startswith(_GZIP):
        raise BrokenGzip
    return packed


def _salvage(member: "zlib._Decompress", piece: bytes) -> bytes:
    """Decompress a corrupt piece byte by byte, up to the error."""
    salvaged: list[bytes] = []
    for byte in piece:
        try:
            salvaged.append(member.decompress(bytes([byte])))
        except zlib.error:
            break
    return b"".join(salvaged)
