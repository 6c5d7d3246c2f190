"""Pictures: small enough for the server, and telling nothing but what they show."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps

from shareasm.errors import Refused
from shareasm.networks.bluesky import NETWORK

PIXELS = 40_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """What is uploaded."""

    content: bytes
    mime: str
    width: int
    height: int


def fit(content: bytes, limit: int, *, where: str) -> Picture:
    """Return the picture as it is, or without its metadata and small enough. Raise Refused when it is none."""
    try:
        image = Image.open(BytesIO(content))
        if image.width * image.height > PIXELS:
            raise Refused("The picture has too many pixels.", "Make it smaller.", network=NETWORK, account=where)
        mime = Image.MIME.get(image.format or "", "")
        if len(content) <= limit and not _tells_more(image):
            return Picture(content, mime, image.width, image.height)
        return _shrink(_upright(image), limit, where)
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        words = "This is not a picture that can be read."
        raise Refused(words, "Save it again as JPEG or PNG.", network=NETWORK, account=where) from fault


def _tells_more(image: Image.Image) -> bool:
    """Tell whether the file says more than the picture shows, such as where it was taken."""
    return bool(image.getexif()) or any(name in image.info for name in ("xmp", "XML:com.adobe.xmp", "photoshop"))


def _upright(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque.convert("RGB")


def _shrink(image: Image.Image, limit: int, where: str) -> Picture:
    for side in (2000, 1600, 1200, 900, 640, 400, 200):
        image.thumbnail((side, side))
        for quality in (92, 85, 75):
            out = BytesIO()
            image.save(out, "JPEG", quality=quality, optimize=True)
            if out.tell() <= limit:
                return Picture(out.getvalue(), "image/jpeg", image.width, image.height)
    raise Refused("The picture cannot be made small enough.", "Choose another one.", network=NETWORK, account=where)
