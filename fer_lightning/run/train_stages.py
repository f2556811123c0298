"""The training of a run: its stages in order, each starting from the weights of the one before."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from copy import deepcopy
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
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.freeze import freeze
from fer_lightning.models.network import Network
from fer_lightning.run import build, notices
from fer_lightning.run.set_up import RunSetup, StageSetup
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
        self.card = build.card(setup.config, setup.backbone, setup.stats, setup.protocol)
        self.results: list[StageResult] = []
        self.notices: list[str] = []
        self.state: State = {}

    def run(self) -> Network:
        """Train all stages. Returns the last one's network, as it is after the last epoch."""
        stages = self.setup.stages
        for number, stage_setup in enumerate(stages, 1):
            name, stage = stage_setup.name, stage_setup.stage
            log.info("stage %d of %d: %s, %d epochs", number, len(stages), name, stage.epochs)
            if not stage.pretrained:
                self.setup.shared_weights = None
            if number == len(stages):
                self._refuse_another_run(self.directory / LAST)
                self.setup.data.watch_test = self.watch_test
                network, self.state, result = self._fit_stage(stage_setup, self.directory)
            else:
                train = partial(self._train, stage_setup)
                self.state, result = fit_shared_stage(self._key(stage_setup), train)
            if not stage.frozen:
                self.setup.shared_weights = None
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

    def _train(self, stage_setup: StageSetup, directory: Path) -> tuple[State, StageResult]:
        _, state, result = self._fit_stage(stage_setup, directory)
        return state, result

    def _key(self, stage_setup: StageSetup) -> str:
        """Hash of all that enters a stage: the config but the later stages and, where it is not used, the loss."""
        config = {key: value for key, value in self.config.items() if key not in ("stage", "choices")}
        if stage_setup.stage.loss == "softmax":
            del config["loss"]
        if stage_setup.stage.from_embeddings:
            del config["mixing"]
        until = self.setup.stages.index(stage_setup) + 1
        stages = [asdict(setup.stage) for setup in self.setup.stages[:until]]
        version = versions.versions()
        return content_hash([stage_setup.name, stages, identity.identity(config, self.setup.protocol), version])

    def _fit_stage(self, stage_setup: StageSetup, directory: Path) -> tuple[Network, State, StageResult]:
        setup, stage = self.setup, stage_setup.stage
        backbone = setup.backbone if stage.pretrained else build.backbone(self.config, pretrained=False)
        freeze(backbone, stage.freeze, stage.batch_norm)
        network = Network(backbone, deepcopy(setup.neck), deepcopy(setup.heads[stage.loss]))
        _load_what_fits(network, self.state)
        self._tell_notices(stage, network)
        callbacks: list[Callback] = []
        if init_centers := getattr(network.head, "init_centers", None):
            init_centers(class_means(*self.train_embeddings(network), setup.stats.num_classes))
        if hasattr(network.head, "epoch_scalars"):
            callbacks.append(CenterMonitor(setup.stats.names))
        module = self._module(stage_setup, network)
        data = self._data(stage_setup, backbone)
        if setup.settings.compile:  # after freezing, in place: the checkpoint's keys stay as they are
            module.network.backbone.compile()
            module.network.neck.compile()
        logger, tell = self.logger.of(stage_setup.name), partial(self._log, stage)
        trainer = setup.settings.trainer(
            stage, stage_setup.name, directory, logger, callbacks, self.config["seed"], tell
        )
        state, result = fit_stage(stage_setup.name, stage, module, data, trainer, self.config["seed"])
        return network, state, result

    def _module(self, stage_setup: StageSetup, network: Network) -> FERModule:
        """Build what is trained: the network or, on a frozen backbone's embeddings, its neck and head alone."""
        stage, settings = stage_setup.stage, self.setup.settings
        epochs_before = sum(result.epochs for result in self.results)
        return FERModule(
            Network(nn.Identity(), network.neck, network.head) if stage.from_embeddings else network,
            self.setup.class_weights,
            stage_setup.recipe,
            card=self.card,
            frozen_backbone=network.backbone if stage.from_embeddings else None,
            channels_last=settings.channels_last and not stage.from_embeddings,
            weights_from_epoch=self.config["class_weights"]["from_epoch"] - epochs_before,
            mixing=None if stage.from_embeddings else self.setup.mixing,
        )

    def _log(self, stage: Stage, history: list[Epoch]) -> None:
        """Tell the logger of all epochs so far."""
        self.logger.epochs([*map(asdict, self.results), {"epochs": stage.epochs, "history": history}])

    def _data(self, stage_setup: StageSetup, backbone: Backbone) -> FaceDataModule:
        """What a stage is trained on: augmented pictures, a frozen backbone's views of them, or its embeddings."""
        stage, views = stage_setup.stage, stage_setup.views
        if not stage.frozen:
            return self.setup.data
        data = self.setup.data.seen_by_a_frozen_backbone(views)
        if not stage.cached:
            return data
        numbers: list[int | None] = [None] if views is None else [*range(views.count)]
        training = [self._embeddings(backbone, "train", data, number) for number in numbers]
        parts = ("minival", "test") if data.watch_test else ("minival",)
        plain = {part: [self._embeddings(backbone, part)] for part in parts}
        return EmbeddingDataModule(data, {"train": training, **plain})

    def _embeddings(
        self, backbone: Backbone, part: str, data: FaceDataModule | None = None, view: int | None = None
    ) -> Tensor:
        setup = self.setup
        data = data or setup.data
        return backbone_embeddings(backbone, data, part, setup.how, weights=setup.shared_weights, view=view)

    def train_embeddings(self, network: Network) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) of the training part under the test transform, and labels (N,)."""
        assert isinstance(network.backbone, Backbone)
        embeddings = through(network.neck, self._embeddings(network.backbone, "train"), self.setup.how)
        return embeddings, torch.from_numpy(self.setup.data.labels("train"))

    def _tell_notices(self, stage: Stage, network: Network) -> None:
        """Tell what a user should know before a stage is trained."""
        setup, choices = self.setup, self.config["choices"]
        self._notice(notices.about_the_pictures(network.backbone, setup.data.side))
        if setup.mixing and stage.from_embeddings:
            self._notice([notices.NO_MIXING.format(mixing=choices["mixing"])])
        self._notice(notices.about_the_head(network, stage))
        if stage.loss != "configured":
            return
        labels, draw = setup.data.labels("train"), setup.data.draw
        imbalance = notices.Imbalance(
            scheme=choices["class_weights"],
            weights=setup.class_weights,
            from_epoch=self.config["class_weights"]["from_epoch"],
            epochs=sum(each.stage.epochs for each in setup.stages),
            sampler=choices["sampler"],
            shown=(shown(labels, draw, 0.0) + shown(labels, draw, 1.0)) / 2,
        )
        self._notice(notices.about_the_imbalance(network.head, setup.stats, imbalance))

    def _notice(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self.notices:
                log.warning("notice: %s", text)
                self.notices.append(text)


def _load_what_fits(network: Network, state: State) -> None:
    """Load the weights of the stage before: backbone, neck, and the classifier where shapes agree."""
    present = network.state_dict()
    earlier = {key.removeprefix("network."): value for key, value in state.items()}
    fitting = {k: v for k, v in earlier.items() if k in present and v.shape == present[k].shape}
    network.load_state_dict(fitting, strict=False)
