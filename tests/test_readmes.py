"""The README files: their links lead somewhere, and their commands are understood as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from runs import SMALL, fer

from fer_lightning.config.compose import Composer
from fer_lightning.config.overrides import apart
from fer_lightning.config.shipped import groups
from fer_lightning.run.check_config import check
from fer_lightning.sweeps import hydra_launchers
from fer_lightning.tables import plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("[cefst]*/**/README.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[list[str]]:
    """The words of every command of a page's indented blocks."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    ((?:fer|make) .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_all_pages_are_found() -> None:
    assert {str(page.relative_to(ROOT)) for page in PAGES} >= {
        *("README.md", "conf/README.md", "experiments/README.md", "fer_lightning/README.md", "tests/README.md"),
        *("fer_lightning/sweeps/README.md", "fer_lightning/training/loggers/README.md"),
    }


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in commands(page) if words[0] == "make"}
    named |= {*re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named <= targets


def test_what_the_packages_readme_names_exists() -> None:
    text = (ROOT / "fer_lightning/README.md").read_text()
    named = re.findall(r"`([\w/]+\.py): ([\w`, .]+?)`", text)
    assert len(named) > 20
    for file, names in named:
        (path,) = [path for path in (ROOT / "fer_lightning").rglob("*.py") if str(path).endswith(f"/{file}")]
        for name in re.findall(r"\w+", names):
            assert re.search(rf"(def|class) {name}\b|^{name} = ", path.read_text(), re.MULTILINE), (file, name)


def test_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_readme_counts_the_options_that_there_are() -> None:
    text = (ROOT / "README.md").read_text()
    kinds = set(groups()["data"]) - {"auto", "synthetic"}
    for count, what in (
        (len(kinds), "kinds of data sets"),
        (len(groups()["class_weights"]), "schemes"),
        (len(groups()["sampler"]), "samplers"),
    ):
        assert f" {count} {what}" in text


COMPOSE = Composer()
COMMANDS = [words for page in PAGES for words in commands(page) if words[0] == "fer"]


def id_of(words: list[str]) -> str:
    return " ".join(words[1:])[:60]


def test_the_pages_show_commands_of_every_kind() -> None:
    assert {words[1] for words in COMMANDS} >= {"train", "table", "doctor", "weights", "sweep", "evaluate"}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[1] == "train"], ids=id_of)
def test_choices_of_a_training_exist(words: list[str]) -> None:
    named = [word for word in words[2:] if "..." not in word and word not in ("-m", "--config-dir", "conf")]
    overrides, of_hydra = apart([word.replace("softmax,mine", "softmax,focal") for word in named])
    settings = hydra_launchers.settings(of_hydra, None)
    if settings.runtime.choices["hydra/sweeper"] != "basic":
        overrides = [word for word in overrides if "tag(" not in word]
    for combination in hydra_launchers.grid(overrides):
        check(COMPOSE(combination))


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[1:3] == ["table", "run"]], ids=id_of)
def test_rows_of_a_table_exist(words: list[str]) -> None:
    if words[3] == "my_table.yaml":
        return
    table = plan.load(words[3])
    overrides, _ = apart([word for word in words[4:] if "..." not in word])
    for row in table.rows:
        check(COMPOSE([*table.overrides, *row.overrides, *overrides]))


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[1] != "train" and words[2] != "run"], ids=id_of
)
def test_options_of_other_commands_exist(words: list[str], tmp_path: Path) -> None:
    """In an empty folder: what is refused is that a file or folder is missing, and not a word."""
    code, out, err = fer(*words[1:], folder=tmp_path)
    assert code == 2, out
    assert re.search(r"no such|not there|not a folder|does not exist|no file|is no |not found|not set", err), err
    assert not re.search(r"unrecognized|unknown|usage|invalid", err)


def test_a_run_a_sweep_and_a_search_as_readme_shows_them(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## One run")[2].partition("\n## ")[0]
    lines = [shlex.split(line) for line in re.findall(r"^    fer (.*)$", section, re.MULTILINE)]
    assert len(lines) == 3
    small = [*SMALL, "stage=feature_extraction", "stage.epochs=1"]
    smaller = {"seed=0,1,2": "seed=0", "hydra.sweeper.n_trials=30": "hydra.sweeper.n_trials=2"}
    kinds, counts = ("best.ckpt", "best.ckpt", "trial.json"), (1, 6, 2)
    for number, line in enumerate(lines):
        folder = tmp_path / str(number)
        folder.mkdir()
        code, out, err = fer(*[smaller.get(word, word) for word in line], *small, folder=folder)
        assert code == 0, out + err
        assert len([*folder.glob(f"runs/**/{kinds[number]}")]) == counts[number]
