"""The versions in constraints.txt are ones that pyproject.toml allows, and those of the committed tables."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fer_lightning.core.versions import versions

ROOT = Path(__file__).parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    named = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in named}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(word for extra in project["optional-dependencies"].values() for word in extra),
    ]
    parsed = [Requirement(text) for text in listed]
    return [requirement for requirement in parsed if requirement.name != project["name"]]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_package_is_pinned_to_a_version_that_is_allowed(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[requirement.name.lower().replace("_", "-")])


@pytest.mark.parametrize("table", ["embedded", "embedded_tuned", "ferplus"])
def test_a_committed_table_was_made_with_these_versions(table: str) -> None:
    page = (ROOT / "experiments" / "results" / table / "report.html").read_text()
    decisive = versions().keys() - {"python", "fer-lightning"}
    assert {package: f"{package} {pins()[package]}" in page for package in decisive} == dict.fromkeys(
        decisive, True
    )
