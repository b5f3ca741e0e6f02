"""The bytes of a NIfTI image: one file or a pair (.hdr, .img), plain or gzip, its header, and where its voxels are."""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header

from cmrsr.errors import UnreadableError, UnusableError
from cmrsr.io.nifti.repair import repair

_SUFFIX = re.compile(r"\.(nii|hdr|img)(\.gz)?$", re.IGNORECASE)
_HEADERS = {348: Nifti1Header, 540: Nifti2Header}
_FLAG = 4  # bytes after the header: whether extensions follow
_DEFLATE_RATIO = 1032  # the most that deflate can expand
# Noise lets an image shrink to a quarter or so, a mask a hundredfold: beyond both limits a file is made to fill memory.
_BOMB_RATIO, _BOMB_BYTES = 500, 2**30
_CHUNK = 2**26
_MAX_EXTENSIONS = 2**26
_COMMENT = 6  # the code of extensions that hold plain text
_OURS = re.compile(rb"([\w ,()]{,40}\. )?cmrsr \S{1,40} \w{1,20}: engine [ -~]*|(\w+ of a )?virtual patient[ -~]*")


def nifti_stem(path: Path) -> str:
    """The file's name without ``.nii``, ``.hdr`` or ``.img`` and ``.gz``."""
    return _SUFFIX.sub("", path.name)


def is_nifti_name(path: Path) -> bool:
    """Whether the name is that of a NIfTI file in one piece."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


# --- pairs ------------------------------------------------------------------------------------------------------------


def is_pair_name(path: Path) -> bool:
    """Whether the name is that of a header or image file of a pair."""
    return _SUFFIX.search(path.name) is not None and not is_nifti_name(path)


def pair_header(path: Path) -> Path:
    """The header file of an image file ``.img``, by which the pair is named; any other path, or a lone one, itself."""
    if not path.name.lower().endswith((".img", ".img.gz")):
        return path
    header = _partner(path, "hdr")
    return path if header is None or _header_bytes(header) is None else header


def is_pair(path: Path) -> bool:
    """Whether ``path`` is a header file that NIfTI or ANALYZE 7.5 may have written (other formats use .hdr too)."""
    return path.name.lower().endswith((".hdr", ".hdr.gz")) and _header_bytes(path) is not None


def _partner(path: Path, kind: str) -> Path | None:
    stem = nifti_stem(path)
    packed = path.name.lower().endswith(".gz")
    for end in sorted(("", ".gz"), key=lambda end: bool(end) != packed):
        for suffix in (f".{kind}{end}", f".{kind}{end}".upper(), f".{kind.upper()}{end}"):
            if (found := path.with_name(stem + suffix)).is_file():
                return found
    return None


def _header_bytes(path: Path) -> bytes | None:
    """None where the file does not begin as a header does, or cannot be read."""
    try:
        with open_nifti(path) as stream:
            start = stream.read(540)
    except (OSError, EOFError, zlib.error):
        return None
    return start if _header_size(start) is not None else None


# --- the header -------------------------------------------------------------------------------------------------------


def open_nifti(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file's bytes, decompressed if it is gzip, whatever its suffix says."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def reason(error: Exception) -> str:
    """The first line of an exception's message."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def read_header(path: Path, notes: list[str] | None = None) -> Any:
    """The nibabel header of a NIfTI-1 or NIfTI-2 image, or of an ANALYZE 7.5 pair as one of NIfTI-1.

    Every field is safe to use and to write again (see ``repair``); what was changed is added to ``notes``. Of the
    extensions only the comments of earlier results are kept, since others hold names and whole DICOM headers.
    UnreadableError if it is none. UnusableError: more axes than x, y, z and time.
    """
    notes = [] if notes is None else notes
    if path.name.lower().endswith((".img", ".img.gz")):
        header_file = _partner(path, "hdr")
        if header_file is None:
            raise UnreadableError(
                f"{path}: its header {nifti_stem(path)}.hdr is missing; expected both files of the pair in one folder"
            )
        path = header_file
    with reading(path, "a NIfTI file"), open_nifti(path) as stream:
        block = stream.read(540)
        size = _header_size(block)
        if size is None:
            found = "another kind of file" if block else "an empty file"
            raise UnreadableError(f"{path}: expected a NIfTI file, found {found}")
        if len(block) < size:
            raise UnreadableError(f"{path}: damaged NIfTI header ({len(block)} of {size} bytes)")
        order = "<" if int.from_bytes(block[:4], "little") == size else ">"
        header = _HEADERS[size](block[:size], endianness=order, check=False)
        header = repair(path, header, is_pair=is_pair_name(path), notes=notes)
        if not is_pair_name(path):
            stream.seek(size)
            flag = stream.read(_FLAG)
            extensions = list(_extensions(stream, order)) if flag[:1] not in (b"", b"\0") else []
            ours = [content for code, content in extensions if code == _COMMENT and _OURS.fullmatch(content)]
            header.extensions.extend(Nifti1Extension("comment", content) for content in ours)
            if dropped := len(extensions) - len(ours):
                notes.append(f"{dropped} header extensions are not carried over into results: they may hold names")
    return header


def _says_single(path: Path) -> bool:
    """Whether the magic word of a header is that of a file in one piece."""
    return any((_header_bytes(path) or b"")[at : at + 2] == b"n+" for at in (4, 344))


def _header_size(block: bytes) -> int | None:
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    return next((size for size in _HEADERS if size in sizes), None)


def _extensions(stream: BinaryIO | gzip.GzipFile, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and text of each extension, as long as their sizes can be true; nothing where the chain is broken."""
    for _, size, code in _chain(stream, order):
        text = stream.read(size - 8) if code == _COMMENT and size < 8192 else b""
        yield code, text.rstrip(b"\0")


def _chain(stream: BinaryIO | gzip.GzipFile, order: str) -> Iterator[tuple[int, int, int]]:
    """Start, size and code of each extension from here on."""
    start = first = stream.tell()
    while True:
        stream.seek(start)
        head = stream.read(8)
        if len(head) < 8:
            return
        size, code = struct.unpack(f"{order}ii", head)
        if size < 16 or size % 16 or not 0 <= code < 1000 or start + size - first > _MAX_EXTENSIONS:
            return
        yield start, size, code
        start += size


# --- the voxels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Voxels:
    """Where they are: ``n_bytes`` of the decompressed ``path`` from ``offset``."""

    path: Path
    offset: int
    n_bytes: int


def find_voxels(path: Path, header: Any, shape: Sequence[int], item_bytes: int, notes: list[str]) -> Voxels:
    """Where the voxels of ``path`` are, by sizes alone: a wrong shape is found before memory is taken for it.

    UnreadableError: the image file of a pair is missing, or the file cannot hold what the header announces.
    """
    n_bytes = item_bytes
    for n in shape:  # Python's integers: numpy's would wrap
        n_bytes *= int(n)
    data = path
    paired = is_pair_name(path)
    if paired:
        header_file = pair_header(path)
        image = _partner(header_file, "img")
        paired = image is not None
        data = image or header_file
        if not paired and not _says_single(header_file):
            raise UnreadableError(
                f"{path}: its image {nifti_stem(path)}.img is missing; expected both files of the pair in one folder"
            )
    with reading(data, "voxels"):
        offset = _offset(data, header, n_bytes, paired, notes)
        _check_size(path, data, shape, offset, n_bytes)
    return Voxels(path=data, offset=offset, n_bytes=n_bytes)


def _offset(data: Path, header: Any, n_bytes: int, paired: bool, notes: list[str]) -> int:
    """The header's own, or where the format puts them when that cannot be."""
    stated = float(header["vox_offset"])
    known = -1 if np.isnan(stated) else int(header["vox_offset"]) if np.isfinite(stated) else 2**63
    least = 0 if paired else header.single_vox_offset
    length = _plain_size(data)
    end = least if paired else _extensions_end(data, header)
    if known >= end and not (paired and known and length == n_bytes):
        return known
    offset = end if length is None or length >= end + n_bytes else least
    if known >= least and length != end + n_bytes and not paired:
        return known  # inside what may be extensions, and the length of the file does not contradict
    if offset != known and not (known == 0 and paired):
        what = "inside the header or its extensions" if known >= 0 and not paired else "none"
        notes.append(f"the header's offset of the voxels ({stated:g}) is {what}: {offset} was used")
    return offset


def _extensions_end(data: Path, header: Any) -> int:
    with open_nifti(data) as stream:
        stream.seek(int(header["sizeof_hdr"]))
        end = int(header.single_vox_offset)
        if stream.read(_FLAG)[:1] in (b"", b"\0"):
            return end
        for start, size, _ in _chain(stream, header.endianness):
            end = start + size
    return end


def _plain_size(path: Path) -> int | None:
    """Size of the decompressed file, where it can be determined without reading all of it."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return size
        stream.seek(max(0, size - 4))
        plain = int.from_bytes(stream.read(4), "little")  # modulo 2^32, of the last member
    return plain if plain >= size and size * _DEFLATE_RATIO < 2**32 else None


def _check_size(path: Path, data: Path, shape: Sequence[int], offset: int, n_bytes: int) -> None:
    size = data.stat().st_size
    with data.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    expected = f"{offset + n_bytes:,} bytes for the shape {tuple(map(int, shape))}"
    if offset + n_bytes > size * (_DEFLATE_RATIO if zipped else 1):
        holds = f"{size:,} bytes" + (f", at most {size * _DEFLATE_RATIO:,} decompressed" if zipped else "")
        raise UnreadableError(f"{path}: truncated or damaged, expected {expected}, found {holds}; copy it anew")
    if zipped and offset + n_bytes > max(_BOMB_BYTES, _BOMB_RATIO * size):
        raise UnreadableError(
            f"{path}: expected {expected}, found {size:,} compressed ones, too few for an image; save it uncompressed"
        )


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn what reading or inflating ``path`` raises into an UnreadableError, a lack of memory into UnusableError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError(f"{path}: truncated or damaged, expected {expected} ({reason(error)})") from error
    except MemoryError as error:
        raise UnusableError(
            f"{path}: too little memory for its voxels; cut the images to the heart, or store them with time last, so "
            f"that one frame is read at a time"
        ) from error


def read_exactly(stream: BinaryIO | gzip.GzipFile, n_bytes: int) -> bytes:
    """In pieces: memory is taken as data comes, not as the header announces it. EOFError where they end early."""
    if n_bytes <= _CHUNK:
        data = stream.read(n_bytes)
    else:
        pieces, missing = [b""], n_bytes
        while missing and (piece := stream.read(min(missing, _CHUNK))):
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces)
    if len(data) < n_bytes:
        raise EOFError(f"{len(data)} of {n_bytes} bytes")
    return data
