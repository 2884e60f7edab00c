"""What other releases have stored: while an upgrade rolls, an older and a newer one share Redis."""

from collections.abc import Mapping
from typing import Any


def known(cls: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Of stored fields those that the dataclass has in this release. One that it adds needs a default."""
    return {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
