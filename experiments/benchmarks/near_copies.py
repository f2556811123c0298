"""What it costs to find near copies among as many faces as AffectNet's training part has.

    python experiments/benchmarks/near_copies.py --root MY_PICTURES [--faces 287651] [--out near_copies.json]

The faces are variations of the pictures in a folder, each turned, cut, squeezed and mirrored so far that no two
are near copies, but that their looks are as unevenly distributed as those of real faces. Measured are the
thumbnail of each face, taken while it is prepared, as a share of all that is done then; and the search over all.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import cv2
import numpy as np
from telling import tell

from fer_lightning.data.near_copies import SIDE, THUMB, candidates, near_groups, thumbnail
from fer_lightning.data.store.crop import decode, digest, encode, resize

AFFECTNET = 287_651
PIXELS = 224


def variation(face: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a face that is turned, cut, squeezed and perhaps mirrored."""
    tall, wide = face.shape[:2]
    corners = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
    moved = corners + random.uniform(-0.25, 0.25, (4, 2)).astype(np.float32) * wide
    warp = cv2.getPerspectiveTransform(corners, moved)
    warped = cv2.warpPerspective(face, warp, (wide, tall), borderMode=cv2.BORDER_REFLECT)
    return warped[:, ::-1] if random.random() < 0.5 else warped


def thumbnails(pictures: list[Path], faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Return look hashes (N,) and thumbnails (N, THUMB, THUMB) of the variations."""
    random = np.random.default_rng(0)
    originals = [decode(path) for path in pictures]
    hashes, thumbs = np.zeros(faces, np.uint64), np.zeros((faces, THUMB, THUMB), np.uint8)
    for row in range(faces):
        face = np.ascontiguousarray(variation(originals[row % len(originals)], random))
        hashes[row], thumb = thumbnail(resize(face, SIDE))
        if thumb:
            thumbs[row] = np.frombuffer(thumb, np.uint8).reshape(THUMB, THUMB)
    return hashes, thumbs


def share_of_preparing(picture: Path) -> float:
    """Return the processor time of a thumbnail as a share of what is done to prepare a face, median of rounds."""
    jpeg = encode(resize(decode(picture), PIXELS), "jpeg")
    shares = []
    for _ in range(200):
        begin = time.process_time()
        face = decode(jpeg)
        encode(resize(face, PIXELS), "jpeg")
        digest(face)
        middle = time.process_time()
        thumbnail(resize(face, SIDE))
        end = time.process_time()
        shares.append((end - middle) / (end - begin))
    return float(np.median(shares))


def main() -> None:
    """Measure, and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a folder with pictures of faces, at any depth")
    parser.add_argument("--faces", type=int, default=AFFECTNET)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = sorted(path for path in options.root.rglob("*") if path.suffix.lower() in (".png", ".jpg"))
    hashes, thumbs = thumbnails(pictures, options.faces)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    pairs = len(candidates(hashes))
    middle = time.process_time()
    groups = near_groups(hashes, thumbs)
    end = time.process_time()
    told = {
        "faces": options.faces,
        "pictures": len(pictures),
        "thumbnail_share_of_preparing": round(share_of_preparing(pictures[0]), 3),
        "pairs_compared": pairs,
        "seconds_to_find_pairs": round(middle - begin, 1),
        "seconds_in_all": round(end - middle, 1),
        "mb_more": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
        "faces_in_groups": int(options.faces - len(np.unique(groups))),
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()
