"""fer doctor on sets with everything in them that a set should not have, and what stands in its three reports."""

import json
import os
import re
from html.parser import HTMLParser

import pytest
from bad_files import NO_TEXT, ODD_NAMES, bad_pictures, encoded, face, put

from fer_lightning.cli import main
from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.data.readers import affectnet
from fer_lightning.data.store import crop

SECRET = "this must not be read"


@pytest.fixture
def opened(monkeypatch):
    """The files whose bytes were read as a picture's."""
    seen = []
    read = crop._read

    def noting(file):
        seen.append(os.path.realpath(str(file).replace("\0", "")))
        return read(file)

    monkeypatch.setattr(crop, "_read", noting)
    return seen


def doctor(tmp_path, capsys):
    """The exit code, and the three reports."""
    page, file = tmp_path / "page.html", tmp_path / "report.json"
    code = main.main(["doctor", str(tmp_path / "set"), "--json", str(file), "--html", str(page)])
    return code, capsys.readouterr().out, page.read_text(), json.loads(file.read_text())


def put_folder(tmp_path):
    """Class-name folders; returns the faults that they should have, by path."""
    root = tmp_path / "set"
    for seed, (split, name) in enumerate((split, name) for split in ("train", "val") for name in EMOTIONS):
        put(root / split / name / "good.jpg", encoded(face(1000 + seed)))
    faults = {}
    for name, (data, kind) in bad_pictures().items():
        put(root / "train/happy" / name, data)
        faults[f"train/happy/{name}"] = kind
    for seed, name in enumerate(ODD_NAMES):
        put(root / "train/sad" / name, encoded(face(2000 + seed)))
    with open(os.path.join(os.fsencode(root / "train/fear"), NO_TEXT), "wb") as stream:  # noqa: PTH118, PTH123
        stream.write(encoded(face(3000)))
    put(tmp_path / "secret.jpg", encoded(face(3001)))
    (root / "train/anger/link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "train/anger/folder.jpg").mkdir()  # a folder below a class folder, without pictures
    os.mkfifo(root / "train/anger/pipe.jpg")
    faults |= {
        "train/fear/bytes-\\xff\\xfe.jpg": "unreadable_name",
        "train/anger/link.jpg": "outside_root",
        "train/anger/pipe.jpg": "unreadable",
    }
    return {path: kind for path, kind in faults.items() if kind}


def test_class_name_folders(tmp_path, capsys, opened):
    wanted = put_folder(tmp_path)
    code, text, page, found = doctor(tmp_path, capsys)
    assert code == 1
    assert {fault["path"]: fault["kind"] for fault in found["faults"]} == wanted
    assert len(found["faults"]) == len(wanted)
    assert found["layout"] == "folder"
    lost = {"sad": 0, "happy": 4, "anger": 1}  # of the rows; a name that is no text and a link are none
    for name in EMOTIONS:
        assert found["counts"]["train"][name] - found["usable"]["train"][name] == lost.get(name, 0)
    assert found["usable"]["train"]["sad"] == 1 + len(ODD_NAMES)
    assert found["usable"]["val"] == dict.fromkeys(EMOTIONS, 1)
    root = os.path.realpath(tmp_path / "set")
    assert opened
    assert all(path.startswith(root) for path in opened)
    for kind in set(wanted.values()):
        assert f"{list(wanted.values()).count(kind)} {kind}: " in text
    check_page(page, found)


def test_a_csv_list(tmp_path, capsys, opened):
    root = tmp_path / "set"
    pictures = root / affectnet.PICTURES
    box = "0,0,64,64"

    def line(path, box=box, label=1):
        quoted = '"' + path.replace('"', '""') + '"'
        return f"{quoted},{box},,{label},0.5,0.5".encode("utf-8", "surrogateescape")

    lines, wanted = [line("x" * 300 + ".jpg")], {"x" * 300 + ".jpg": "unreadable"}
    for seed, name in enumerate(EMOTIONS):
        put(pictures / "1" / f"{name}.jpg", encoded(face(1000 + seed)))
        put(pictures / "2" / f"{name}.jpg", encoded(face(1100 + seed)))
        lines.append(line(f"1/{name}.jpg", label=EMOTIONS.index(name)))
    for name, (data, kind) in bad_pictures().items():
        put(pictures / "1" / name, data)
        boxed = {"dot.png": "0,0,1,1", "small.jpg": "0,0,20,20"}.get(name, box)
        lines.append(line(f"1/{name}", boxed))
        wanted[f"1/{name}"] = kind
    for seed, name in enumerate(name for name in ODD_NAMES if "\n" not in name):
        put(pictures / "1" / name, encoded(face(2000 + seed)))
        lines.append(line(f"1/{name}"))
    put(tmp_path / "secret.jpg", encoded(face(3001)))
    (pictures / "1/link.jpg").symlink_to(tmp_path / "secret.jpg")
    for path, odd_box, kind in (
        ("../../secret.jpg", box, "outside_root"),
        ("1/link.jpg", box, "outside_root"),
        (str(tmp_path / "secret.jpg"), box, "outside_root"),
        ("1/not there.jpg", box, "missing"),
        ("1/zero\0byte.jpg", box, "missing"),
        ("1/null.jpg", "NULL,NULL,10,10", "unusable_box"),
        ("1/negative.jpg", "0,0,-10,10", "unusable_box"),
        ("1/fear.jpg#2", "200,200,40,40", None),
        ("1/bytes-\udcff.jpg", box, "missing"),
    ):
        lines.append(line(path, odd_box))
        wanted[path.replace("\udcff", "\\xff")] = kind
    lines += [line("1/fear.jpg", "100,100,40,40"), line("1/sad.jpg", "40,40,40,40"), line("1/anger.jpg", label=77)]
    wanted |= {"1/fear.jpg#2": "box_outside", "1/sad.jpg#2": "box_clipped", "1/anger.jpg#2": "unknown_label"}
    lines += [b"1/many.jpg,1,2,3,4,5,6,7,8,9,10,11", b"1/few.jpg"]
    wanted |= {"1/many.jpg": "broken_line", "1/few.jpg": "broken_line"}
    put(root / "training.csv", b"\n".join([",".join(affectnet.COLUMNS).encode(), *lines]) + b"\n")
    validation = [line(f"2/{name}.jpg", label=EMOTIONS.index(name)) for name in EMOTIONS]
    put(root / "validation.csv", b"\n".join(validation) + b"\n")

    code, _, page, found = doctor(tmp_path, capsys)
    assert code == 1
    told = {fault["path"]: fault["kind"] for fault in found["faults"] if fault["kind"] != "tiny_face"}
    assert told == {path: kind for path, kind in wanted.items() if kind and kind != "tiny_face"}
    assert found["usable"]["val"] == dict.fromkeys(EMOTIONS, 1)
    assert found["usable"]["train"]["neutral"] == 1
    root_path = os.path.realpath(root)
    assert all(path.startswith(root_path) for path in opened)
    check_page(page, found)


class Reading(HTMLParser):
    """Checks that what is opened is closed, and notes texts and addresses."""

    ALONE = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check_page(page, found):
    """It is whole, needs no network, runs nothing, and shows every fault."""
    reading = Reading()
    reading.feed(page)
    reading.close()
    assert not reading.open
    assert not {"script", "link", "iframe", "object"} & set(reading.tags)
    assert reading.addresses
    assert all(re.match(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+$", address) for address in reading.addresses)
    assert "http" not in page
    assert "url(" not in page
    text = "".join(reading.text)
    for fault in found["faults"]:
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in fault["path"])
        assert shown in text


def test_markup_in_names_stays_text(tmp_path, capsys):
    root = tmp_path / "set"
    for seed, (split, name) in enumerate((split, name) for split in ("train", "val") for name in EMOTIONS):
        put(root / split / name / "good.jpg", encoded(face(seed)))
    for name in ODD_NAMES:
        put(root / "train/fear" / name, b"")
    code, text, page, found = doctor(tmp_path, capsys)
    assert code == 1
    assert [fault["path"] for fault in found["faults"]] == sorted(f"train/fear/{name}" for name in ODD_NAMES)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;b&gt;&amp;amp;" in page
    assert "new\\nline.jpg" in page
    assert "\u202e" not in page + text
    check_page(page, found)


def test_the_page_shows_copies_and_faces(tmp_path, capsys):
    root = tmp_path / "set"
    for seed, (split, name) in enumerate((split, name) for split in ("train", "val") for name in EMOTIONS):
        put(root / split / name / "good.jpg", encoded(face(seed)))
    for path in ("train/happy/a.png", "val/sad/b.png"):
        put(root / path, encoded(face(100), ".png"))
    _, _, page, _ = doctor(tmp_path, capsys)
    assert "Copies across splits" in page
    assert '<figure class="pair differ">' in page
    assert page.count('<img src="data:') == 18 + 2 * 2
    assert "Near copies" not in page
    assert "licence applies to the page" in page
    again = doctor(tmp_path, capsys)[2]
    assert again == page
