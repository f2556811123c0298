"""Write one of several parts of a weights file to a file of its own; imported by ``fer weights``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import save

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import write_atomic
from fer_lightning.models.weights.unwrap import contents, part_named, tensors_in
from fer_lightning.models.weights.weight_files import ABOUT, read_bytes, read_published


def extract_weights(source: Path, name: str, target: Path) -> None:
    """Write the tensors of a part to a safetensors file, under their names without the prefix.

    Args:
        source: the file.
        name: the part's keys and prefix, dotted.
        target: the new file; one with the same content may exist.

    Raises:
        UserError: the user can mend it; nothing has been written.
    """
    content = read_bytes(source, str(source))
    held = read_published(content, str(source))
    part = part_named(held, name)
    if part is None:
        raise UserError(f"{source}: has no part {name!r}; it holds {contents(held)}")
    about = {"source": source.name, "source_sha256": hashlib.sha256(content).hexdigest(), "part": name}
    tensors = {key: value.detach().contiguous().clone() for key, value in part.tensors.items()}
    new = save(tensors, {ABOUT: json.dumps(about, sort_keys=True)})
    try:
        if not target.exists():
            write_atomic(target, new)
        elif target.read_bytes() != new:
            raise UserError(f"{target} holds something else and is not overwritten; give another file with --to")
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}; give another file with --to") from error
    print(target)
    print(f"  {tensors_in(len(tensors))}, {part.origin}")
    print(f"  next: fer train backbone.weights={target} ...")
