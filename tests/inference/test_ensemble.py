"""Several models as one: the mean of their logits, by the names of the classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import CORRECTIONS, NAMES, OWN, card, content, crops, state, write

from fer_lightning.core.errors import UserError
from fer_lightning.inference import checkpoint as files
from fer_lightning.inference.ensemble import Ensemble, Member
from fer_lightning.inference.load_model import load_model
from fer_lightning.inference.model import Model


def model(path: Path, seed: int, names: list[str] = NAMES) -> Model:
    trained = content(**{files.CARD: card(class_stats={"names": names, "counts": [30, 20, 10]})})
    trained["state_dict"] = state(seed)
    files.seal(trained)
    return load_model(write(path, **trained), OWN)


def test_the_mean_of_logits_by_the_names_of_the_classes(tmp_path: Path) -> None:
    first, second = model(tmp_path / "1.ckpt", 1), model(tmp_path / "2.ckpt", 2, ["fear", "happy", "sad"])
    pictures = crops(5)
    for correct in (None, *CORRECTIONS):
        logits = [each.logits(pictures).double() for each in (first, second)]
        if correct:
            logits = [each.correct(values, correct) for each, values in zip((first, second), logits, strict=True)]
        expected = ((logits[0] + logits[1][:, [1, 2, 0]]) / 2).softmax(1)
        ensemble = Ensemble([Member("1", first), Member("2", second)], correct)
        assert ensemble.classes == tuple(NAMES)
        found = ensemble.probabilities([pictures, pictures])
        assert torch.allclose(found, expected, atol=1e-12)
        assert not torch.allclose(found, logits[0].softmax(1), atol=1e-3)


def test_other_classes_and_corrections_are_refused(tmp_path: Path) -> None:
    first, other = model(tmp_path / "1.ckpt", 1), model(tmp_path / "2.ckpt", 2, ["happy", "sad", "calm"])
    with pytest.raises(UserError, match=r"2.ckpt: has other classes than 1.ckpt: .* calm, fear"):
        Ensemble([Member("1.ckpt", first), Member("2.ckpt", other)])
    with pytest.raises(UserError, match=r"1.ckpt: correct='temprature'.*did you mean temperature"):
        Ensemble([Member("1.ckpt", first)], "temprature")
