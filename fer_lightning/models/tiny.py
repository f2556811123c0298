"""A small backbone pre-trained on drawn identities, in place of a face-recognition network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from fer_lightning.core.files import content_hash, home, locked, write_atomic
from fer_lightning.core.ranges import AtLeastTwo, Count, Finite, Positive, Seed, Side
from fer_lightning.data.synthetic.generate import VERSION, identities
from fer_lightning.models.backbone import Backbone, TimmBackbone, local_weights

log = logging.getLogger(__name__)


def tiny(
    name: str,
    *,
    weights: str | None,
    pretrained: bool,
    mean: Sequence[Finite],
    std: Sequence[Positive],
    arguments: Mapping[str, Any],
    people: AtLeastTwo,
    pictures: Count,
    epochs: Count,
    batch_size: Count,
    lr: Positive,
    size: Side,
    seed: Seed,
) -> Backbone:
    """Return a small timm network that was trained to identify ``people`` drawn persons.

    It is trained once for these arguments and kept in the cache.

    Args:
        name: a timm model name.
        weights: path of a state_dict to start from instead, or None.
        pretrained: False keeps random weights, as for stage=from_scratch.
        mean: see TimmBackbone.
        std: see TimmBackbone.
        arguments: further arguments of ``timm.create_model``.
        people: number of identities.
        pictures: number of pictures of each identity.
        epochs: epochs of the training.
        batch_size: batch size of the training.
        lr: highest learning rate of the training.
        size: side of the pictures in pixels.
        seed: seed of the pictures and of the training.

    Raises:
        UserError: the given file does not exist or does not fit.
        ValueError: a batch is larger than the number of pictures.
    """
    if not pretrained or weights:
        source = "backbone.weights=null pre-trains this network, and keeps the weights"
        return local_weights(
            name, weights=weights, pretrained=pretrained, mean=mean, std=std, source=source, arguments=arguments
        )
    if batch_size > people * pictures:
        raise ValueError(
            f"batch_size={batch_size} is more than the people x pictures={people * pictures} there are"
        )
    recipe = {"name": name, "arguments": dict(arguments), "people": people, "pictures": pictures, "epochs": epochs}
    recipe |= {"batch_size": batch_size, "lr": lr, "size": size, "seed": seed, "drawing": VERSION}
    return TinyBackbone(recipe, arguments=arguments, mean=mean, std=std)


class TinyBackbone(TimmBackbone):
    """Backbone whose pre-trained weights ``complete`` takes from the cache or trains.

    Args:
        recipe: all settings that influence the weights.
        settings: further arguments of TimmBackbone.
    """

    def __init__(self, recipe: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(recipe["name"], **settings)
        self.recipe = recipe

    def complete(self) -> None:
        """Load the pre-trained weights from the cache; train them first if they are missing."""
        path = home() / "weights" / f"tiny-{content_hash(self.recipe)[:16]}.safetensors"
        if not path.exists():
            with locked(path):
                if not path.exists():  # another process may have trained them meanwhile
                    log.info("pre-training the tiny backbone on %d drawn people (once)", self.recipe["people"])
                    write_atomic(path, save(self._train()))  # save_file would make a file for its owner only
        self.load(path)

    def _train(self) -> dict[str, Tensor]:
        """Return the weights after the training, which depend on nothing but the recipe."""
        threads = torch.get_num_threads()
        torch.set_num_threads(2)  # on every machine, since the number of threads influences the last digits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe["seed"])
            spec = self.spec
            fresh = TimmBackbone(spec["name"], arguments=spec["arguments"], mean=spec["mean"], std=spec["std"])
            _identify(fresh, self.recipe)
        torch.set_num_threads(threads)
        return {key: value.contiguous() for key, value in fresh.network.state_dict().items()}


def _identify(backbone: Backbone, recipe: Mapping[str, Any]) -> None:
    """Train a backbone to identify the people of a recipe."""
    pictures, people = identities(recipe["people"], recipe["pictures"], recipe["size"], recipe["seed"])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    labels = torch.from_numpy(people)
    torch.manual_seed(recipe["seed"])
    backbone = backbone.to(memory_format=torch.channels_last)
    classifier = nn.Linear(backbone.num_features, recipe["people"])
    optimizer = torch.optim.AdamW([*backbone.parameters(), *classifier.parameters()], lr=recipe["lr"])
    batches = len(images) // recipe["batch_size"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["lr"], recipe["epochs"] * batches)
    backbone.train()
    for epoch in range(recipe["epochs"]):
        correct = 0
        for batch in torch.randperm(len(images))[: batches * recipe["batch_size"]].view(batches, -1):
            logits = classifier(backbone(images[batch].contiguous(memory_format=torch.channels_last)))
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            correct += int((logits.argmax(1) == labels[batch]).sum())
        accuracy = correct / (batches * recipe["batch_size"])
        log.info("  epoch %d of %d: %.0f %% identified", epoch + 1, recipe["epochs"], 100 * accuracy)
