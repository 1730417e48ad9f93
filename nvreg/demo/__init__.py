"""Built-in corpora and models, made by a seeded generator: a full path through nvreg without a download.

The languages are described in `nvreg.demo.language`, the domains in `nvreg.demo.domains`.
"""

from nvreg.demo.build import build_demo

__all__ = ["build_demo"]
