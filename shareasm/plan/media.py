"""Media: pictures of a campaign, opened so that nothing outside its folder is ever read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from shareasm.errors import PlanError
from shareasm.model import Media, Post

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
MAX_BYTES = 20_000_000
MAX_PIXELS = 40_000_000

_GPS = 0x8825
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe in the folder would hold us for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What Pillow lets through for broken pictures.
_UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What the bytes of a picture say: their digest, type, size, and whether they tell where it was taken."""

    digest: str
    mime: str
    size: int
    width: int
    height: int
    tells_place: bool = False

    def as_media(self, file: str, alt: str, focus: str = "") -> Media:
        """Return the picture as part of a post."""
        return Media(file, alt, self.digest, self.mime, self.size, self.width, self.height, focus)


def read_media(campaign_dir: Path, file: str) -> bytes:
    """Return the bytes of a picture in the campaign's `media/`. Raise PlanError for anything that is not safely there.

    Whoever publishes compares their digest with the approved one.
    """
    return read_inside(campaign_dir, f"media/{file}", max_bytes=MAX_BYTES)


def read_picture(content: bytes) -> Picture:
    """Return what a picture's bytes say, by decoding them. Raise PlanError when it is none that networks take."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=tuple(FORMATS)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise PlanError(f"has {width:,} × {height:,} pixels.", f"At most {MAX_PIXELS:,} are read.")
                image.load()
                tells_place = bool(image.getexif().get_ifd(_GPS))
                mime = FORMATS[image.format or ""]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PlanError("has too many pixels.", f"At most {MAX_PIXELS:,} are read.") from error
    except _UNDECODABLE as error:
        raise PlanError("is no picture that can be read.", "Save it again as JPEG, PNG, WebP or GIF.") from error
    return Picture(hashlib.sha256(content).hexdigest(), mime, len(content), width, height, tells_place)


def changed_media(campaign_dir: Path, post: Post) -> Iterable[tuple[Media, str]]:
    """Yield each picture of the post that is not, byte for byte, what the post names, and why."""
    for media in post.media:
        try:
            content = read_media(campaign_dir, media.file)
        except PlanError as error:
            yield media, error.happened
            continue
        if hashlib.sha256(content).hexdigest() != media.digest:
            yield media, f"{media.file} was changed."


def read_inside(folder: Path, path: str, *, max_bytes: int) -> bytes:
    """Return the bytes of a regular file under the folder, opened part by part so that no link leads elsewhere.

    Raise PlanError for `..`, absolute paths, symbolic and hard links, pipes, devices, and files over the cap.
    """
    *directories, name = _parts(path)
    opened: list[int] = []
    try:
        opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for directory in directories:
            opened.append(os.open(directory, _DIRECTORY, dir_fd=opened[-1]))
        opened.append(os.open(name, _FILE, dir_fd=opened[-1]))
        return _content(opened[-1], path, max_bytes)
    except OSError as error:
        raise PlanError(*_why(path, error)) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _content(descriptor: int, path: str, max_bytes: int) -> bytes:
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise PlanError(f"{path} is not a file.", "Put the file itself there.")
    if info.st_nlink != 1:
        raise PlanError(f"{path} is a link to another file.", "Put a copy there.")
    with open(descriptor, "rb", closefd=False) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise PlanError(f"{path} has more than {max_bytes:,} bytes.", "Make it smaller.")
    return content


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
        raise PlanError(f"{path} leads out of the campaign's folder.", "Name a file inside it.")
    return parts


def _why(path: str, error: OSError) -> tuple[str, str]:
    if error.errno in {errno.ELOOP, errno.EMLINK}:
        return f"{path} is a link to another file.", "Put a copy there."
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        hint = "Write the name without “media/”." if path.startswith("media/media/") else "Look at its name."
        return f"{path} is not there.", hint
    return f"{path} cannot be read: {error.strerror}.", "Look at its rights."
