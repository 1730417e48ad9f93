"""Built-in corpora and models, made by a seeded generator: a full path through nvreg without a download.

The languages and the domains are described in `nvreg.demo.language`, the tasks in `nvreg.demo.corpora`.
"""

from nvreg.demo.build import build_demo

__all__ = ["build_demo"]
