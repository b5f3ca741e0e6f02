"""The pieces that every HTML page is made of: writing it whole, tables, pictures, numbers in words."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cmrsr.batch.run import Status
from cmrsr.io.outputs import output_errors, replacing
from cmrsr.io.printable import printable_page

NOTICE = "Research software, not a medical device. Not for diagnosis or treatment."
STATUS_SIGNS: dict[Status, str] = {"ok": "✓ ok", "failed": "✕ failed", "skipped": "– skipped"}
MEDIA_TYPES = ((b"\x89PNG", "image/png"), (b"RIFF", "image/webp"), (b"GIF8", "image/gif"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One figure: ``data`` is PNG, WebP or GIF; the caption says how to read it."""

    title: str
    caption: str
    data: bytes


def write_page(path: Path, pieces: Iterable[str]) -> None:
    """Write a page piece by piece; it appears whole or not at all. Raises OutputError."""
    with replacing(path) as partial, output_errors(path), partial.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(map(printable_page, pieces))  # names may be no UTF-8, and hold control characters


# ---- the batch -----------------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], above: str = "") -> str:
    """A table of heads (escaped here) and rows of finished cells; ``above`` is a finished row over the heads."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead>{above}<tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def figures(pictures: Iterable[Picture]) -> Iterator[str]:
    """Pictures with their titles and captions, embedded."""
    for picture in pictures:
        kind = next(name for magic, name in MEDIA_TYPES if picture.data.startswith(magic))
        yield f'<figure><h3>{escape(picture.title)}</h3><img alt="{escape(picture.title)}" src="data:{kind};base64,'
        yield b64encode(picture.data).decode("ascii")
        yield f'"><figcaption>{escape(picture.caption)}</figcaption></figure>\n'


def signed(value: float, digits: int) -> str:
    """With a sign, and a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """In the largest fitting units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def items(texts: Sequence[str]) -> str:
    """Items of an HTML list, one line each."""
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def warning_list(texts: Sequence[str]) -> str:
    """Below the head of an evaluation: what was refused or left out."""
    return f'<ul class="warnings" style="margin-top:16px">{items(texts)}</ul>'


def chip(status: Status) -> str:
    """What became of a case, as a coloured word."""
    return f'<span class="chip {status}">{STATUS_SIGNS[status]}</span>'
