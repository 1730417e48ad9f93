"""Loading models and tokenizers from a directory or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from nvreg.digests import body_parameters
from nvreg.errors import UserError, expected_one_of, is_of_memory
from nvreg.files import check_digests, check_no_pipes
from nvreg.hub import is_hub_name, reason_of
from nvreg.models.dispatching import dispatching_modules
from nvreg.models.integrity import broken_file, check_options, check_weights
from nvreg.models.lora import class_count, find_adapted, merge
from nvreg.models.registry import adapters_by_class
from nvreg.models.teacher_forcing import is_token

Kind = Literal["encoder-decoder", "decoder-only", "encoder-only"]
"""How an architecture reads text."""

AutoClass = str | Mapping[Kind, str]
"""The name of a class of Transformers that loads models, or one for each kind of architecture."""

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}

CLASSIFIERS: Mapping[str, frozenset[str]] = {
    "AutoModelForSequenceClassification": frozenset(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values()),
    "AutoModelForTokenClassification": frozenset(MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.values()),
}
"""The models with heads that choose classes, of texts and of words, by the class that loads them."""


def kind_of(config: PreTrainedConfig) -> Kind:
    """Return how an architecture reads text."""
    if config.is_encoder_decoder:
        return "encoder-decoder"
    is_encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "encoder-only" if is_encoder and not getattr(config, "is_decoder", False) else "decoder-only"


def is_tagger(model: PreTrainedModel) -> bool:
    """Return whether a model has a head that chooses a class of every word."""
    return type(model).__name__ in CLASSIFIERS["AutoModelForTokenClassification"]


def auto_class(wanted: AutoClass, config: PreTrainedConfig) -> str:
    """Return the name of the class of Transformers that loads models of an architecture.

    Raises:
        UserError: if there is none for its kind.
    """
    if isinstance(wanted, str):
        return wanted
    if (kind := kind_of(config)) not in wanted:
        raise UserError(
            f"expected a model whose kind is {' or '.join(wanted)}, got {config.model_type!r}, "
            f"which is {kind}; name another model, or another task"
        )
    return wanted[kind]


def class_of(name: str, path: str | Path, config: PreTrainedConfig | None = None) -> Any:
    """Return the class of Transformers that a checkpoint's config.json names.

    Args:
        name: the class's.
        path: the checkpoint's.
        config: its config, where code that comes with it may be run: the class may be of that code, which the
            class of Transformers that is returned then loads.

    Raises:
        UserError: if there is none.
    """
    for auto_name, place in (getattr(config, "auto_map", None) or {}).items():
        if str(place).rpartition(".")[2] == name and hasattr(transformers, auto_name):
            return getattr(transformers, auto_name)
    if not hasattr(transformers, name):
        raise UserError(f"{path}: expected architectures of Transformers in config.json, got {name!r}")
    return getattr(transformers, name)


def position_count(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model has positions for, None where its config has no such number.

    Where the table of positions has a row for padding, as RoBERTa's, the first token gets the one behind it.
    Rotary positions have no table.
    """
    count: int | None = getattr(config, "max_position_embeddings", None)
    is_rotary = bool(getattr(config, "rope_parameters", None))
    if count is None or is_rotary or not is_token(config, getattr(config, "pad_token_id", None)):
        return count
    small = deepcopy(config)
    small.num_hidden_layers = 1
    with torch.device("meta"):
        body = AutoModel.from_config(small)
    rows_before = [
        module.padding_idx + 1
        for name, module in body.named_modules()
        if isinstance(module, torch.nn.Embedding) and "position" in name and module.padding_idx is not None
    ]
    return count - max(rows_before, default=0)


def load_config(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedConfig:
    """Load a model's config; where there is an adapter, that of its model.

    Raises:
        UserError: if there is none, or the hub is out of reach.
    """
    if adapted := find_adapted(path, revision):
        path, revision = adapted.base, adapted.base_revision
    return load_with(AutoConfig, path, revision=revision, trust_remote_code=trust_remote_code)


def load_model(
    path: str | Path,
    head: AutoClass | None = None,
    *,
    labels: Sequence[str] | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a pretrained model in evaluation mode.

    Args:
        path: a directory, or a name on the hub. An adapter (LoRA) is merged into its model.
        head: the class that loads it; by default the one the checkpoint was saved with.
        labels: names of the classes that a new head for classification is to have, with random weights.
        revision: branch, tag or commit on the hub.
        dtype: float32, float16, bfloat16 or float64; auto is that of the checkpoint.
        device: as in ``torch.device``; ``auto`` is the GPU if there is one.
        device_map: ``auto`` spreads the model over all GPUs, and takes the place of ``device``.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        UserError: if the architecture is not supported or of a kind that has no such class, the checkpoint
            lacks the head, the model does not exist, or the hub is out of reach.
        DamagedError: if nvreg wrote the checkpoint, and its weights are no longer those.
    """
    if dtype not in DTYPES and dtype != "auto":
        raise UserError(f"model.dtype: {expected_one_of([*DTYPES, 'auto'], dtype)}")
    options: dict[str, Any] = {"dtype": DTYPES.get(dtype, dtype), "trust_remote_code": trust_remote_code}
    if device_map is not None:
        if importlib.util.find_spec("accelerate") is None:
            raise UserError(
                "model.device_map: expected accelerate, which spreads models, got none installed; "
                "pip install accelerate"
            )
        options["device_map"] = device_map
    check_digests(Path(path).expanduser())
    adapted = find_adapted(path, revision)
    model: Any
    if adapted is None:
        model = _load_whole(path, head, labels, revision=revision, **options)
    else:
        if labels is None and (classes := class_count(adapted)):
            options["num_labels"] = classes
        base = _load_whole(
            adapted.base,
            head or adapted.head,
            labels,
            besides=adapted.whole,
            revision=adapted.base_revision,
            **options,
        )
        model = merge(base, adapted)
        if labels is not None:
            _renew_head_(model)
    if device_map is not None:
        return model.eval()
    try:
        return model.to(_device(device)).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"model.device: expected a device that torch can use, got {device!r} ({_line(error)})"
        ) from error


def _load_whole(
    path: str | Path,
    head: AutoClass | None,
    labels: Sequence[str] | None,
    *,
    besides: frozenset[str] = frozenset(),
    revision: str | None,
    trust_remote_code: bool,
    **options: Any,
) -> PreTrainedModel:
    """Load a model with all of its weights, ``besides`` those of modules of these names."""
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = load_with(AutoConfig, path, **hub)
    check_options(Path(path).expanduser(), config)
    architectures = config.architectures or ["AutoModel"]
    loader = auto_class(head, config) if head else architectures[0]
    model_class = class_of(loader, path, config if trust_remote_code else None)
    _check_convertible(config, model_class)
    if labels is None and not besides:
        _check_head(loader, architectures[0], path)
    if labels is not None:
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: number for number, label in enumerate(labels)}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # which is checked below
    model, found = load_with(model_class, path, **options, **hub)
    if labels is not None and (type(model).__name__ in architectures or _is_classifier(architectures[0])):
        _renew_head_(model)
    is_whole = labels is None and (head is not None or config.architectures is not None)
    body = None if is_whole else _body(model)
    needed = set(model.state_dict()) if body is None else body
    hint = "; it is damaged, or not whole"
    if head:
        of_tokens = loader in ("AutoModelForCausalLM", "AutoModelForMaskedLM")
        other = ", or name its labels (nvreg fisher: --label-column or --tag-column)" if of_tokens else ""
        hint = f"; fine-tune it first{other}"
    check_weights(model, path, found, needed=needed, body=body, besides=besides, hint=hint)
    return model


def _check_head(loader: str, architecture: str, path: str | Path) -> None:
    """Check that a checkpoint's head is not that of another classifier, whose weights are called alike.

    Raises:
        UserError: if it is.
    """
    if loader not in CLASSIFIERS or architecture in CLASSIFIERS[loader]:
        return
    if _is_classifier(architecture):
        what = "words" if loader == "AutoModelForTokenClassification" else "texts"
        raise UserError(
            f"{path}: expected a checkpoint with a head that chooses classes of {what}, got "
            f"{architecture}; name another, or fine-tune it first"
        )


def _is_classifier(architecture: str) -> bool:
    """Return whether models of a class choose classes, of texts or of words."""
    return any(architecture in names for names in CLASSIFIERS.values())


def _check_convertible(config: PreTrainedConfig, loader: Any) -> None:
    """Raise a UserError, before any weight is loaded, for a model that is converted in neither space."""
    try:
        adapters_by_class(config)
    except UserError as refused:
        try:
            with torch.device("meta"):
                skeleton = loader.from_config(config) if hasattr(loader, "from_config") else loader(config)
        except Exception:  # what cannot be built without weights is refused, if it is, when it is converted
            return
        try:
            dispatching_modules(skeleton)
        except UserError as error:
            raise UserError(f"{refused}; {error}") from None


def load_tokenizer(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer, by default the one of the model where there is an adapter.

    Raises:
        UserError: if there is none, or the hub is out of reach.
    """
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        return load_with(AutoTokenizer, path, **hub)
    except UserError:
        if (adapted := find_adapted(path, revision)) is None:
            raise
        return load_with(AutoTokenizer, adapted.base, **hub | {"revision": adapted.base_revision})


def load_with(auto_class: Any, path: str | Path, **options: Any) -> Any:
    """Return what a class of Transformers loads from a checkpoint.

    Args:
        auto_class: the class.
        path: a directory, or a name on the hub.
        options: options of its ``from_pretrained``.

    Raises:
        UserError: if it cannot; the message names the file that is broken, if one is.
    """
    path = str(path)
    local = Path(path).expanduser()
    if local.is_dir():
        path = str(local)
        check_no_pipes(local.glob("*"))
    elif not is_hub_name(path):
        raise UserError(f"expected a model directory, found none at {path}")
    try:
        return auto_class.from_pretrained(path, **options)
    except Exception as error:  # Transformers, tokenizers, safetensors and torch raise their own
        if is_of_memory(error):
            raise
        if mistake := _generation_mistake(auto_class, path, options.get("revision")):
            raise UserError(
                f"{path}: expected options of generation that Transformers takes, got {mistake}; "
                "change them in generation_config.json"
            ) from error
        if local.is_dir() and (broken := broken_file(local, error)):
            raise UserError(broken) from error
        _explain(auto_class, path, local.is_dir(), error)


def _body(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters that every head of a model's body needs."""
    body = set(map(id, body_parameters(model).values()))
    return {name for name, parameter in model.named_parameters() if id(parameter) in body}


def _renew_head_(model: PreTrainedModel) -> None:
    """Draw the weights of a head that came with the checkpoint anew."""
    body = set(model.base_model.modules())
    for module in model.modules():
        if module not in body and isinstance(module, torch.nn.Linear):
            module.reset_parameters()


def _generation_mistake(auto_class: Any, path: str, revision: str | None) -> str | None:
    """Return what Transformers has against a checkpoint's own options of generation, None if nothing."""
    if auto_class in (AutoConfig, AutoTokenizer):
        return None
    for file in ("generation_config.json", "config.json"):  # the latter in checkpoints without the former
        try:
            GenerationConfig.from_pretrained(path, config_file_name=file, revision=revision or "main")
        except OSError:
            continue
        except Exception as error:  # any value of any option
            return _line(error)
        return None
    return None


def _explain(auto_class: Any, path: str, is_local: bool, error: Exception) -> NoReturn:
    what = {AutoTokenizer: "a tokenizer", AutoConfig: "config.json"}.get(auto_class, "weights")
    if is_local:
        raise UserError(
            f"expected a Hugging Face checkpoint with {what} in {path}, got: {_line(error)}"
        ) from error
    got, mend = reason_of(error)
    raise UserError(
        f"expected {what} of {path!r} on the Hugging Face hub, got {got}; {mend}, or give the path of a "
        "local directory"
    ) from error


def _line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return first if first and isinstance(error, OSError | ValueError) else f"{type(error).__name__} {first}"


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
