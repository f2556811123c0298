"""Who is pictured: the persons that must not lie in two parts, and the attributes that recall is told by."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import SCHEMA, Manifest

MOST_VALUES = 20
"""Most values of a column that recall is told by."""

log = logging.getLogger(__name__)


def is_column(group: str | None) -> bool:
    """Return whether ``data.group`` is the name of a column; with a parenthesis it is a regular expression."""
    return group is not None and "(" not in group


def attributes(columns: pa.Table) -> pa.Array:
    """Return a manifest's ``attributes`` (N,): the cells of some columns that are not empty, by their names.

    Raises:
        UserError: a column has more than MOST_VALUES values.
    """
    for name in columns.column_names:
        if (values := pc.count_distinct(columns[name]).as_py()) > MOST_VALUES:
            raise UserError(
                f"data.recall_by: {name} has {values} values, and recall is told by at most {MOST_VALUES}; "
                "put them into groups in a column of its own"
            )
    texts = ({name: text.strip() for name, text in row.items() if text.strip()} for row in columns.to_pylist())
    return pa.array([json.dumps(row, sort_keys=True, ensure_ascii=False) for row in texts], pa.string())


def with_persons(manifest: Manifest, pattern: str) -> Manifest:
    r"""Return a manifest with the person in each row's path as its ``identity``.

    Args:
        manifest: rows of a data set.
        pattern: a regular expression that is searched in the paths, with "/"; its first group is the person, as in
            ``(S\d+)_``. Where it is not found, nobody is known to be pictured.

    Raises:
        UserError: it is no regular expression, has no group, or is found in no path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group={pattern}: it is no regular expression ({error})") from error
    if compiled.groups < 1:
        raise UserError(rf"data.group={pattern}: it has no group; put the person in parentheses, as in '(S\d+)_'")
    matches = [compiled.search(path) for path in manifest.rows["path"].to_pylist()]
    persons = pa.array([match[1] if match else None for match in matches], pa.string())
    if persons.null_count == len(persons):
        example = manifest.rows["path"][0].as_py()
        raise UserError(f"data.group={pattern}: it is found in no path of {manifest.root}, such as {example}")
    log.info("data.group: %d persons in %d rows", len(pc.unique(persons.drop_null())), len(persons))
    if persons.null_count:
        log.info("data.group: %d rows name no person; they are kept together by near copies", persons.null_count)
    place = SCHEMA.get_field_index("identity")
    return replace(manifest, rows=manifest.rows.set_column(place, SCHEMA.field(place), persons))
