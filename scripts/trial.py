"""A trial: a tiny model is converted in one space, and must do what the method says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

import nvreg
from nvreg.compat import attention_implementation, set_attention_implementation_
from nvreg.models.conversion import Conversion, conversion_of
from nvreg.models.dispatching import left_alone
from nvreg.models.site import Space
from scripts.tiny_models import TOKENS, tiny_model
from tests.models.definition import run_definition_ as run_input_definition_
from tests.models.head_definition import run_head_definition_

SETTINGS = nvreg.Settings(tau_alpha=0.5, tau_sigma=0.3, tau_mu=0.8)
NO_WEIGHT = nvreg.Settings(tau_alpha=1e12)
PRIOR_ALONE = nvreg.Settings(tau_alpha=-1e9)
LENGTH, DECODER_LENGTH = 11, 9
PADDING = 3
"""How many tokens the second of two texts is shorter by."""

CACHED = 5
"""How many tokens come from a cache where there is one."""

CHANGED = 3
"""The position whose token is changed, to see which outputs depend on it."""

EXPERTS = 8
"""A softmax over no more numbers than these chooses experts."""

OTHER_MIXING = ("mobilebert",)
"""Model types in which tokens meet outside of layers and convolutions: embeddings have their neighbours'."""


class Wrong(Exception):
    """A model is converted, and does not do what the method says."""


def check(model_type: str, head: str, space: Space) -> None:
    """Convert a tiny model, and expect what the method says.

    Raises:
        Wrong: otherwise.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trial = _Trial(model_type, head, torch.float64)
        except RuntimeError:  # what has float32 alone
            trial = _Trial(model_type, head, torch.float32)
        try:
            trial.run(space)
        except Exception as error:
            raise Wrong(f"{model_type} ({head}, {space}): {error}") from error


class _Trial:
    """A tiny model, and what it returned before it was converted."""

    def __init__(self, model_type: str, head: str, dtype: torch.dtype) -> None:
        self._model_type, self._head, self._dtype = model_type, head, dtype
        self._tolerance = 1e-6 if dtype == torch.float64 else 1e-3  # routers round to float32
        self._model = self._build()
        self._inputs = _inputs(self._model, head)
        self._plain = self._outputs(self._inputs)
        _expect(self._plain.isfinite().all(), "the plain model returns what is not finite")

    def run(self, space: Space) -> None:
        """Convert and revert."""
        model, inputs = self._model, self._inputs
        classes = {name: type(module) for name, module in model.named_modules()}
        plain_cached, plain_eager = self._cached(), self._eager()
        prior = nvreg.estimate_prior(model, [{**self._body_inputs(), **inputs}], space=space)
        conversion = _conversion(nvreg.convert_(model, prior))
        _expect(torch.equal(self._outputs(inputs), self._plain), "identity changes what is returned")

        nvreg.set_settings_(model, NO_WEIGHT)
        # Attention of the model's own may have float32 alone, and padding that sees no token differs.
        unweighted, plain = (self._real(outputs) for outputs in (self._outputs(inputs), self._plain))
        same = self._same(unweighted, plain, max(self._tolerance, 1e-5))
        _expect(same, "a prior without weight changes what is returned")

        nvreg.set_settings_(model, SETTINGS)
        with _Softmaxes(conversion) as beside:
            converted = self._outputs(inputs)
        _expect(converted.isfinite().all(), "what is returned is not finite")
        _expect(not self._same(converted, self._plain), "a setting changes nothing")
        _expect(not beside.found, f"softmax beside the sites: {sorted(beside.found)}")
        if plain_cached is not None and self._same(plain_cached, _last(self._plain, plain_cached)):
            cached = self._cached()
            assert cached is not None
            expected = _last(converted, cached)
            _expect(self._same(cached, expected), "a cache changes what is returned")
        if plain_eager is not None and self._same(plain_eager, self._plain):
            eager = self._eager()
            _expect(
                eager is not None and self._same(eager, converted), "eager attention is another than sdpa's"
            )
        if not self._mixes_otherwise():
            self._check_prior_alone()

        nvreg.revert_(model)
        _expect(torch.equal(self._outputs(inputs), self._plain), "a reverted model is another")
        _expect(
            classes == {name: type(module) for name, module in model.named_modules()},
            "revert leaves classes behind",
        )
        run = run_head_definition_ if space == "heads" else run_input_definition_
        defined = self._outputs(inputs, run(self._build(), prior, SETTINGS))
        _expect(
            self._same(converted, defined), f"off the definition by {(converted - defined).abs().max():.1e}"
        )

    def _build(self) -> PreTrainedModel:
        """Return the model with every weight and bias random."""
        torch.manual_seed(0)
        model: Any = tiny_model(self._model_type, self._head)
        model.to(self._dtype)
        generator = torch.Generator().manual_seed(0)
        computed = model._keys_to_ignore_on_save or ()
        for name, parameter in model.named_parameters():
            if name not in computed and parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator).to(self._dtype)
                parameter.add_(noise * (0.3 if parameter.ndim == 1 else 0.5 * parameter.shape[-1] ** -0.5))
        return model

    def _outputs(self, inputs: Mapping[str, Tensor], model: Any = None) -> Tensor:
        torch.manual_seed(0)
        return (self._model if model is None else model)(**inputs)[0]

    def _same(self, ours: Tensor, theirs: Tensor, tolerance: float | None = None) -> bool:
        tolerance = self._tolerance if tolerance is None else tolerance
        return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())

    def _real(self, outputs: Tensor) -> Tensor:
        """Return the outputs of tokens without those of padding, where there is one for each."""
        mask = self._inputs["attention_mask"].bool()
        return outputs[mask] if outputs.shape[:2] == mask.shape else outputs

    def _cached(self) -> Tensor | None:
        """Return outputs of the last positions, given a cache of the others; None where there is none."""
        if self._head not in ("causal", "sequence-to-sequence"):
            return None
        inputs = {name: tensor[:1] for name, tensor in self._inputs.items() if name != "attention_mask"}
        name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
        first, second = inputs.pop(name).tensor_split([CACHED], dim=1)
        try:
            cache = self._model(**inputs, **{name: first}, use_cache=True).past_key_values
            return self._model(**inputs, **{name: second}, past_key_values=cache, use_cache=True)[0]
        except Exception:
            if conversion_of(self._model):
                raise
            return None

    def _eager(self) -> Tensor | None:
        """Return outputs under eager attention; None where the model has no other."""
        if attention_implementation(self._model.config) != "sdpa":
            return None
        parts = [module for module in self._model.modules() if isinstance(module, PreTrainedModel)]
        before = [attention_implementation(part.config) for part in parts]
        for part in parts:
            set_attention_implementation_(part.config, "eager")
        try:
            return self._outputs(self._inputs)
        finally:
            for part, implementation in zip(parts, before, strict=True):
                set_attention_implementation_(part.config, implementation)

    def _mixes_otherwise(self) -> bool:
        """Whether tokens meet outside of softmax attention too."""
        others = left_alone(self._model, _conversion(self._model).sites)
        layers = [name for name in others if name.rpartition(".")[2].isdigit()]
        parts = tuple(f"{name}." for name in others)
        convolves = any(
            isinstance(module, nn.Conv1d) and not name.startswith(parts)
            for name, module in self._model.base_model.named_modules()
        )
        return convolves or bool(layers) or self._model_type in OTHER_MIXING

    def _check_prior_alone(self) -> None:
        """Expect that, where the prior has all the weight, no position depends on another's token."""
        model: Any = self._model
        nvreg.set_settings_(model, PRIOR_ALONE)
        inputs, whole = self._inputs, model
        if self._head == "classification":  # which looks at some of them
            inputs, whole = {**self._body_inputs(), **inputs}, model.base_model
        before = self._outputs(inputs, whole)
        name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
        for changed in {"input_ids", name}:
            after = self._outputs({**inputs, changed: _with_another(inputs[changed])}, whole)
            moved = (after - before).abs().flatten(2).amax((0, 2)) > self._tolerance * before.abs().max()
            expected = [CHANGED] if changed == name else []
            _expect(
                moved.nonzero().flatten().tolist() == expected, f"the prior alone: {changed} moves others"
            )

    def _body_inputs(self) -> dict[str, Tensor]:
        """Return what the body is given, beside what the head is."""
        is_fed = not self._model.config.is_encoder_decoder
        return {} if is_fed else {"decoder_input_ids": self._inputs["input_ids"]}


def _inputs(model: PreTrainedModel, head: str) -> dict[str, Tensor]:
    """Return two texts, the second of which is padded."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, TOKENS, (2, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, -PADDING:] = 0
    end = getattr(model.config, "eos_token_id", None)
    if model.config.is_encoder_decoder and isinstance(end, int):
        ids[0, -1] = ids[1, -PADDING - 1] = end
    ids = ids.masked_fill(mask == 0, getattr(model.config.get_text_config(), "pad_token_id", None) or 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder and head != "classification":
        inputs["decoder_input_ids"] = torch.randint(3, TOKENS, (2, DECODER_LENGTH), generator=generator)
    return inputs


def _with_another(ids: Tensor) -> Tensor:
    """Return ids with other words at one position."""
    ids = ids.clone()
    ids[:, CHANGED] = (ids[:, CHANGED] - 2) % (TOKENS - 3) + 3
    return ids


def _last(outputs: Tensor, like: Tensor) -> Tensor:
    return outputs[:1, -like.shape[1] :]


def _conversion(model: PreTrainedModel) -> Conversion:
    conversion = conversion_of(model)
    assert conversion
    return conversion


def _expect(holds: Any, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


class _Softmaxes(TorchDispatchMode):
    """Finds the softmax attention that runs outside of the sites."""

    def __init__(self, conversion: Conversion) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._within = 0
        name = "attend" if conversion.space == "heads" else "forward"
        states = conversion.states.values()
        self._places = [(vars(state), name) for state in states]
        for state in states:
            setattr(state, name, self._counted(getattr(state, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._within += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._within -= 1

        return run

    def __exit__(self, *args: Any) -> None:
        for place, name in self._places:
            del place[name]
        super().__exit__(*args)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if not self._within and ("attention" in name or ("softmax" in name and args[0].shape[-1] > EXPERTS)):
            self.found.add(f"{name} of {tuple(args[0].shape)}")
        return func(*args, **(kwargs or {}))
