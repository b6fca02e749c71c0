"""Names for the types that a schema may have, as a repository keeps them."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any, Dict, Mapping, Optional

__all__ = ["schema_names", "schema_types"]

_TYPES: Dict[str, type] = {
    known.__name__: known
    for known in (
        bool,
        bytearray,
        bytes,
        complex,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        dict,
        float,
        frozenset,
        int,
        list,
        object,
        set,
        str,
        tuple,
        type(None),
        uuid.UUID,
    )
}
_NAMES = {known: name for name, known in _TYPES.items()}


def schema_names(table: str, schema: Mapping[Any, type]) -> Dict[Any, str]:
    """A schema as a repository has it. ``TypeError`` for a type without a name there."""
    for field, known in schema.items():
        if known not in _NAMES:
            shown = getattr(known, "__qualname__", known)
            raise TypeError(f"table {table!r}, field {field!r}: a schema's type {shown} cannot be kept")
    return {field: _NAMES[known] for field, known in schema.items()}


def schema_types(table: str, names: Optional[Mapping[Any, str]]) -> Optional[Dict[Any, type]]:
    """The schema again. ``ValueError`` for a name that is not known."""
    if names is None:
        return None
    unknown = [name for name in names.values() if name not in _TYPES]
    if unknown:
        raise ValueError(f"the schema of table {table!r} has the unknown type {unknown[0]!r}")
    return {field: _TYPES[name] for field, name in names.items()}
