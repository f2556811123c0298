"""Files that a data set should not have."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def face(seed: int, side: int = 64) -> np.ndarray:
    """A picture that looks like no other: smooth blots of colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def encoded(pixels: np.ndarray, ending: str = ".jpg", quality: int = 95) -> bytes:
    return cv2.imencode(ending, pixels, [cv2.IMWRITE_JPEG_QUALITY, quality] if ending == ".jpg" else [])[
        1
    ].tobytes()


def cmyk(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(face(seed)).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def bomb(side: int = 10_000) -> bytes:
    """A PNG of zeros, side x side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bad_pictures() -> dict[str, tuple[bytes, str | None]]:
    """What a picture's file may hold, and the fault that it is; None: a good one."""
    return {
        "good.jpg": (encoded(face(1)), None),
        "truncated.jpg": (encoded(face(2))[:-400], "unreadable"),
        "empty.jpg": (b"", "zero_byte"),
        "text.jpg": (b"this is no picture", "unreadable"),
        "bomb.png": (bomb(), "too_large"),
        "really-png.jpg": (encoded(face(3), ".png"), "wrong_extension"),
        "deep.png": (encoded(face(4).astype(np.uint16) * 257, ".png"), "unusual_format"),
        "print.jpg": (cmyk(5), "unusual_format"),
        "dot.png": (encoded(face(6, 1), ".png"), "tiny_face"),
        "small.jpg": (encoded(face(7, 20)), "tiny_face"),
        "grey.png": (encoded(cv2.cvtColor(face(8), cv2.COLOR_BGR2GRAY), ".png"), "grey"),
    }


ODD_NAMES = (
    "new\nline.jpg",
    "quote\"'s.jpg",
    "-rf.jpg",
    "<script>alert(1)<b>&amp;.jpg",
    "a" * 240 + ".jpg",
    "\u202eright-to-left.jpg",
    " spaces .jpg",
)
"""Names that a file system allows; the pictures are good."""

NO_TEXT = b"bytes-\xff\xfe.jpg"
"""A name that is no text in UTF-8."""


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
