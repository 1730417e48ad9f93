"""Methods that a sweep can try: NV regularisation, and the controls it is compared with."""

from collections.abc import Mapping

from nvreg.methods.nv import NV, NVGaussian, NVNoInterpolation
from nvreg.methods.protocol import Method
from nvreg.methods.scores import Sink, Temperature
from nvreg.methods.weights import LowRank, WeightNoise, WiseFT

__all__ = ["METHODS", "Method"]

METHODS: Mapping[str, type[Method]] = {
    method.name: method
    for method in (NV, NVGaussian, NVNoInterpolation, Temperature, Sink, WeightNoise, LowRank, WiseFT)
}
