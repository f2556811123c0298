"""From annotation files to batches: readers, prepared store, data set, transforms, samplers, datamodule."""

import os

MAX_PIXELS = 2**26  # a header that states more belongs to a decompression bomb, not to a photograph of a face
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # OpenCV reads this when it is imported
