"""Embeddings of a whole part of the data; those of a frozen backbone are cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fer_lightning.config.identity import NUMERICS
from fer_lightning.core.files import ABOUT, atomic_path, content_hash, home, locked, write_atomic
from fer_lightning.core.versions import versions
from fer_lightning.data.datamodule import FaceDataModule, as_it_is
from fer_lightning.data.embedding_datamodule import EmbeddingDataset
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.forward_pass import Pass

_EMBEDDINGS = "embeddings.npy"


def embeddings_key(
    backbone: Backbone,
    data: FaceDataModule,
    part: str,
    forward_pass: Pass,
    *,
    weights: str,
    mirrored: bool = False,
    view: int | None = None,
) -> str:
    """Return the hash of all that decides a part's embeddings; arguments as for ``backbone_embeddings``."""
    pictures = pictures_key(data, part, forward_pass, mirrored=mirrored, view=view)
    return content_hash({"backbone": [backbone.code, weights], **pictures})


def pictures_key(
    data: FaceDataModule, part: str, forward_pass: Pass, *, mirrored: bool = False, view: int | None = None
) -> dict[str, Any]:
    """Return what decides the outputs of any network for a part's pictures, beside the network itself."""
    _, rows = data.rows(part)
    views = data.views
    return {
        "faces": [data.store.hash, part, hashlib.sha256(rows.tobytes()).hexdigest()],
        "seen": [
            data.side,
            mirrored,
            None if view is None or views is None else [view, views.seed, views.code],
        ],
        "how": forward_pass.identity,
        "versions": versions(),
        "numerics": NUMERICS,
    }


def backbone_embeddings(
    backbone: Backbone,
    data: FaceDataModule,
    part: str,
    forward_pass: Pass,
    *,
    weights: str | None,
    mirrored: bool = False,
    view: int | None = None,
) -> Tensor:
    """Return the embeddings (N, D) of a part's images, in order, by a backbone in eval mode.

    Cached embeddings are found by content: weights, store, rows, view, device and precision. They are mapped into
    memory. A process that needs them while another one computes them waits.

    Args:
        backbone: backbone with its present weights.
        data: datamodule that holds the images.
        part: train, minival or test.
        forward_pass: device and precision.
        weights: hash of the backbone's weights, where other runs start from them too: the embeddings are then
            looked up in the cache, and stored there if they are new; None: they are only computed.
        mirrored: whether to embed the mirror images.
        view: augmented view to embed, one of ``data.views``; None: the images as they are.
    """
    placed = forward_pass.place(backbone)
    name = part if view is None or data.views is None else f"{part}, view {view + 1} of {data.views.count}"

    def compute() -> Tensor:
        was_training = backbone.training
        placed.eval()
        batches = data.in_order(part, view=view, pinned=forward_pass.device.type == "cuda")
        embed = (lambda images: placed(images.flip(3))) if mirrored else placed
        embeddings = forward_pass.over(batches, embed, f"embedding {name}")
        backbone.train(was_training)
        return embeddings

    if weights is None:
        return compute()
    key = embeddings_key(backbone, data, part, forward_pass, weights=weights, mirrored=mirrored, view=view)
    entry = home() / "embeddings" / key[:32]
    if not (entry / _EMBEDDINGS).exists():
        with locked(entry, "another run computes the embeddings that this one needs"):
            if not (entry / _EMBEDDINGS).exists():
                about = f"{name}{', mirrored' if mirrored else ''}, {data.store.meta.name}, {backbone.name}"
                _keep(entry, compute(), about)
    return torch.from_numpy(np.load(entry / _EMBEDDINGS, mmap_mode="c"))  # torch wants writable memory


def _keep(entry: Path, embeddings: Tensor, about: str) -> None:
    """Write a cache entry; the embeddings are written last, and with them the entry is complete."""
    n, width = embeddings.shape
    write_atomic(entry / ABOUT, f"{about}, {n} x {width}")
    with atomic_path(entry / _EMBEDDINGS) as partial, partial.open("wb") as stream:
        np.save(stream, embeddings.numpy())


def apply(compute: Callable[[Tensor], Tensor], embeddings: Tensor, forward_pass: Pass, what: str) -> Tensor:
    """Return ``compute`` of embeddings (N, D), calculated in large batches."""
    dataset = EmbeddingDataset([embeddings], torch.zeros(len(embeddings)))
    return forward_pass.over(DataLoader(dataset, batch_size=4096, collate_fn=as_it_is), compute, what)


def through(neck: nn.Module, embeddings: Tensor, forward_pass: Pass) -> Tensor:
    """Return a neck's outputs (N, D) for a backbone's embeddings (N, num_features)."""
    was_training = neck.training
    results = apply(forward_pass.place(neck).eval(), embeddings, forward_pass, "through the neck")
    neck.train(was_training)
    return results
