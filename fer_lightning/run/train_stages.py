"""The training of a run: its stages in order, each starting from the weights of the one before."""

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
from fer_lightning.run import build, build_loss, notices
from fer_lightning.run.set_up import RunSetup
from fer_lightning.training.callbacks.center_monitor import CenterMonitor
from fer_lightning.training.callbacks.epoch_log import Epoch
from fer_lightning.training.fit import fit_shared_stage, fit_stage
from fer_lightning.training.loggers.run_logger import RunLogger
from fer_lightning.training.module import FERModule
from fer_lightning.training.stage import Stage, StageResult
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)

State = dict[str, Tensor]


class Training:
    """The stages of a run, one after the other.

    Args:
        setup: what is trained.
        directory: its folder.
        logger: is told of every epoch; None: nobody is.
        watch_test: whether the last stage looks at the test set after every epoch, see FaceDataModule.
    """

    def __init__(
        self, setup: RunSetup, directory: Path, logger: RunLogger | None = None, *, watch_test: bool = False
    ) -> None:
        self.setup = setup
        self.logger = logger or RunLogger()
        self.config = setup.config
        self.directory = directory
        self.watch_test = watch_test
        self.settings = build.trainer(setup.config)
        self.weights = build_loss.class_weights(setup.config, setup.stats)
        self.card = build.card(setup.config, setup.backbone, setup.stats, setup.protocol)
        self.results: list[StageResult] = []
        self.notices: list[str] = []
        self.state: State = {}

    def run(self) -> Network:
        """Train all stages. Returns the last one's network, as it is after the last epoch."""
        stages = build.stages(self.config)
        for number, (name, stage) in enumerate(stages):
            last = number == len(stages) - 1
            log.info("stage %d of %d: %s, %d epochs", number + 1, len(stages), name, stage.epochs)
            if last:
                self._refuse_another_run(self.directory / LAST)
                self.setup.data.watch_test = self.watch_test
                network, self.state, result = self._fit_stage(name, stage, self.directory)
            else:
                key = self._key(name, stage, number)
                self.state, result = fit_shared_stage(key, partial(self._train, name, stage))
            self.results.append(result)
        return network

    def _refuse_another_run(self, half_done: Path) -> None:
        """Refuse what is half trained in the folder where it is another run; say if other versions did it."""
        if not half_done.exists():
            return
        card = read_checkpoint(half_done)["fer_lightning"]
        own = identity.identity(self.config, self.setup.protocol)
        if identity.identity(card["config"], card["protocol"]) != own:
            raise UserError(
                f"{half_done.parent} holds another run, half trained; choose another folder or delete it"
            )
        now, then = versions.versions(), card["versions"]
        if other := [f"{name} {then.get(name)}" for name in now if now[name] != then.get(name)]:
            self._notice([f"its first epochs were trained with {', '.join(other)}: last digits may differ"])

    def _train(self, name: str, stage: Stage, directory: Path) -> tuple[State, StageResult]:
        _, state, result = self._fit_stage(name, stage, directory)
        return state, result

    def _key(self, name: str, stage: Stage, number: int) -> str:
        """Hash of all that enters a stage: the config but the later stages and, where it is not used, the loss."""
        config = {key: value for key, value in self.config.items() if key not in ("stage", "choices")}
        if stage.loss == "softmax":
            del config["loss"]
        before = [asdict(earlier) for _, earlier in build.stages(self.config)[: number + 1]]
        version = versions.versions()
        return content_hash([name, before, identity.identity(config, self.setup.protocol), version])

    def _fit_stage(self, name: str, stage: Stage, directory: Path) -> tuple[Network, State, StageResult]:
        setup = self.setup
        epochs_before = sum(result.epochs for result in self.results)
        backbone = setup.backbone if stage.pretrained else build.backbone(self.config, pretrained=False)
        freeze(backbone, stage.freeze, stage.batch_norm)
        cached = stage.frozen and stage.cached
        base = nn.Identity() if cached else backbone
        network = build.network(self.config, stage, base, backbone.num_features, setup.stats)
        start = Network(backbone, network.neck, network.head)
        _load_what_fits(start, self.state)
        self._notice(notices.about_the_head(network, stage))
        if stage.loss == "configured":
            self._notice(notices.about_the_imbalance(network.head, setup.stats, self._imbalance()))
        callbacks: list[Callback] = []
        if isinstance(network.head, CenterTermHead):
            network.head.init_centers(class_means(*self.train_embeddings(start), setup.stats.num_classes))
            callbacks.append(CenterMonitor(setup.stats.names))
        module = FERModule(
            network,
            self.weights,
            build.recipe(self.config, stage),
            card=self.card,
            frozen_backbone=backbone if cached else None,
            channels_last=self.settings.channels_last and not cached,
            weights_from_epoch=self.config["class_weights"]["from_epoch"] - epochs_before,
        )
        data = self._data(backbone, stage)
        if self.settings.compile:  # after freezing, in place: the checkpoint's keys stay as they are
            network.backbone.compile()
            network.neck.compile()
        logger, tell = self.logger.of(name), partial(self._log, stage)
        trainer = self.settings.trainer(stage, name, directory, logger, callbacks, self.config["seed"], tell)
        state, result = fit_stage(name, stage, module, data, trainer, self.config["seed"])
        return Network(backbone, network.neck, network.head), state, result

    def _log(self, stage: Stage, history: list[Epoch]) -> None:
        """Tell the logger of all epochs so far."""
        self.logger.epochs([*map(asdict, self.results), {"epochs": stage.epochs, "history": history}])

    def _data(self, backbone: Backbone, stage: Stage) -> FaceDataModule:
        """What a stage is trained on: augmented pictures, a frozen backbone's views of them, or its embeddings."""
        if not stage.frozen:
            return self.setup.data
        views = build.views(self.config, stage)
        seen = self.setup.data.seen_by_a_frozen_backbone(views)
        if not stage.cached:
            return seen
        numbers: list[int | None] = [None] if views is None else [*range(views.count)]
        raw = [self._raw(backbone, "train", seen, number) for number in numbers]
        parts = ("minival", "test") if seen.watch_test else ("minival",)
        as_they_are = {part: [self._raw(backbone, part)] for part in parts}
        return EmbeddingDataModule(seen, {"train": raw, **as_they_are})

    def _raw(
        self, backbone: Backbone, part: str, data: FaceDataModule | None = None, view: int | None = None
    ) -> Tensor:
        keep = state_hash(backbone) == self.setup.pretrained  # other runs will ask for these again
        return backbone_embeddings(backbone, data or self.setup.data, part, self.setup.how, keep=keep, view=view)

    def train_embeddings(self, network: Network) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) of the training part under the test transform, and labels (N,)."""
        assert isinstance(network.backbone, Backbone)
        embeddings = through(network.neck, self._raw(network.backbone, "train"), self.setup.how)
        return embeddings, torch.from_numpy(self.setup.data.labels("train"))

    def _imbalance(self) -> notices.Imbalance:
        choices, draw, labels = self.config["choices"], self.setup.data.draw, self.setup.data.labels("train")
        return notices.Imbalance(
            scheme=choices["class_weights"],
            weights=self.weights,
            from_epoch=self.config["class_weights"]["from_epoch"],
            epochs=sum(stage.epochs for _, stage in build.stages(self.config)),
            sampler=choices["sampler"],
            shown=(shown(labels, draw, 0.0) + shown(labels, draw, 1.0)) / 2,
        )

    def _notice(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self.notices:
                log.warning("notice: %s", text)
                self.notices.append(text)


def _load_what_fits(network: Network, state: State) -> None:
    """Load the weights of the stage before: backbone, neck, and the classifier where shapes agree."""
    own = network.state_dict()
    given = {key.removeprefix("network."): value for key, value in state.items()}
    network.load_state_dict({k: v for k, v in given.items() if k in own and v.shape == own[k].shape}, strict=False)
