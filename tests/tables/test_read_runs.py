"""Which runs may stand in one table."""

import json
from pathlib import Path

import pytest
from made_up import config, put, result

from fer_lightning.config.identity import NUMERICS
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.results import RESULT
from fer_lightning.tables.analysis.rows import load


def change_numerics(folder: Path, version: int | None) -> None:
    path = folder / RESULT
    told = json.loads(path.read_text())
    told["protocol"].pop("numerics", None)
    if version is not None:
        told["protocol"]["numerics"] = version
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(("before", "shown"), [(None, "0"), (NUMERICS + 1, str(NUMERICS + 1))])
def test_runs_from_before_and_after_a_mended_fault_do_not_stand_in_one_table(
    tmp_path: Path, before: int | None, shown: str
) -> None:
    for seed, name in enumerate(("a", "b")):
        put(tmp_path, name, result(0.5, config(seed=seed)))
        change_numerics(tmp_path / name, NUMERICS)
    assert load(tmp_path).rows
    change_numerics(tmp_path / "b", before)
    with pytest.raises(UserError, match=f"numerics differs: {NUMERICS} in a; {shown} in b"):
        load(tmp_path)
