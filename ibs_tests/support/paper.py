"""Pages as the world sees them: rendered by programs that are not ours, then photographed badly."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

MONOSPACE = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")
needs_renderers = pytest.mark.skipif(
    shutil.which("pdftoppm") is None or shutil.which("rsvg-convert") is None,
    reason="needs poppler-utils, librsvg2-bin",
)


def svg_as_png(svg: str | bytes, folder: Path, *, dots: int = 150) -> Path:
    """As librsvg draws it."""
    source, target = folder / "page.svg", folder / "page-svg.png"
    source.write_bytes(svg.encode() if isinstance(svg, str) else svg)
    options = ["-d", str(dots), "-p", str(dots), "-o", str(target), str(source)]
    subprocess.run(["rsvg-convert", *options], check=True, capture_output=True)
    return target


def pdf_as_png(pdf: bytes, folder: Path, *, dots: int = 150) -> Path:
    """As poppler draws it."""
    source, target = folder / "page.pdf", folder / "page-pdf"
    source.write_bytes(pdf)
    subprocess.run(["pdftoppm", "-png", "-singlefile", "-r", str(dots), str(source), str(target)], check=True)
    return target.with_suffix(".png")


def pdf_words(pdf: bytes, folder: Path) -> str:
    """The text that poppler finds in it."""
    source = folder / "words.pdf"
    source.write_bytes(pdf)
    options = ["-layout", str(source), "-"]
    return subprocess.run(["pdftotext", *options], check=True, capture_output=True, text=True).stdout


def text_as_picture(text: str, *, ink: int, sheet: int, gap: int, size: int = 20) -> Image.Image:
    """As a printer or a terminal sets it: each character in its cell, `gap` pixels between the lines."""
    font = ImageFont.truetype(str(MONOSPACE), size)
    ascent, descent = font.getmetrics()
    rows, across, down = text.splitlines(), round(font.getlength("M")), ascent + descent + gap
    picture = Image.new("L", (across * 90, down * (len(rows) + 4)), sheet)
    pen = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        for place, character in enumerate(row):
            pen.text(((place + 4) * across, (number + 2) * down), character, fill=ink, font=font)
    return picture


def as_bytes(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def photo(
    page: Path, *, turned: float = 0, tilted: float = 0, noise: float = 0, blur: float = 0, shade: float = 0
) -> Image.Image:
    """A photo of a page: `turned` in degrees, `tilted` away from the camera (share of the width), `noise` and `shade`
    in levels of 255, `blur` in pixels."""
    with Image.open(page) as opened:
        picture = opened.convert("L")
    if tilted:
        width, height = picture.size
        inset = tilted * width
        corners = [(-inset, -inset), (inset / 2, height), (width - inset / 2, height + inset), (width + inset, 0)]
        quad = tuple(number for corner in corners for number in corner)
        picture = picture.transform(picture.size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC, fillcolor=120)
    if turned:
        picture = picture.rotate(turned, Image.Resampling.BICUBIC, expand=True, fillcolor=120)
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    levels = np.asarray(picture, dtype=np.float64)
    down = np.linspace(0, shade, levels.shape[0])[:, None]
    grain = np.random.default_rng(1).normal(0, noise, levels.shape) if noise else 0
    return Image.fromarray(np.clip(levels * 0.8 + 20 - down + grain, 0, 255).astype(np.uint8))


def stained(page: Path, *boxes: tuple[float, float, float, float]) -> Image.Image:
    """The page with coffee on it: ellipses in shares of width and height."""
    with Image.open(page) as opened:
        picture = opened.convert("L")
    width, height = picture.size
    for left, top, right, bottom in boxes:
        box = (left * width, top * height, right * width, bottom * height)
        ImageDraw.Draw(picture).ellipse(box, fill=90)
    return picture
