"""From a picture's file to the face that is kept."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from stores import picture

from fer_lightning.data.store import crop
from fer_lightning.data.store.crop import UnusableError, central_square, cut_out, decode, digest, resize


def test_workers_refuse_a_picture_over_the_limit(tmp_path):
    """A file that is sound but says 10,000 x 10,000 pixels; only a fresh process obeys the limit."""
    header = bytearray(cv2.imencode(".bmp", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    header[18:26] = (10_000).to_bytes(4, "little") * 2
    (tmp_path / "bomb.bmp").write_bytes(header)
    code = (
        "import sys, pathlib; from fer_lightning.data.store import crop\n"
        "try: crop.decode(pathlib.Path(sys.argv[1]))\n"
        "except crop.UnusableError as error: print(error.kind)\n"
        # not getrusage: its peak is inherited from the process that forked this one
        "status = pathlib.Path('/proc/self/status')\n"
        "lines = status.read_text().splitlines() if status.exists() else ['VmHWM: 0 kB']\n"
        "(peak,) = [int(line.split()[1]) for line in lines if line.startswith('VmHWM')]\n"
        "assert peak < 300_000, peak"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "bomb.bmp"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("unreadable\n", 0), done.stderr


def test_boxes():
    whole = picture(0, 40, 50)
    assert (cut_out(whole, (10, 5, 20, 10), 0.0) == whole[5:15, 10:30]).all()
    assert (cut_out(whole, (10, 5, 20, 10), 0.2) == whole[3:17, 6:34]).all()
    assert (cut_out(whole, (10, 5, 20, 10), 4.0) == whole).all()
    assert (cut_out(whole, (-5, 30, 20, 100), 0.0) == whole[30:40, 0:15]).all()
    assert cut_out(whole, None, 0.3) is whole
    for outside in ((50, 0, 5, 5), (0, 40, 5, 5), (-5, 0, 5, 5), (0, -5, 5, 5), (3, 3, 0, 5), (3, 3, 5, -5)):
        with pytest.raises(UnusableError, match="box_outside"):
            cut_out(whole, outside, 1.0)


KINDS = {
    ".jpg": ("colour", "grey"),
    ".png": ("colour", "grey", "alpha", "deep"),
    ".bmp": ("colour", "grey", "alpha"),
    ".tif": ("colour", "grey", "alpha", "deep"),
}


@pytest.mark.parametrize(("suffix", "kind"), [(suffix, kind) for suffix, kinds in KINDS.items() for kind in kinds])
def test_every_kind_of_picture_has_three_channels(tmp_path, suffix, kind):
    colour = picture(3)
    made = {
        "colour": colour,
        "grey": colour[:, :, 0],
        "alpha": cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA),
        "deep": colour.astype(np.uint16) * 257,
    }[kind]
    cv2.imwrite(str(tmp_path / f"a{suffix}"), made)
    (tmp_path / f"a{suffix}").rename(tmp_path / "a.JPEG")  # the content decides, not the name
    read = decode(tmp_path / "a.JPEG")
    assert (read.shape, read.dtype) == ((40, 50, 3), np.uint8)
    assert (read[:, :, 0] == read[:, :, 2]).all() == (kind == "grey")


def test_digest_sees_pixels_and_shape():
    face = picture(0, 20, 30)
    changed = face.copy()
    changed[3, 4, 1] ^= 1
    assert digest(face) == digest(np.ascontiguousarray(face)) == digest(picture(0, 20, 30)[:, :])
    assert len({digest(face), digest(changed), digest(face.reshape(30, 20, 3))}) == 3


def test_crop_limit_is_set_before_opencv_is_loaded():
    assert int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]) == crop.MAX_PIXELS


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (41, 60), (40, 40)])
@pytest.mark.parametrize("size", [20, 80])
def test_a_face_keeps_its_proportions(height, width, size):
    """A disc in the middle stays one, however the crop is shaped; the short side is kept whole."""
    face = np.zeros((height, width, 3), np.uint8)
    cv2.circle(face, ((width - 1) * 8, (height - 1) * 8), 12 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    kept = resize(central_square(face), size)
    assert kept.shape == (size, size, 3)
    rows, columns = np.nonzero(kept[:, :, 0] > 127)
    diameter = 25 * size / min(height, width)
    assert np.ptp(rows) + 1 == pytest.approx(diameter, abs=1.5)
    assert np.ptp(columns) + 1 == pytest.approx(diameter, abs=1.5)
    middle = (size - 1) / 2
    assert (rows.mean(), columns.mean()) == pytest.approx((middle, middle), abs=size / min(height, width))


def test_the_central_square_is_a_view_of_the_middle():
    face = picture(0, 30, 51)
    assert (central_square(face) == face[:, 10:40]).all()
    assert (central_square(face[:, :21]) == face[4:25, :21]).all()
    assert np.shares_memory(central_square(face), face)
