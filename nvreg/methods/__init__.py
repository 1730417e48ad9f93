"""Methods that a sweep can try: NV regularisation, and the controls it is compared with."""

from nvreg.config import Section
from nvreg.methods.method import Method
from nvreg.parameters import Setting
from nvreg.registry import Registry, subclass_of

__all__ = ["METHODS", "Method"]

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "nv": "nvreg.methods.nv:NV",
        "nv-gaussian": "nvreg.methods.nv:NVGaussian",
        "nv-no-interpolation": "nvreg.methods.nv:NVNoInterpolation",
        "nv-heads": "nvreg.methods.nv:NVHeads",
        "nv-heads-no-interpolation": "nvreg.methods.nv:NVHeadsNoInterpolation",
        "output-temperature": "nvreg.methods.output_temperature:OutputTemperature",
        "mc-dropout": "nvreg.methods.mc_dropout:MCDropout",
        "temperature": "nvreg.methods.softmax:Temperature",
        "sink": "nvreg.methods.softmax:Sink",
        "weight-noise": "nvreg.methods.model_weights:WeightNoise",
        "low-rank": "nvreg.methods.model_weights:LowRank",
        "wise-ft": "nvreg.methods.model_weights:WiseFT",
        "quantise": "nvreg.methods.compression:Quantise",
        "prune": "nvreg.methods.compression:Prune",
        "layer-skip": "nvreg.methods.compression:LayerSkip",
    },
    group="nvreg.methods",
    check=subclass_of(Method, setting_type=Setting, options=Section),
)
"""Every method by its name in an experiment file."""
