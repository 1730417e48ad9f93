"""Methods that a sweep can try: NV regularisation, and the controls it is compared with."""

from collections.abc import Mapping

from nvreg.methods.nv import NV
from nvreg.methods.protocol import Method

__all__ = ["METHODS", "Method"]

METHODS: Mapping[str, type[Method]] = {method.name: method for method in (NV,)}
