r"""Names of files as text that can be stored and printed, whatever bytes they are made of.

A name that is not UTF-8 reaches Python with its odd bytes as lone surrogates, which no UTF-8 file takes; a name may
also hold line ends, escape sequences that a terminal obeys, and marks that turn the direction of the text around.
"""

import hashlib
import re

# Control characters, line and paragraph separators, marks of text direction, and lone surrogates.
_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_NOT_IN_A_LINE = re.compile(f"[{_CONTROL}]")
_NOT_ON_A_PAGE = re.compile(f"(?![\n\t])[{_CONTROL}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTES = range(0xDC80, 0xDD00)  # how Python holds the bytes 0x80 to 0xff of a name that is not UTF-8
# Of the 255 bytes that file systems allow: results add as much as "._function_masks.nii.gz.partial" to a name.
MAX_STEM_BYTES = 200
_DIGEST_DIGITS = 10


def printable(text: str) -> str:
    r"""One line for a terminal: odd bytes as ``\xe9``, control characters as ``\n``, ``\x1b`` or ``\u202e``."""
    return _NOT_IN_A_LINE.sub(_escaped, text)


def one_line(text: str) -> str:
    """The same for a message: line ends and runs of spaces become one space."""
    return printable(" ".join(text.split()))


def printable_page(text: str) -> str:
    """The same for text of many lines, such as HTML, which keeps line ends and tabs."""
    return _NOT_ON_A_PAGE.sub(_escaped, text)


def storable(text: str) -> str:
    r"""Text for UTF-8 files such as JSON, reversible: odd bytes as ``\xe9``, and then each backslash of it doubled."""
    return _SURROGATE.sub(_escaped, text.replace("\\", "\\\\")) if _SURROGATE.search(text) else text


def safe_name(name: str) -> str:
    """A file name for a result that any file system, terminal and table takes: odd bytes and control characters
    become ``%E9``, and a long name is shortened.

    Equal names give equal names; the case of the letters, spaces and all other characters stay.
    """
    return short_name(_NOT_IN_A_LINE.sub(lambda m: "".join(f"%{byte:02X}" for byte in _bytes_of(m[0])), name))


def short_name(name: str) -> str:
    """A file name to which a result's endings can be added: of a longer one the start, and a digest of the whole."""
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= MAX_STEM_BYTES:
        return name
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    start = data[: MAX_STEM_BYTES - _DIGEST_DIGITS - 1].decode("utf-8", "ignore")
    return f"{start}~{digest}"


def _bytes_of(character: str) -> bytes:
    code = ord(character)
    return bytes([code - 0xDC00]) if code in _BYTES else character.encode("utf-8", "surrogatepass")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[match[0]]
    code = code - 0xDC00 if code in _BYTES else code
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
