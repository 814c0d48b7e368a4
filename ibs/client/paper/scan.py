"""Reading a paper key from a picture: a photo, a scan, or a PDF. The extra `paper` has the libraries.

Used by `cli`. Blocking; a second or two for a large photo. Invariants: a picture is bounded before memory is spent on
it; what a QR code says counts only when its whole checksum holds; two different keys in one picture are refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ibs.client.paper.missing import missing
from ibs.core import limits_paper, paperkey
from ibs.errors import FormatError

if TYPE_CHECKING:
    from PIL.Image import Image

_TYPE: Final = "type its lines instead: ironcore-backup-client key paperkey restore -"
_AGAIN: Final = (
    "take another picture: straight from above, sharp, in even light, the code filling half of it; or type its lines"
)
_PDF: Final = b"%PDF-"
_TYPED_BOX: Final = b"ftyp"
"""At offset 4 of HEIC and AVIF."""
_IMAGES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"RIFF", b"BM", b"GIF8", b"P4", b"P5", b"P6")
_HEAD_BYTES: Final = 512
_POINTS_AN_INCH: Final = 72


def is_picture(data: bytes) -> bool:
    """Whether a file's first bytes are those of a picture or a PDF, or at least not of a text."""
    return _is_pdf(data) or data.startswith(_IMAGES) or data[4:8] == _TYPED_BOX or b"\0" in data[:_HEAD_BYTES]


def read(data: bytes) -> bytes:
    """The content of the paper key in a picture. Raises FormatError, UnavailableError without the extra."""
    if len(data) > limits_paper.PICTURE_BYTES_MAX:
        raise FormatError(
            "the picture is too large", hint=f"give one of at most {limits_paper.PICTURE_BYTES_MAX} bytes"
        )
    others = 0
    found: set[bytes] = set()
    for picture in _pages(data) if _is_pdf(data) else [_picture(data)]:
        contents, strange = _codes(picture)
        found |= contents
        others += strange
    if len(found) > 1:
        raise FormatError("the picture shows paper keys of different keys", hint="give one of a single page")
    if not found:
        what = "the QR code in it is no paper key's" if others else "no QR code is found in it"
        raise FormatError(f"the picture holds no paper key that can be read: {what}", hint=_AGAIN)
    (content,) = found
    paperkey.decode(content)
    return content


def _is_pdf(data: bytes) -> bool:
    return _PDF in data[: limits_paper.PDF_HEAD_BYTES]


def _codes(picture: Image) -> tuple[set[bytes], int]:
    """The paper keys in a picture, and how many other codes there are; tried in several ways until one is found."""
    try:
        import zxingcpp  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise missing("reading a QR code", "zxing-cpp", _TYPE) from error
    others, wanted = 0, zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
    for tried in _ways(picture):
        texts = [code.text for code in zxingcpp.read_barcodes(tried, formats=wanted)]
        contents = {content for text in texts if (content := paperkey.parse_qr(text)) is not None}
        if contents:
            return contents, len(texts) - len(contents)
        others = max(others, len(texts))
    return set(), others


def _ways(picture: Image) -> Iterator[Image]:
    """The picture as it is, then with more contrast, softened, smaller, and larger."""
    from PIL import ImageFilter, ImageOps  # noqa: PLC0415 - an extra; it is there when there is a picture

    gray = picture.convert("L")
    while gray.width * gray.height > limits_paper.PICTURE_SEARCHED_PIXELS_MAX:
        gray = gray.reduce(2)
    yield gray
    yield ImageOps.autocontrast(gray, cutoff=2)
    yield gray.filter(ImageFilter.MedianFilter(3))
    for share in limits_paper.PICTURE_SCALES:
        width, height = round(gray.width * share), round(gray.height * share)
        if 0 < width * height <= limits_paper.PICTURE_SEARCHED_PIXELS_MAX:
            yield ImageOps.autocontrast(gray.resize((width, height)).filter(ImageFilter.GaussianBlur(1)), cutoff=2)


def _picture(data: bytes) -> Image:
    try:
        from PIL import Image as images  # noqa: PLC0415, N813 - an extra
    except ImportError as error:
        raise missing("reading a picture", "Pillow", _TYPE) from error
    try:
        with images.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > limits_paper.PICTURE_PIXELS_MAX:
                raise FormatError(
                    f"the picture has more than {limits_paper.PICTURE_PIXELS_MAX} pixels", hint="make it smaller"
                )
            opened.load()
            return opened.copy()
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(
            "the picture cannot be read", hint="give a PNG or JPEG file, a PDF, or a text file with the lines"
        ) from error


def _pages(data: bytes) -> Iterator[Image]:
    try:
        import pypdfium2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise missing("reading a PDF", "pypdfium2", f"give a photo; or {_TYPE}") from error
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise FormatError("the PDF cannot be read", hint="give the scan as PNG instead") from error
    try:
        for place in range(min(len(document), limits_paper.PDF_PAGES_MAX)):
            page = document[place]
            scale = limits_paper.PDF_DOTS_AN_INCH / _POINTS_AN_INCH
            width, height = page.get_size()
            if width * height * scale * scale > limits_paper.PICTURE_PIXELS_MAX:
                raise FormatError("a page of the PDF is too large", hint="scan it as A4 or Letter")
            yield page.render(scale=scale).to_pil()
    finally:
        document.close()
