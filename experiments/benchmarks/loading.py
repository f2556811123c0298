"""Loading faces on one core: ours beside other loaders, from 256 pixel pictures to batches of 224 pixels, uint8.

    python experiments/benchmarks/loading.py                       # drawn pictures with a photograph's detail
    python experiments/benchmarks/loading.py --root MY_PICTURES    # any folder of pictures
    python experiments/benchmarks/loading.py --out loading.json

Everyone gets the same JPEG bytes (quality 95) and the same augmentation: flip, up to 10 degrees, 10 % of size and
5 % of shift, bilinear, then the middle; the names of the rows say what differs. All rows alternate within a round,
and a ratio is the median of those within a round. One core, one thread, no loader processes, files in the page
cache; processor time, so that other processes on the machine do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network at import

import cv2
import numpy as np
import pyarrow as pa
import torch

from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.manifest import Manifest, make_rows
from fer_lightning.data.options import BatchOptions
from fer_lightning.data.samplers import shuffle
from fer_lightning.data.store.prepare import prepare
from fer_lightning.data.store.store import Store
from fer_lightning.data.synthetic.generate import identities
from fer_lightning.data.transforms import paper
from fer_lightning.run.final_test import processor

SIZE, SEEN = 256, 224
FLIP, ROTATE, SCALE, TRANSLATE = 0.5, 10.0, 0.1, 0.05
CLASSES = ("a", "b")
PACKAGES = [
    "torch",
    "torchvision",
    "timm",
    "albumentations",
    "webdataset",
    "opencv-python-headless",
    "pillow",
    "numpy",
]
GRAIN, PICTURES_A_PERSON = 5.0, 16
SUFFIXES = {".jpg", ".jpeg", ".png"}
NOT_INSTALLED = "not installed"

Epoch = Callable[[], Iterable[Any]]
"""Makes a pass over all pictures: batches (N, 3, 224, 224), alone or first in a tuple."""


@dataclass(frozen=True)
class Material:
    """The pictures in every form: ``files`` in a folder a class, ``shard.tar``, and a store of each codec."""

    folder: Path
    stores: dict[str, Store]

    @property
    def root(self) -> Path:
        return self.folder / "files"

    @property
    def files(self) -> list[Path]:
        return sorted(self.root.rglob("*.jpg"))


def ours(material: Material, batch: int, codec: str) -> Epoch:
    """The training batches of a FaceDataModule, sampler and all."""
    data = FaceDataModule(
        material.stores[codec],
        BatchOptions(batch_size=batch, minival=0.01, split_seed=0, workers=0, crop=SEEN),
        draw=shuffle,
        augment=paper(flip=FLIP, rotate=ROTATE, scale=SCALE, translate=TRANSLATE),
        seed=0,
    )
    return lambda: data.train_dataloader()


def image_folder(material: Material, batch: int, generation: str) -> Epoch:
    """torchvision: ImageFolder, PIL, transforms v1 on PIL's pictures, or v2 on tensors as its manual advises."""
    from torchvision.datasets import ImageFolder

    data = ImageFolder(str(material.root), torchvision_transform(generation))
    return lambda: torch.utils.data.DataLoader(data, batch, shuffle=True)


def torchvision_transform(generation: str) -> Any:
    from torchvision.transforms import InterpolationMode, v2
    from torchvision.transforms import transforms as v1

    module = v1 if generation == "v1" else v2
    steps = [
        module.RandomHorizontalFlip(FLIP),
        module.RandomAffine(
            ROTATE, (TRANSLATE, TRANSLATE), (1 - SCALE, 1 + SCALE), interpolation=InterpolationMode.BILINEAR
        ),
        module.CenterCrop(SEEN),
    ]
    return module.Compose([*steps, v1.PILToTensor()] if generation == "v1" else [v2.PILToTensor(), *steps])


def separate_albumentations(material: Material, batch: int) -> Epoch:
    """cv2 and albumentations from files, one transform after the other, as is usual."""
    import albumentations
    from albumentations.pytorch import ToTensorV2

    transform = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=FLIP),
            albumentations.Affine(
                rotate=(-ROTATE, ROTATE),
                scale=(1 - SCALE, 1 + SCALE),
                translate_percent=(-TRANSLATE, TRANSLATE),
                border_mode=cv2.BORDER_REFLECT_101,
                p=1.0,
            ),
            albumentations.CenterCrop(SEEN, SEEN),
            ToTensorV2(),
        ]
    )
    files = [str(path) for path in material.files]

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(image=cv2.imread(files[index], cv2.IMREAD_COLOR_RGB))["image"], 0

    return lambda: torch.utils.data.DataLoader(Files(), batch, shuffle=True)


def timm_loader(material: Material, batch: int) -> Epoch:
    """timm's create_loader up to the uint8 batch that its prefetcher would send to the device.

    It has no rotation: its square of random size and place is cut out and resized, which is less work than a warp.
    """
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", str(material.root)),
        (3, SEEN, SEEN),
        batch,
        is_training=True,
        scale=tuple((SEEN / SIZE / size) ** 2 for size in (1 + SCALE, 1 - SCALE)),
        ratio=(1.0, 1.0),
        hflip=FLIP,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=0,
        device=torch.device("cpu"),
    )
    return lambda: loader.loader


def web_dataset(material: Material, batch: int) -> Epoch:
    """WebDataset: a tar file read in its order, not shuffled; PIL, torchvision's v1 transforms."""
    import webdataset

    data = webdataset.WebDataset(str(material.folder / "shard.tar"), shardshuffle=False).decode("pil")
    return lambda: data.to_tuple("jpg", "__key__").map_tuple(torchvision_transform("v1")).batched(batch)


def by_hand(material: Material, batch: int) -> Epoch:
    """A loop over bytes in memory: cv2.imdecode, numpy's draws, one warpAffine into the batch."""
    pictures = [np.fromfile(path, np.uint8) for path in material.files]

    def loop() -> Iterator[torch.Tensor]:
        generator = np.random.default_rng(0)
        for indices in np.array_split(generator.permutation(len(pictures)), range(batch, len(pictures), batch)):
            images = np.empty((len(indices), SEEN, SEEN, 3), np.uint8)
            for index, out in zip(indices, images, strict=True):
                decoded = cv2.imdecode(pictures[index], cv2.IMREAD_COLOR_RGB)
                angle, size, *shift = generator.uniform(-1, 1, 4) * (
                    ROTATE,
                    SCALE,
                    SIZE * TRANSLATE,
                    SIZE * TRANSLATE,
                )
                matrix = cv2.getRotationMatrix2D(((SIZE - 1) / 2, (SIZE - 1) / 2), angle, 1 + size)
                matrix[:, 2] += shift
                if generator.random() < FLIP:
                    matrix[0] = (0, 0, SIZE - 1) - matrix[0]
                matrix[:, 2] -= (SIZE - SEEN) / 2
                cv2.warpAffine(decoded, matrix, (SEEN, SEEN), dst=out, borderMode=cv2.BORDER_REFLECT_101)
            yield torch.from_numpy(images).permute(0, 3, 1, 2)

    return loop


ROWS: dict[str, Callable[[Material, int], Epoch]] = {
    "ours, jpeg": partial(ours, codec="jpeg"),
    "ours, png": partial(ours, codec="png"),
    "ours, raw": partial(ours, codec="raw"),
    "ImageFolder, PIL, torchvision v1": partial(image_folder, generation="v1"),
    "ImageFolder, PIL, torchvision v2": partial(image_folder, generation="v2"),
    "cv2, albumentations": separate_albumentations,
    "timm (without rotation)": timm_loader,
    "WebDataset (not shuffled), PIL, torchvision v1": web_dataset,
    "by hand: cv2.imdecode, one warpAffine": by_hand,
}


def draw(folder: Path, count: int) -> Path:
    """Drawn faces of 256 pixels, with grain: 28 kB a file, as FERPlus has 12 and a sharp portrait 26 to 34."""
    folder.mkdir()
    faces, _ = identities(-(-count // PICTURES_A_PERSON), PICTURES_A_PERSON, SIZE, seed=0)
    generator = np.random.default_rng(0)
    for number, face in enumerate(faces[:count]):
        grain = np.clip(face + generator.normal(0, GRAIN, face.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:06d}.png"), grain[:, :, ::-1])
    return folder


def lay_out(folder: Path, pictures: Path, count: int) -> Material:
    """A store of each codec, and the JPEG store's bytes as files in a folder a class and as a tar."""
    found = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES)[:count]
    names = [str(path.relative_to(pictures)) for path in found]
    labels = [CLASSES[number % 2] for number in range(len(names))]
    splits = ["test" if number < 2 else "train" for number in range(len(names))]
    rows = make_rows({"id": names, "path": names, "label": labels, "split": splits})
    manifest = Manifest("bench", pictures, rows, CLASSES)
    stores = {
        codec: prepare(manifest, folder / codec, size=SIZE, margin=0.0, codec=codec, processes=1)
        for codec in ("jpeg", "png", "raw")
    }
    shards = [stores["jpeg"].folder / shard.name for shard in stores["jpeg"].meta.shards["train"]]
    table = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(shard))).read_all() for shard in shards)
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for number, (label, image) in enumerate(zip(table["label"], table["image"], strict=True)):
            path = folder / "files" / label.as_py() / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.as_py())
            tar.add(path, path.name)
    return Material(folder, stores)


def images_per_second(epoch: Epoch) -> float:
    """Of one pass over the pictures, in processor time."""
    seen, begin = 0, time.process_time()
    for batch in epoch():
        images = batch[0] if isinstance(batch, list | tuple) else batch
        assert (images.dtype, images.shape[1:]) == (torch.uint8, (3, SEEN, SEEN))
        seen += len(images)
    return seen / (time.process_time() - begin)


def measure(material: Material, batch: int, rounds: int) -> dict[str, Any]:
    """Images a second of each row, the median over the rounds, and the ratios."""
    epochs: dict[str, Epoch] = {}
    rates: dict[str, float | str] = {}
    for row, make in ROWS.items():
        try:
            epochs[row] = make(material, batch)
        except ModuleNotFoundError as error:
            rates[row] = f"{NOT_INSTALLED}: {error.name}"
    for epoch in epochs.values():
        images_per_second(epoch)  # warms up
    found = [{row: images_per_second(epoch) for row, epoch in epochs.items()} for _ in range(rounds)]
    rates |= {row: round(statistics.median(one[row] for one in found), 1) for row in epochs}
    return {"images_per_second": {row: rates[row] for row in ROWS}, "ratios": ratios(found)}


def ratios(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Ours over each other row, and over the fastest other one: medians of the ratios within a round."""

    def ratio(ours: str, others: list[str]) -> float:
        return round(statistics.median(one[ours] / max(one[name] for name in others) for one in rounds), 2)

    others = [name for name in rounds[0] if not name.startswith("ours")]
    return {
        name: {other: ratio(name, [other]) for other in others} | {"the fastest of these": ratio(name, others)}
        for name in ("ours, jpeg", "ours, raw")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="pictures to use in place of drawn ones")
    parser.add_argument("--count", type=int, default=514, help="how many of them; two are left for a test set")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pictures = options.root.resolve() if options.root else draw(Path(folder) / "drawn", options.count)
        material = lay_out(Path(folder), pictures, options.count)
        bytes_a_file = statistics.mean(path.stat().st_size for path in material.files)
        told = {
            **measure(material, options.batch, options.rounds),
            "pictures": {"drawn": not options.root, "count": len(material.files), "bytes": round(bytes_a_file)},
        }
    told |= {
        "batch": options.batch,
        "rounds": options.rounds,
        "processor": processor(),
        "python": platform.python_version(),
        "versions": {one.name: one.version for one in distributions() if one.name in PACKAGES},
    }
    text = json.dumps(told, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
