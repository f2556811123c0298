"""Training of a run: its stages in order, each from the weights of the one before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from fer_lightning.config import identity
from fer_lightning.core import versions
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.data.embedding_datamodule import EmbeddingDataModule
from fer_lightning.data.samplers import shown
from fer_lightning.evaluation.activations import KeptActivations, Shown, activation_bytes
from fer_lightning.evaluation.embeddings import backbone_embeddings, through
from fer_lightning.evaluation.results import StageResult
from fer_lightning.inference.checkpoint import CARD, read_checkpoint
from fer_lightning.losses.center_statistics import class_means
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.freeze import freeze
from fer_lightning.models.last_block import Split, TailNetwork, split
from fer_lightning.models.network import Network
from fer_lightning.run import build, notices
from fer_lightning.run.set_up import RunSetup, StageSetup
from fer_lightning.training import distributed
from fer_lightning.training.callbacks.center_monitor import CenterMonitor
from fer_lightning.training.callbacks.epoch_log import Epoch
from fer_lightning.training.callbacks.resume import Progress
from fer_lightning.training.fit import fit_shared_stage, fit_stage
from fer_lightning.training.loggers.run_logger import RunLogger
from fer_lightning.training.module import FERModule
from fer_lightning.training.stage import Stage
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)

State = dict[str, Tensor]


class Training:
    """Training of the stages of a run, one after the other.

    Args:
        setup: set-up of the run.
        directory: folder of the run.
        logger: logger of all epochs; None: no logging.
        watch_test: whether the last stage also evaluates the test set after every epoch, see FaceDataModule.
        on_progress: see the callback Progress.
    """

    network: Network

    def __init__(
        self,
        setup: RunSetup,
        directory: Path,
        logger: RunLogger | None = None,
        *,
        watch_test: bool = False,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        self.setup = setup
        self.logger = logger or RunLogger()
        self.config = setup.config
        self.directory = directory
        self.watch_test = watch_test
        self.card = build.card(setup.config, setup.backbone, setup.stats, setup.protocol, setup.data.store.meta)
        self.results: list[StageResult] = []
        self.notices: list[str] = []
        self.state: State = {}
        self.parts: Split | None = None  # of the last stage, if it is trained on kept activations
        self.on_progress = on_progress

    def run(self) -> Network:
        """Train all stages; return the network after the last epoch of the last one."""
        stages = self.setup.stages
        for number, stage_setup in enumerate(stages, 1):
            name, stage = stage_setup.name, stage_setup.stage
            log.info("stage %d of %d: %s, %d epochs", number, len(stages), name, stage.epochs)
            self._log_notices(stage)  # also where another run has trained the stage
            if not stage.pretrained:
                self.setup.shared_weights = None
            train = partial(self._fit_stage, stage_setup)
            if number == len(stages):
                self._check_interrupted(self.directory / LAST)
                self.setup.data.watch_test = self.watch_test
                self.state, result = train(self.directory)
            else:
                self.state, result = fit_shared_stage(self._key(stage_setup), train)
            if not stage.frozen:
                self.setup.shared_weights = None
            self.results.append(result)
        return self.network

    def _check_interrupted(self, checkpoint: Path) -> None:
        """Refuse to continue another run, and notice if its packages had other versions."""
        if not checkpoint.exists():
            return
        card = read_checkpoint(checkpoint)[CARD]
        expected = identity.identity(self.config, self.setup.protocol)
        if identity.identity(card["config"], card["protocol"]) != expected:
            raise UserError(
                f"{checkpoint.parent} holds another run, half trained; choose another folder or delete it"
            )
        now, then = versions.versions(), card["versions"]
        if other := [f"{name} {then.get(name)}" for name in now if now[name] != then.get(name)]:
            self._notice([f"its first epochs were trained with {', '.join(other)}: last digits may differ"])

    def _key(self, stage_setup: StageSetup) -> str:
        """Return the hash of all that a stage depends on: not later stages, and the loss only if it is used."""
        config = {key: value for key, value in self.config.items() if key not in ("stage", "choices")}
        if stage_setup.stage.loss == "softmax":
            del config["loss"]
        if not stage_setup.stage.through_pictures:
            del config["mixing"]
        until = self.setup.stages.index(stage_setup) + 1
        stages = [asdict(setup.stage) for setup in self.setup.stages[:until]]
        version = versions.versions()
        return content_hash([stage_setup.name, stages, identity.identity(config, self.setup.protocol), version])

    def _fit_stage(self, stage_setup: StageSetup, directory: Path) -> tuple[State, StageResult]:
        setup, stage = self.setup, stage_setup.stage
        backbone = setup.backbone if stage.pretrained else build.backbone(self.config, pretrained=False)
        freeze(backbone, stage.freeze, stage.batch_norm)
        network = self.network = Network(backbone, deepcopy(setup.neck), deepcopy(setup.heads[stage.loss]))
        _load_matching(network, self.state)
        callbacks: list[Callback] = [Progress(self.on_progress)] if self.on_progress else []
        if init_centers := getattr(network.head, "init_centers", None):
            init_centers(self._class_means(network))
        if hasattr(network.head, "epoch_scalars"):
            callbacks.append(CenterMonitor(setup.stats.names))
        self.parts = parts = None
        if stage.from_activations:
            setup.forward_pass.place(backbone)
            self.parts = parts = split(backbone, stage.freeze)
            each = activation_bytes(parts.front, setup.forward_pass, setup.data.side)
            self._notice(notices.activation_notices(each * len(setup.data.train_rows)))
        data = self._data(stage_setup, network)
        module = self._module(stage_setup, network, parts)
        if setup.settings.compile:  # after freezing; in place, so that the keys of the checkpoint do not change
            module.network.backbone.compile()
            module.network.neck.compile()
            for tail in parts.tails.values() if parts else []:
                tail.compile()
        logger, on_epoch = self.logger.of(stage_setup.name), partial(self._log, stage)
        trainer = setup.settings.trainer(
            stage, stage_setup.name, directory, logger, callbacks, self.config["seed"], on_epoch
        )
        return fit_stage(stage_setup.name, stage, module, data, trainer, self.config["seed"])

    def _module(self, stage_setup: StageSetup, network: Network, parts: Split | None) -> FERModule:
        """Build the module to train: the network, or the part of it that follows what is cached."""
        stage, settings = stage_setup.stage, self.setup.settings
        epochs_before = sum(result.epochs for result in self.results)
        trained = network if parts is None else TailNetwork(network, parts.tails)
        return FERModule(
            Network(nn.Identity(), network.neck, network.head) if stage.from_embeddings else trained,
            self.setup.class_weights,
            stage_setup.recipe,
            card=self.card,
            frozen_backbone=network.backbone if stage.from_embeddings else None,
            channels_last=settings.channels_last and not stage.from_embeddings,
            weights_from_epoch=self.config["class_weights"]["from_epoch"] - epochs_before,
            mixing=self.setup.mixing if stage.through_pictures else None,
        )

    def _log(self, stage: Stage, history: list[Epoch]) -> None:
        """Pass all epochs so far to the logger."""
        self.logger.epochs([*map(asdict, self.results), {"epochs": stage.epochs, "history": history}])

    def _data(self, stage_setup: StageSetup, network: Network) -> FaceDataModule:
        """Return the datamodule of a stage: augmented pictures, views, or what is cached of them."""
        stage, views = stage_setup.stage, stage_setup.views
        if stage.augments_anew:
            return self.setup.data
        data = self.setup.data.shown_in(views)
        if stage.through_pictures:
            return data
        assert isinstance(network.backbone, Backbone)
        numbers: list[int | None] = [None] if views is None else [*range(views.count)]
        plain = ("minival", "test") if data.watch_test else ("minival",)
        wanted = [Shown(data, "train", number) for number in numbers]
        wanted += [Shown(self.setup.data, part) for part in plain]
        if self.parts is None:
            kept = [self._embeddings(network.backbone, shown) for shown in wanted]
        else:
            if hasattr(network.head, "epoch_scalars"):  # for train_embeddings: a full disk is told before training
                wanted.append(Shown(self.setup.data, "train"))
            kept = self._activations(self.parts, network.backbone, wanted)
        training, others = kept[: len(numbers)], kept[len(numbers) : len(numbers) + len(plain)]
        return EmbeddingDataModule(
            data, {"train": training, **{part: [one] for part, one in zip(plain, others, strict=True)}}
        )

    def _activations(self, parts: Split, backbone: Backbone, wanted: Sequence[Shown]) -> list[Tensor]:
        return KeptActivations(parts.front, backbone, self.setup.forward_pass).of(wanted)

    def _embeddings(self, backbone: Backbone, shown: Shown) -> Tensor:
        setup = self.setup
        weights = setup.shared_weights
        return backbone_embeddings(
            backbone, shown.data, shown.part, setup.forward_pass, weights=weights, view=shown.view
        )

    def train_embeddings(self, network: Network) -> tuple[Tensor, Tensor]:
        """Return embeddings (N, D) of the training part under the test transform, and labels (N,)."""
        assert isinstance(network.backbone, Backbone)
        data, forward_pass = self.setup.data, self.setup.forward_pass
        shown = Shown(data, "train")
        if self.parts is None:
            embeddings = self._embeddings(network.backbone, shown)
        else:
            forward_pass.place(network.backbone).eval()
            kept = EmbeddingDataModule(data, {"train": self._activations(self.parts, network.backbone, [shown])})
            embeddings = forward_pass.over(kept.in_order("train"), self.parts.tails[False], "embedding train")
        return through(network.neck, embeddings, forward_pass), torch.from_numpy(data.labels("train"))

    def _class_means(self, network: Network) -> Tensor:
        """Return the means (C, D) of ``train_embeddings`` by class; each rank embeds its share of the pictures."""
        share, data = distributed.share_of_rank(), self.setup.data
        labels = torch.from_numpy(data.labels("train"))[share]
        if self.setup.shared_weights is None:
            data = copy(data)
            data.train_rows = data.train_rows[share]
            embeddings = self._embeddings(network.backbone, Shown(data, "train"))
        else:  # one rank alone embeds them all for the cache, where later runs find them, too
            embeddings = self._embeddings(network.backbone, Shown(data, "train"))[share]
        embeddings = through(network.neck, embeddings, self.setup.forward_pass)
        return class_means(embeddings, labels, self.setup.stats.num_classes, distributed.sum_over_ranks)

    def _log_notices(self, stage: Stage) -> None:
        """Log the notices about a stage before it is trained."""
        setup, choices = self.setup, self.config["choices"]
        head = setup.heads[stage.loss]
        self._notice(notices.picture_notices(setup.backbone, setup.data.side))
        held_out = np.bincount(setup.data.labels("minival"), minlength=setup.stats.num_classes)
        self._notice(notices.minival_notices(setup.stats.names, held_out.tolist()))
        if setup.mixing and not stage.through_pictures:
            kept = "embeddings" if stage.from_embeddings else "activations"
            self._notice([notices.NO_MIXING.format(mixing=choices["mixing"], kept=kept)])
        self._notice(notices.head_notices(setup.neck, head, stage))
        if stage.loss != "configured":
            return
        labels, draw = setup.data.labels("train"), setup.data.draw
        imbalance = notices.imbalance_notices(
            head,
            setup.stats,
            scheme=choices["class_weights"],
            weights=setup.class_weights,
            from_epoch=self.config["class_weights"]["from_epoch"],
            epochs=sum(stage_setup.stage.epochs for stage_setup in setup.stages),
            sampler=choices["sampler"],
            shown=(shown(labels, draw, 0.0) + shown(labels, draw, 1.0)) / 2,
        )
        self._notice(imbalance)

    def _notice(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self.notices:
                log.warning("notice: %s", text)
                self.notices.append(text)


def _load_matching(network: Network, state: State) -> None:
    """Load the weights of the stage before: backbone, neck, and the classifier if the shapes match."""
    present = network.state_dict()
    earlier = {key.removeprefix("network."): value for key, value in state.items()}
    matching = {k: v for k, v in earlier.items() if k in present and v.shape == present[k].shape}
    network.load_state_dict(matching, strict=False)
