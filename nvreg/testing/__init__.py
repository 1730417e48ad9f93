"""What every method, task, metric and protocol promises, as checks that packages of others run on theirs.

Each check is a function that raises an AssertionError where a promise is broken; nvreg's own pass all of
them. With pytest (docs/plugins.md)::

    @pytest.mark.parametrize("check", METHOD_CHECKS)
    @pytest.mark.parametrize("subject", SUBJECTS, ids=str)
    def test_contract(check, subject):
        check(Quiet(), subject, {"factor": 0.9}, {"factor": 0.3})
"""

from nvreg.testing.measures import check_metric, check_protocol, check_task
from nvreg.testing.methods import METHOD_CHECKS, MethodCheck, Values, check_mistake
from nvreg.testing.subjects import SUBJECTS, Subject

__all__ = [
    "METHOD_CHECKS",
    "SUBJECTS",
    "MethodCheck",
    "Subject",
    "Values",
    "check_metric",
    "check_mistake",
    "check_protocol",
    "check_task",
]
