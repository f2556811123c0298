"""The training of a cell: its stages in order, each starting from the weights of the one before."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

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
from fer_lightning.evaluation.embeddings import backbone_embeddings, through
from fer_lightning.inference.load_model import read_checkpoint
from fer_lightning.losses.center_statistics import class_means
from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.forward_pass import state_hash
from fer_lightning.models.freeze import freeze
from fer_lightning.models.network import Network
from fer_lightning.run import build, notices
from fer_lightning.run.set_up import Cell
from fer_lightning.training.callbacks.center_monitor import CenterMonitor
from fer_lightning.training.callbacks.epoch_log import Epoch
from fer_lightning.training.fit import run_fit, shared_fit
from fer_lightning.training.loggers.run_logger import CellLogger
from fer_lightning.training.module import FERModule
from fer_lightning.training.stage import Fit, FitResult
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)

State = dict[str, Tensor]


class Training:
    """The fits of a cell, one after the other.

    Args:
        cell: what is trained.
        directory: its folder.
        logger: is told of every epoch; None: nobody is.
        watch_test: whether the last fit looks at the test set after every epoch, see FaceDataModule.
    """

    def __init__(
        self, cell: Cell, directory: Path, logger: CellLogger | None = None, *, watch_test: bool = False
    ) -> None:
        self.cell = cell
        self.logger = logger or CellLogger()
        self.config = cell.config
        self.directory = directory
        self.watch_test = watch_test
        self.settings = build.trainer(cell.config)
        self.weights = build.class_weights(cell.config, cell.stats)
        self.card = build.card(cell.config, cell.backbone, cell.stats, cell.protocol)
        self.results: list[FitResult] = []
        self.notices: list[str] = []
        self.state: State = {}

    def run(self) -> Network:
        """Train all fits. Returns the last one's network, as it is after the last epoch."""
        fits = build.fits(self.config)
        for number, (name, fit) in enumerate(fits):
            last = number == len(fits) - 1
            log.info("stage %d of %d: %s, %d epochs", number + 1, len(fits), name, fit.epochs)
            if last:
                self._refuse_another_cells(self.directory / LAST)
                self.cell.data.watch_test = self.watch_test
                network, self.state, result = self._fit(name, fit, self.directory)
            else:
                key = self._key(name, fit, number)
                self.state, result = shared_fit(key, partial(self._train, name, fit))
            self.results.append(result)
        return network

    def _refuse_another_cells(self, half_done: Path) -> None:
        """Refuse what is half trained in the folder where it is another cell; say if other versions did it."""
        if not half_done.exists():
            return
        card = read_checkpoint(half_done)["fer_lightning"]
        own = identity.identity(self.config, self.cell.protocol)
        if identity.identity(card["config"], card["protocol"]) != own:
            raise UserError(
                f"{half_done.parent} holds another cell, half trained; choose another folder or delete it"
            )
        now, then = versions.versions(), card["versions"]
        if other := [f"{name} {then.get(name)}" for name in now if now[name] != then.get(name)]:
            self._notice([f"its first epochs were trained with {', '.join(other)}: last digits may differ"])

    def _train(self, name: str, fit: Fit, directory: Path) -> tuple[State, FitResult]:
        _, state, result = self._fit(name, fit, directory)
        return state, result

    def _key(self, name: str, fit: Fit, number: int) -> str:
        """Hash of all that enters a stage: the config but the later stages and, where it is not used, the loss."""
        config = {key: value for key, value in self.config.items() if key not in ("stage", "choices")}
        if fit.loss == "softmax":
            del config["loss"]
        before = [asdict(earlier) for _, earlier in build.fits(self.config)[: number + 1]]
        version = versions.versions()
        return content_hash([name, before, identity.identity(config, self.cell.protocol), version])

    def _fit(self, name: str, fit: Fit, directory: Path) -> tuple[Network, State, FitResult]:
        cell = self.cell
        epochs_before = sum(result.epochs for result in self.results)
        backbone = cell.backbone if fit.pretrained else build.backbone(self.config, pretrained=False)
        freeze(backbone, fit.freeze, fit.batch_norm)
        cached = fit.frozen and fit.cached
        base = nn.Identity() if cached else backbone
        network = build.network(self.config, fit, base, backbone.num_features, cell.stats)
        start = Network(backbone, network.neck, network.head)
        _load_what_fits(start, self.state)
        self._notice(notices.about_the_head(network, fit))
        if fit.loss == "cell":
            self._notice(notices.about_the_imbalance(network.head, cell.stats, self._imbalance()))
        callbacks: list[Callback] = []
        if isinstance(network.head, CenterTermHead):
            network.head.init_centers(class_means(*self.train_embeddings(start), cell.stats.num_classes))
            callbacks.append(CenterMonitor(cell.stats.names))
        module = FERModule(
            network,
            self.weights,
            build.recipe(self.config, fit),
            card=self.card,
            frozen_backbone=backbone if cached else None,
            channels_last=self.settings.channels_last and not cached,
            weights_from_epoch=self.config["class_weights"]["from_epoch"] - epochs_before,
        )
        data = self._data(backbone, fit)
        if self.settings.compile:  # after freezing, in place: the checkpoint's keys stay as they are
            network.backbone.compile()
            network.neck.compile()
        logger, tell = self.logger.of(name), partial(self._log, fit)
        trainer = self.settings.trainer(fit, name, directory, logger, callbacks, self.config["seed"], tell)
        state, result = run_fit(name, fit, module, data, trainer, self.config["seed"])
        return Network(backbone, network.neck, network.head), state, result

    def _log(self, fit: Fit, history: list[Epoch]) -> None:
        """Tell the logger of all epochs so far."""
        self.logger.epochs([*map(asdict, self.results), {"epochs": fit.epochs, "history": history}])

    def _data(self, backbone: Backbone, fit: Fit) -> FaceDataModule:
        """What a fit is trained on: augmented pictures, or a frozen backbone's view of them, or its embeddings."""
        if not fit.frozen:
            return self.cell.data
        views = build.views(self.config, fit)
        seen = self.cell.data.seen_by_a_frozen_backbone(views)
        if not fit.cached:
            return seen
        numbers: list[int | None] = [None] if views is None else [*range(views.count)]
        raw = [self._raw(backbone, "train", seen, number) for number in numbers]
        parts = ("minival", "test") if seen.watch_test else ("minival",)
        as_they_are = {part: [self._raw(backbone, part)] for part in parts}
        return EmbeddingDataModule(seen, {"train": raw, **as_they_are})

    def _raw(
        self, backbone: Backbone, part: str, data: FaceDataModule | None = None, view: int | None = None
    ) -> Tensor:
        keep = state_hash(backbone) == self.cell.pretrained  # other cells will ask for these again
        return backbone_embeddings(backbone, data or self.cell.data, part, self.cell.how, keep=keep, view=view)

    def train_embeddings(self, network: Network) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) of the training part under the test transform, and labels (N,)."""
        assert isinstance(network.backbone, Backbone)
        embeddings = through(network.neck, self._raw(network.backbone, "train"), self.cell.how)
        return embeddings, torch.from_numpy(self.cell.data.labels("train"))

    def _imbalance(self) -> notices.Imbalance:
        choices, draw, labels = self.config["choices"], self.cell.data.draw, self.cell.data.labels("train")
        return notices.Imbalance(
            scheme=choices["class_weights"],
            weights=self.weights,
            from_epoch=self.config["class_weights"]["from_epoch"],
            epochs=sum(fit.epochs for _, fit in build.fits(self.config)),
            sampler=choices["sampler"],
            shown=(shown(labels, draw, 0.0) + shown(labels, draw, 1.0)) / 2,
        )

    def _notice(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self.notices:
                log.warning("note: %s", text)
                self.notices.append(text)


def _load_what_fits(network: Network, state: State) -> None:
    """Load the weights of the stage before: backbone, neck, and the classifier where shapes agree."""
    own = network.state_dict()
    given = {key.removeprefix("network."): value for key, value in state.items()}
    network.load_state_dict({k: v for k, v in given.items() if k in own and v.shape == own[k].shape}, strict=False)
