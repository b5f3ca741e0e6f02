"""The bytes of a file, read or inflated piece by piece, and no memory taken for bytes that are not there."""

import zlib
from typing import BinaryIO

from cmrsr.errors import UnreadableError

CHUNK = 1 << 15
PIECE = 1 << 20  # bytes inflated at a time


class CutOffError(Exception):
    """More bytes were asked for than are left."""


class Window:
    """Random access to the bytes of a file, of which a piece is in memory at a time."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._base, self._data = file, size, 0, b""

    def at(self, offset: int, count: int) -> tuple[bytes, int]:
        """Bytes, and the index in them of ``offset``; at least ``count`` follow it. Raises CutOffError."""
        index = offset - self._base
        if index < 0 or index + count > len(self._data):
            self._data = self._fetch(offset, count)
            self._base, index = offset, 0
        return self._data, index

    def read(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes. Raises CutOffError."""
        data, index = self.at(offset, count)
        return data[index : index + count]

    def has(self, offset: int) -> bool:
        """Whether there are bytes up to ``offset``."""
        return offset <= self._size

    def left(self, offset: int, most: int) -> int:
        """How many bytes follow ``offset``, not counting beyond ``most``."""
        return max(min(self._size - offset, most), 0)

    def _fetch(self, offset: int, count: int) -> bytes:
        if offset + count > self._size:
            raise CutOffError
        self._file.seek(offset)
        data = self._file.read(max(count, CHUNK))
        if len(data) < count:  # it became shorter since it was opened
            raise CutOffError
        return data


class Inflated(Window):
    """The bytes of a deflated stream, from front to back; what was passed is not kept.

    Raises UnreadableError where more than ``limit`` bytes come out: a few kilobytes can inflate to gigabytes.
    """

    def __init__(self, file: BinaryIO, start: int, limit: int) -> None:
        super().__init__(file, 0)
        file.seek(start)
        self._inflater, self._pending, self._limit, self._done = zlib.decompressobj(-zlib.MAX_WBITS), b"", limit, False

    def has(self, offset: int) -> bool:
        """As above; what lies before ``offset`` is passed only by reading there, so that a look ahead loses nothing."""
        return self._base + len(self._data) >= offset or self._ahead(offset)

    def left(self, offset: int, most: int) -> int:
        return most if self.has(offset + most) else max(self._base + len(self._data) - offset, 0)

    def _ahead(self, end: int) -> bool:
        have = self._base + len(self._data)
        self._data += self._inflate(have, end, keep_from=have)
        return self._base + len(self._data) >= end

    def _fetch(self, offset: int, count: int) -> bytes:
        if offset < self._base:
            raise UnreadableError("damaged deflated data")
        have, kept = self._base + len(self._data), self._data[offset - self._base :]
        data = kept + self._inflate(have, offset + max(count, CHUNK), keep_from=max(have, offset))
        if len(data) < count:
            raise CutOffError
        return data

    def _inflate(self, have: int, end: int, keep_from: int) -> bytes:
        """Go on from ``have`` bytes to at least ``end``; the bytes from ``keep_from`` on."""
        parts = []
        while have < end and not self._done:
            if not self._pending:
                self._pending = self._file.read(CHUNK)
            try:
                piece = self._inflater.decompress(self._pending, PIECE)
            except zlib.error:
                raise UnreadableError("damaged deflated data") from None
            self._done = self._inflater.eof or not (piece or self._pending)
            self._pending = self._inflater.unconsumed_tail
            if have + len(piece) > keep_from:
                parts.append(piece[max(keep_from - have, 0) :])
            have += len(piece)
            if have > self._limit:
                raise UnreadableError(f"its deflated data inflates to more than {self._limit >> 20} MB")
        return b"".join(parts)
