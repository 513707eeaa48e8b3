"""Which files an input has, what they contain, and whether they are whole."""

from __future__ import annotations

import codecs
import glob
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clv_pipeline.ingest.report import LandingError
from clv_pipeline.settings import InputSettings

CHUNK_BYTES = 1 << 20
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
Format = Literal["csv", "parquet", "table"]


class DamagedFileError(LandingError):
    """A file that can't be read to its end; the message names it and the place."""


@dataclass(frozen=True)
class Source:
    """One file, or one table of a DuckDB file, as it was when it was looked at.

    Attributes
    ----------
    file
        Where it lies.
    path
        How the ledger names it: relative to the folder of clv.toml where it lies below that.
    format
        What it is.
    sha256
        Hash of the content.
    size
        Bytes.
    modified_ns
        When the file changed last, to notice a change while it is being read.
    is_compressed
        Whether a CSV file is gzipped.
    count_records
        Records of a CSV file by its line breaks outside quotes, header not counted. An independent
        count: a reader that finds another number has to be doubted.
    table
        Name of the table in the DuckDB file.
    """

    file: Path
    path: str
    format: Format
    sha256: str
    size: int
    modified_ns: int = 0
    is_compressed: bool = False
    count_records: int | None = None
    table: str | None = None

    def check_unchanged(self) -> None:
        """Refuse a file that has changed since it was looked at.

        Raises
        ------
        LandingError
            If it has.
        """
        if self.format == "table":
            return
        state = self.file.stat()
        if (state.st_size, state.st_mtime_ns) != (self.size, self.modified_ns):
            raise LandingError(
                f"{self.path} changed while it was being read. Deliver files under a temporary "
                "name and rename them when they are whole; then run again."
            )


def find_files(root: Path, settings: InputSettings) -> tuple[list[Path], list[str]]:
    """Return the files that the globs of an input find, sorted, and the globs that find none."""
    found: dict[Path, None] = {}
    empty: list[str] = []
    for pattern in settings.files:
        plain = root / pattern
        if plain.is_file():
            matches = [plain]
        else:
            names = glob.glob(str(plain), recursive=True)  # noqa: PTH207 - absolute patterns
            matches = [Path(name) for name in names if Path(name).is_file()]
        if not matches:
            empty.append(pattern)
        found.update(dict.fromkeys(matches))
    return sorted(found, key=lambda file: name_below(root, file)), empty


def name_below(root: Path, file: Path) -> str:
    """Return the file's name relative to the root, or its full name where it lies elsewhere."""
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return file.resolve().as_posix()


def look_at(root: Path, file: Path, settings: InputSettings) -> Source:
    """Read a file once: hash it, and check that it is whole and in the configured encoding.

    Raises
    ------
    DamagedFileError
        If it is cut off, or has bytes that are not valid in the configured encoding.
    """
    path = name_below(root, file)
    state = file.stat()
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == b"PAR1" or file.suffix.lower() in (".parquet", ".pq"):
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        _check_parquet(file, path, state.st_size)
        return Source(file, path, "parquet", digest.hexdigest(), state.st_size, state.st_mtime_ns)
    is_compressed = start[:2] == b"\x1f\x8b"
    count = _RecordCount()
    text = _TextCheck(path, settings.encoding)
    for chunk in _contents(file, path, digest, is_compressed):
        text.feed(chunk)
        count.feed(chunk)
    text.finish()
    return Source(
        file,
        path,
        "csv",
        digest.hexdigest(),
        state.st_size,
        state.st_mtime_ns,
        is_compressed,
        count.records,
    )


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _contents(file: Path, path: str, digest: hashlib._Hash, is_compressed: bool) -> Iterator[bytes]:
    """Yield the decompressed content, hashing the bytes of the file on the way."""
    inflate = zlib.decompressobj(wbits=31)
    is_open = is_compressed
    seen = 0
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            if not is_compressed:
                yield chunk
                continue
            try:
                while chunk:
                    if inflate.eof:
                        if not chunk.strip(b"\0"):
                            break
                        inflate = zlib.decompressobj(wbits=31)
                    plain = inflate.decompress(chunk, CHUNK_BYTES)
                    seen += len(plain)
                    yield plain
                    chunk = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            except zlib.error as error:
                raise DamagedFileError(
                    f"{path} is damaged: its gzip stream breaks {seen:,} bytes into the "
                    f"decompressed text ({error}). Deliver it again."
                ) from None
            is_open = not inflate.eof
    if is_open:
        raise DamagedFileError(
            f"{path} is cut off: its gzip stream stops {seen:,} bytes into the decompressed text, "
            "before its end. Deliver it again."
        )


def _check_parquet(file: Path, path: str, size: int) -> None:
    with file.open("rb") as stream:
        start = stream.read(4)
        stream.seek(max(size - 4, 0))
        end = stream.read(4)
    if start != b"PAR1":
        raise DamagedFileError(f"{path} is no Parquet file, though its name says so.")
    if end != b"PAR1" or size < 12:
        raise DamagedFileError(
            f"{path} is cut off at byte {size:,}: a Parquet file ends with its index, and this one "
            "has none. Deliver it again."
        )


class _TextCheck:
    """Whether bytes are text in an encoding, found out chunk by chunk."""

    def __init__(self, path: str, encoding: str) -> None:
        self._path = path
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._lines = 1
        self._start = b""

    def feed(self, chunk: bytes, is_last: bool = False) -> None:
        self._start = self._start or chunk[:4]
        try:
            self._decoder.decode(chunk, is_last)
        except UnicodeDecodeError as error:
            line = self._lines + error.object[: error.start].count(b"\n")
            shown = error.object[error.start : error.start + 4].hex(" ")
            raise DamagedFileError(
                f"{self._path} is not in the encoding '{self._encoding}': line {line:,} has the "
                f'bytes {shown}. Set encoding = "{self._suggestion()}" for this input in '
                "clv.toml, or deliver the file as UTF-8."
            ) from None
        self._lines += chunk.count(b"\n")

    def finish(self) -> None:
        self.feed(b"", is_last=True)

    def _suggestion(self) -> str:
        if self._start.startswith(UTF16_MARKS):
            return "utf-16"
        return "cp1252" if codecs.lookup(self._encoding).name != "cp1252" else "latin-1"


class _RecordCount:
    """Line breaks outside quotes, counted chunk by chunk."""

    def __init__(self) -> None:
        self._breaks = 0
        self._is_inside = False
        self._last = b"\n"

    def feed(self, chunk: bytes) -> None:
        if not chunk:
            return
        self._last = chunk[-1:]
        if b'"' not in chunk:
            self._breaks += 0 if self._is_inside else chunk.count(b"\n")
            return
        parts = chunk.split(b'"')
        for part in parts[1 if self._is_inside else 0 :: 2]:
            self._breaks += part.count(b"\n")
        self._is_inside ^= len(parts) % 2 == 0

    @property
    def records(self) -> int | None:
        """Records without the header; None when a quote stays open."""
        if self._is_inside:
            return None
        return max(self._breaks + (self._last != b"\n") - 1, 0)
