"""What methods promise, as checks that are run on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.testing import assert_close

from nvreg.diagnostics import recording
from nvreg.errors import UserError
from nvreg.methods import Method
from nvreg.methods.method import Batch
from nvreg.models.convert import is_converted
from nvreg.models.registry import sites
from nvreg.parameters import ROLES, Setting
from nvreg.testing.subjects import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Values = Mapping[str, Any]
"""A setting as an experiment file writes it."""

MethodCheck = Callable[[Method, Subject, Values, Values], None]
"""Takes a method, the model that it is tried on, and two settings, of which the second regularises more."""


def attached(method: Method, subject: Subject) -> PreTrainedModel:
    """Return a new model of the subject with the method attached, at identity."""
    model = subject.build()
    prior = None if method.space is None else subject.prior(model, method.space)
    method.attach_(model, prior, subject.sample())
    return model


def strength_of(method: Method, model: PreTrainedModel, subject: Subject, setting: Setting) -> float:
    """Set an attached model to a setting, and return its strength on the subject's sample."""
    method.set_(model, setting)
    with recording(model) as record:
        for batch in subject.sample():
            model(**batch)
    return method.strength(setting, record)


@torch.no_grad()
def check_attached(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that an attached model is the pretrained one bit for bit."""
    model, plain = attached(method, subject), subject.build()
    for inputs in (subject.inputs(plain), subject.padded()[0]):
        assert torch.equal(_logits(model, inputs), _logits(plain, inputs)), "attaching changed the outputs"


@torch.no_grad()
def check_detached(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that settings change outputs, and that identity and detaching undo all of it bit for bit."""
    model, plain = attached(method, subject), subject.build()
    inputs = subject.inputs(plain)
    expected = _logits(plain, inputs)
    for values in (weaker, stronger):
        method.set_(model, method.setting_type.from_dict(values))
        assert not torch.allclose(_logits(model, inputs), expected, atol=1e-6), f"{values} changes nothing"
    method.set_(model, method.setting_type.identity())
    assert torch.equal(_logits(model, inputs), expected), "identity is not the pretrained model"
    method.set_(model, method.setting_type.from_dict(weaker))
    method.detach_(model)
    assert not is_converted(model), "the model is still converted"
    kinds, plain_kinds = ([type(module) for module in each.modules()] for each in (model, plain))
    assert kinds == plain_kinds, "modules are of other classes than before"
    weights, plain_weights = (each.state_dict().values() for each in (model, plain))
    assert all(map(torch.equal, weights, plain_weights)), "weights are others than before"
    assert torch.equal(_logits(model, inputs), expected), "the detached model is not the pretrained one"


@torch.no_grad()
def check_setting(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that a setting is the same whatever was set before, and on a model that is attached anew."""
    model = attached(method, subject)
    inputs = subject.inputs(model)
    one, other = map(method.setting_type.from_dict, (weaker, stronger))
    method.set_(model, one)
    expected = _logits(model, inputs)
    method.set_(model, other)
    method.set_(model, one)
    assert torch.equal(_logits(model, inputs), expected), f"{weaker} is another after {stronger}"
    method.detach_(model)
    again = attached(method, subject)
    method.set_(again, one)
    assert torch.equal(_logits(again, inputs), expected), f"{weaker} is another when attached anew"


@torch.no_grad()
def check_strength(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that strength is 0 at identity, and grows with the settings, to 1 at most."""
    model, kind = attached(method, subject), method.setting_type
    settings = (kind.identity(), kind.from_dict(weaker), kind.from_dict(stronger))
    none, weak, strong = (strength_of(method, model, subject, setting) for setting in settings)
    assert none == 0, f"expected strength 0 at identity, got {none}"
    assert 0 < weak < strong <= 1, f"expected strengths that grow from 0 to 1, got {weak} and {strong}"


@torch.no_grad()
def check_generation(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that a model generates with a cache what it does without, or says that it generates nothing."""
    if not subject.generates:
        return
    model = attached(method, subject)
    method.set_(model, method.setting_type.from_dict(stronger))
    inputs = {name: each for name, each in subject.inputs(model).items() if name != "decoder_input_ids"}

    def generated(**options: bool) -> Any:
        torch.manual_seed(0)
        lengths = {"max_new_tokens": 5, "min_new_tokens": 5}
        return model.generate(**inputs, **lengths, do_sample=False, **options).tolist()  # type: ignore[operator]

    if method.generates:
        assert generated() == generated(use_cache=False), "a cache changes what is generated"
        return
    _check_refused(generated, "generates", UserError)


@torch.no_grad()
def check_padding(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that every row of a padded batch scores as it does alone."""
    model = attached(method, subject)
    method.set_(model, method.setting_type.from_dict(stronger))
    batch, alone = subject.padded()
    logits = _logits(model, batch)
    for row, single in enumerate(alone):
        expected = _logits(model, single)[0]
        assert_close(logits[row, : len(expected)], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def check_roles(method: Method, subject: Subject, weaker: Values, stronger: Values) -> None:
    """Check that a role which the model has not is refused by the name of the parameter."""
    model = attached(method, subject)
    missing = sorted(set(ROLES) - {site.role for site in sites(model)})
    (name, rule), *_ = method.setting_type.parameters.items()
    if missing and rule.by_role:
        values = {name: {missing[0]: 0.5}}
        _check_refused(lambda: method.set_(model, method.setting_type.from_dict(values)), name)


METHOD_CHECKS: Sequence[MethodCheck] = (
    check_attached,
    check_detached,
    check_setting,
    check_strength,
    check_generation,
    check_padding,
    check_roles,
)
"""Everything that a method promises of a model."""


def check_mistake(method: type[Method], mistake: Values) -> None:
    """Check that a value which cannot be is refused by its parameter, and so is an unknown parameter."""
    _check_refused(lambda: method.setting_type.from_dict(mistake), next(iter(mistake)))
    _check_refused(lambda: method.setting_type.from_dict({"tau_omega": 1.0}), "expected one of ")


def _check_refused(action: Callable[[], Any], words: str, kind: type[Exception] = ValueError) -> None:
    try:
        action()
    except kind as error:
        if words not in str(error):
            raise AssertionError(f"expected a message with {words!r}, got {error}") from error
        return
    raise AssertionError(f"expected a {kind.__name__} with {words!r}, got none")


def _logits(model: Any, inputs: Batch) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits
