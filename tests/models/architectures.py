"""Every supported architecture as a tiny model with random weights and random biases."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models.convert import is_converted
from tests.models.head_definition import head_shapes

VOCABULARY = 40
PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class Architecture:
    """A model type, in one of the variants that matter."""

    name: str
    model_type: str
    model_class: str
    config: dict[str, Any] = field(default_factory=dict)
    space: str = "inputs"

    def __str__(self) -> str:
        return self.name

    @property
    def is_encoder_decoder(self) -> bool:
        return self.model_class.endswith(("ConditionalGeneration", "MTModel", "EncoderDecoderModel"))

    @property
    def can_generate(self) -> bool:
        is_speech = self.model_type == "whisper"  # whose generate() cuts sound into segments
        return getattr(transformers, self.model_class).can_generate() and not is_speech

    @property
    def has_static_cache(self) -> bool:
        """Whether Transformers runs the model with a cache that has room for more than it holds."""
        return not self.config.get("alibi")

    @property
    def attends_in_float32(self) -> bool:
        """Whether the pretrained attention, and so a layer at identity, is no more exact than float32."""
        return self.model_type in (
            "gpt_neo",
            "gptj",
            "cohere",
            "gemma2",
            "ernie4_5",
            "ernie4_5_moe",
            "modernbert",
        )

    @property
    def mixes_in_float32(self) -> bool:
        """Whether something beside attention is no more exact than float32, and depends on the batch."""
        return self.model_type in ("deepseek_v3", "nllb-moe", "qwen3_next")

    def build(
        self, *, seed: int = 0, dtype: torch.dtype = torch.float64, attention: str = "sdpa"
    ) -> PreTrainedModel:
        """Return the model in evaluation mode, with every weight and bias random."""
        ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
        config = AutoConfig.for_model(self.model_type, vocab_size=VOCABULARY, **ids, **self.config)
        model_class = getattr(transformers, self.model_class)
        config._attn_implementation = attention if model_class._supports_sdpa else "eager"
        config._experts_implementation = "batched_mm"  # which has float64, and can be compiled
        torch.manual_seed(seed)
        model = model_class(config).double().eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in (model._keys_to_ignore_on_save or ()):
                    continue  # computed, not learned
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.3 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5))
        model.generation_config = GenerationConfig(**ids)
        model.tested = self
        return model.to(dtype)

    def inputs(self, model: PreTrainedModel, *, batch: int = 3, length: int = 7) -> dict[str, Tensor]:
        """Return unpadded ids for the model's forward, or what a model of speech hears."""
        ids = random_ids(batch, length)
        if self.model_type == "whisper":
            sound = torch.randn(batch, 4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            sound = sound.to(model.dtype)
            return {"input_features": sound, "decoder_input_ids": random_ids(batch, 5, seed=1)}
        return (
            {"input_ids": ids, "decoder_input_ids": random_ids(batch, 5, seed=1)}
            if self.is_encoder_decoder
            else {"input_ids": ids}
        )


def random_ids(batch: int, length: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(EOS + 1, VOCABULARY, (batch, length), generator=generator)


def sites_of(model: PreTrainedModel) -> list[nvreg.Site]:
    """Return the sites of a model that `Architecture.build` made, in the space that is tested."""
    return nvreg.sites(model, None if is_converted(model) else model.tested.space)


def random_prior(model: PreTrainedModel, *, seed: int = 0, space: str | None = None) -> nvreg.Prior:
    """Return a prior of a space, by default the one that is tested."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tested = getattr(model, "tested", None)
    if (space or (tested and tested.space)) == "heads":
        fresh = tested.build()
        found = head_shapes(fresh, tested.inputs(fresh))
        names = nvreg.sites(model, space=None if is_converted(model) else "heads")  # wrapped: other names
        assert [site[1:] for site in found] == [site[1:] for site in names]
        shapes = dict(zip(names, found.values(), strict=True))
        return nvreg.Prior(
            {
                site.name: nvreg.HeadMoments(
                    0.5 * normal(heads, key),
                    0.5 * normal(heads, value),
                    normal(heads, key).square() + 0.1,
                    0.3 * normal(heads, value, key),
                    normal(heads) + 3,
                    normal(1).abs().item() + 0.2,
                )
                for site, (heads, key, value) in shapes.items()
            }
        )
    return nvreg.Prior(
        {
            site.name: nvreg.Moments(
                0.5 * normal(site.width),
                normal(site.width).square() + 0.1,
                normal(1).item() + 3,
                normal(1).abs().item() + 0.2,
            )
            for site in nvreg.sites(model)
        }
    )


def random_settings(model: PreTrainedModel) -> Settings:
    """Return settings that differ by layer and use every branch: mixed means, no spread, no prior."""
    layers: dict[str, int] = {}
    for site in sites_of(model):
        layers[site.role] = max(site.layer + 1, layers.get(site.role, 0))

    def cycle(values: list[float], shift: int) -> dict[str, list[float]]:
        return {
            role: [values[(layer + shift + number) % len(values)] for layer in range(count)]
            for number, (role, count) in enumerate(layers.items())
        }

    return Settings(
        tau_alpha=cycle([0.5, -2.0, float("inf")], 0),
        tau_sigma=cycle([0.4, 0.2, 0.7, 0.0], 0),
        tau_mu=cycle([0.8, 1.0], 0),
    )


_BART = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "forced_eos_token_id": None,
}

_WHISPER = {
    **_BART,
    "num_mel_bins": 4,
    "max_source_positions": 6,
    "max_target_positions": 64,
    "begin_suppress_tokens": None,
    "suppress_tokens": None,
}
_NLLB_MOE = {  # experts in the encoder alone: those of the decoder take for padding what a static cache hides
    "encoder_layers": 3,
    "num_experts": 2,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 0,
}

_LLAMA = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
_HEADS = {**_LLAMA, "head_dim": 6}
_WINDOWS = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
_GPT2 = {"n_embd": 16, "n_layer": 4, "n_head": 4, "n_positions": 64}
_GPT2_DECODER = {**_GPT2, "vocab_size": VOCABULARY, "is_decoder": True, "add_cross_attention": True}
_LAYERWISE = {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}
_GPT_NEO = {
    "hidden_size": 16,
    "num_layers": 4,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 3,
    "max_position_embeddings": 64,
}
_OPT = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "ffn_dim": 24,
    "word_embed_proj_dim": 16,
    "max_position_embeddings": 64,
}
_OPT_350M = {"do_layer_norm_before": False, "word_embed_proj_dim": 8, "enable_bias": False}
_BIOGPT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 24}
_NEOX = {**_LLAMA, "hidden_size": 32, "rotary_pct": 0.25}
_NEOX.pop("num_key_value_heads")
_GPTJ = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
_YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 100.0, "original_max_position_embeddings": 16}
_STRETCHED = {**_YARN, "original_max_position_embeddings": 3, "llama_4_scaling_beta": 0.3}
_ROTARY_KINDS = {
    "yarn": _YARN,
    "llama3": {**_YARN, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "linear": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.5],
    "long_factor": [2.0, 3.0],
}
_MOE = {  # every expert is used: rounding does not choose others
    "num_experts": 2,
    "num_local_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
}
_ERNIE_MOE = {"moe_num_experts": 2, "moe_k": 2, "moe_layer_start_index": 3}
_GLM = {**_LLAMA, "head_dim": 8, "partial_rotary_factor": 0.5}

_T5 = {
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 3,  # as many as in the decoder: Transformers sizes its caches by this one
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
}
_T5_V1_1 = {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}

_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
_BERT_DECODER = {**_BERT, "vocab_size": VOCABULARY, "is_decoder": True, "add_cross_attention": True}
_DISTILBERT = {"dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 64}

_MODERNBERT = {**_BERT, "global_attn_every_n_layers": 2, "local_attention": 4, "attention_bias": True}
_ROTARY_BY_LAYER_TYPE = {
    "rope_parameters": {
        "full_attention": _YARN,
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    }
}
_FALCON = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}
_XGLM = {"d_model": 16, "ffn_dim": 24, "num_layers": 3, "attention_heads": 4, "max_position_embeddings": 64}

ARCHITECTURES = [
    Architecture("bart", "bart", "BartForConditionalGeneration", _BART),
    Architecture("mbart", "mbart", "MBartForConditionalGeneration", _BART),
    Architecture("marian", "marian", "MarianMTModel", {**_BART, "decoder_vocab_size": VOCABULARY}),
    Architecture("mvp", "mvp", "MvpForConditionalGeneration", _BART),
    Architecture("pegasus", "pegasus", "PegasusForConditionalGeneration", _BART),
    Architecture("blenderbot", "blenderbot", "BlenderbotForConditionalGeneration", _BART),
    Architecture("blenderbot-small", "blenderbot-small", "BlenderbotSmallForConditionalGeneration", _BART),
    Architecture("m2m_100", "m2m_100", "M2M100ForConditionalGeneration", _BART),
    Architecture("nllb-moe", "nllb-moe", "NllbMoeForConditionalGeneration", {**_BART, **_NLLB_MOE}),
    Architecture("whisper", "whisper", "WhisperForConditionalGeneration", _WHISPER),
    Architecture("llama", "llama", "LlamaForCausalLM", {**_LLAMA, "attention_bias": True}),
    *(
        Architecture(f"llama {kind}", "llama", "LlamaForCausalLM", {**_LLAMA, "rope_parameters": parameters})
        for kind, parameters in _ROTARY_KINDS.items()
    ),
    Architecture("mistral sliding", "mistral", "MistralForCausalLM", {**_LLAMA, "sliding_window": 4}),
    Architecture("qwen2 windows", "qwen2", "Qwen2ForCausalLM", {**_LLAMA, **_WINDOWS}),
    Architecture("gemma tied", "gemma", "GemmaForCausalLM", _HEADS),
    Architecture("olmo", "olmo", "OlmoForCausalLM", _LLAMA),
    Architecture("starcoder2", "starcoder2", "Starcoder2ForCausalLM", _LLAMA),
    Architecture("granite", "granite", "GraniteForCausalLM", {**_LLAMA, "attention_multiplier": 0.4}),
    Architecture("ministral", "ministral", "MinistralForCausalLM", {**_HEADS, "sliding_window": 4}),
    Architecture(
        "ministral3", "ministral3", "Ministral3ForCausalLM", {**_HEADS, "rope_parameters": _STRETCHED}
    ),
    Architecture("eurobert", "eurobert", "EuroBertForMaskedLM", {**_LLAMA, "attention_bias": True}),
    Architecture("nomic_bert", "nomic_bert", "NomicBertForMaskedLM", _BERT),
    Architecture("seed_oss", "seed_oss", "SeedOssForCausalLM", _HEADS),
    Architecture("cwm", "cwm", "CwmForCausalLM", {**_HEADS, "sliding_window": 4}),
    Architecture("arcee", "arcee", "ArceeForCausalLM", _LLAMA),
    Architecture("nemotron", "nemotron", "NemotronForCausalLM", {**_LLAMA, "partial_rotary_factor": 0.5}),
    Architecture("mixtral", "mixtral", "MixtralForCausalLM", {**_LLAMA, **_MOE}),
    Architecture("qwen2_moe", "qwen2_moe", "Qwen2MoeForCausalLM", {**_LLAMA, **_MOE}),
    Architecture("granitemoe", "granitemoe", "GraniteMoeForCausalLM", {**_LLAMA, **_MOE}),
    Architecture("phimoe", "phimoe", "PhimoeForCausalLM", {**_LLAMA, **_MOE}),
    Architecture("glm4_moe", "glm4_moe", "Glm4MoeForCausalLM", {**_GLM, "first_k_dense_replace": 3}),
    Architecture("smollm3", "smollm3", "SmolLM3ForCausalLM", {**_LLAMA, "no_rope_layers": [1, 0, 1]}),
    Architecture("cohere", "cohere", "CohereForCausalLM", _LLAMA),
    Architecture("glm", "glm", "GlmForCausalLM", _GLM),
    Architecture("glm4", "glm4", "Glm4ForCausalLM", _GLM),
    Architecture("ernie4_5", "ernie4_5", "Ernie4_5ForCausalLM", {**_HEADS, "use_bias": True}),
    Architecture("ernie4_5_moe", "ernie4_5_moe", "Ernie4_5_MoeForCausalLM", {**_HEADS, **_ERNIE_MOE}),
    Architecture("helium", "helium", "HeliumForCausalLM", {**_LLAMA, "head_dim": 4}),
    Architecture(
        "phi yarn",
        "phi",
        "PhiForCausalLM",
        {**_LLAMA, "rope_parameters": {**_YARN, "partial_rotary_factor": 0.5}},
    ),
    Architecture("phi partial", "phi", "PhiForCausalLM", {**_LLAMA, "partial_rotary_factor": 0.5}),
    Architecture("plbart", "plbart", "PLBartForConditionalGeneration", _BART),
    Architecture("t5", "t5", "T5ForConditionalGeneration", _T5),
    Architecture("t5 v1.1", "t5", "T5ForConditionalGeneration", _T5_V1_1),
    Architecture("t5 encoder", "t5", "T5ForTokenClassification", _T5),
    Architecture("mt5", "mt5", "MT5ForConditionalGeneration", _T5_V1_1),
    Architecture("umt5", "umt5", "UMT5ForConditionalGeneration", _T5_V1_1),
    Architecture("bert", "bert", "BertForMaskedLM", _BERT),
    Architecture("bert decoder", "bert", "BertLMHeadModel", {**_BERT, "is_decoder": True}),
    Architecture(
        "bert to bert",
        "encoder-decoder",
        "EncoderDecoderModel",
        {
            "encoder": {"model_type": "bert", **_BERT, "vocab_size": VOCABULARY},
            "decoder": {"model_type": "bert", **_BERT_DECODER},
        },
    ),
    Architecture("roberta", "roberta", "RobertaForTokenClassification", _BERT),
    Architecture("xlm-roberta", "xlm-roberta", "XLMRobertaForMaskedLM", _BERT),
    Architecture("xlm-roberta-xl", "xlm-roberta-xl", "XLMRobertaXLForMaskedLM", _BERT),
    Architecture("camembert", "camembert", "CamembertForMaskedLM", _BERT),
    Architecture("electra", "electra", "ElectraForMaskedLM", {**_BERT, "embedding_size": 8}),
    Architecture("ernie", "ernie", "ErnieForMaskedLM", _BERT),
    Architecture("data2vec-text", "data2vec-text", "Data2VecTextForMaskedLM", _BERT),
    Architecture("roberta-prelayernorm", "roberta-prelayernorm", "RobertaPreLayerNormForMaskedLM", _BERT),
    Architecture("xmod", "xmod", "XmodForMaskedLM", {**_BERT, "default_language": "en_XX"}),
    Architecture(
        "bert-generation", "bert-generation", "BertGenerationDecoder", {**_BERT, "is_decoder": True}
    ),
    Architecture("rembert", "rembert", "RemBertForMaskedLM", {**_BERT, "input_embedding_size": 8}),
    Architecture("mpnet", "mpnet", "MPNetForMaskedLM", _BERT),
    Architecture("tapas", "tapas", "TapasForMaskedLM", _BERT),
    Architecture(  # two groups of two layers, each of which runs twice
        "albert",
        "albert",
        "AlbertForMaskedLM",
        {**_BERT, "embedding_size": 8, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    Architecture("megatron-bert", "megatron-bert", "MegatronBertForMaskedLM", _BERT),
    Architecture(
        "megatron-bert decoder", "megatron-bert", "MegatronBertForCausalLM", {**_BERT, "is_decoder": True}
    ),
    Architecture("distilbert", "distilbert", "DistilBertForMaskedLM", _DISTILBERT),
    Architecture("gpt2", "gpt2", "GPT2LMHeadModel", _GPT2),
    Architecture("gpt2 unscaled", "gpt2", "GPT2LMHeadModel", {**_GPT2, "scale_attn_weights": False}),
    Architecture("gpt2 layerwise", "gpt2", "GPT2LMHeadModel", {**_GPT2, **_LAYERWISE}),
    Architecture(
        "bert to gpt2",
        "encoder-decoder",
        "EncoderDecoderModel",
        {
            "encoder": {"model_type": "bert", **_BERT, "vocab_size": VOCABULARY},
            "decoder": {"model_type": "gpt2", **_GPT2_DECODER},
        },
    ),
    Architecture("gpt_bigcode", "gpt_bigcode", "GPTBigCodeForCausalLM", _GPT2),
    Architecture(
        "gpt_bigcode heads", "gpt_bigcode", "GPTBigCodeForCausalLM", {**_GPT2, "multi_query": False}
    ),
    Architecture("gpt_neo", "gpt_neo", "GPTNeoForCausalLM", _GPT_NEO),
    Architecture("gpt_neox", "gpt_neox", "GPTNeoXForCausalLM", _NEOX),
    Architecture(
        "gpt_neox whole",
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {**_NEOX, "rotary_pct": 1.0, "attention_bias": False},
    ),
    Architecture(
        "gpt_neox yarn",
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {**_NEOX, "rope_parameters": {**_YARN, "partial_rotary_factor": 0.5}},
    ),
    Architecture("modernbert", "modernbert", "ModernBertForMaskedLM", _MODERNBERT),
    Architecture(
        "modernbert yarn", "modernbert", "ModernBertForMaskedLM", {**_MODERNBERT, **_ROTARY_BY_LAYER_TYPE}
    ),
    Architecture("falcon", "falcon", "FalconForCausalLM", {**_FALCON, "bias": True}),
    Architecture(
        "falcon grouped",
        "falcon",
        "FalconForCausalLM",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    Architecture("falcon alibi", "falcon", "FalconForCausalLM", {**_FALCON, "alibi": True}),
    Architecture(
        "falcon heads",
        "falcon",
        "FalconForCausalLM",
        {**_FALCON, "multi_query": False, "parallel_attn": False},
    ),
    Architecture("gptj", "gptj", "GPTJForCausalLM", _GPTJ),
    Architecture(
        "stablelm",
        "stablelm",
        "StableLmForCausalLM",
        {**_LLAMA, "partial_rotary_factor": 0.5, "use_qkv_bias": True},
    ),
    Architecture("phi3 sliding", "phi3", "Phi3ForCausalLM", {**_LLAMA, "sliding_window": 4}),
    Architecture("phi3 longrope", "phi3", "Phi3ForCausalLM", {**_LLAMA, "rope_parameters": _LONGROPE}),
    Architecture("opt", "opt", "OPTForCausalLM", _OPT),
    Architecture("opt 350m", "opt", "OPTForCausalLM", {**_OPT, **_OPT_350M}),
    Architecture("xglm", "xglm", "XGLMForCausalLM", _XGLM),
    Architecture("biogpt", "biogpt", "BioGptForCausalLM", _BIOGPT),
]

_MOE_TOP = {"num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
_GEMMA3 = {**_LLAMA, "head_dim": 6, "sliding_window": 4, "query_pre_attn_scalar": 10}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_LATENT = {
    **_LLAMA,
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "n_routed_experts": 4,
    "num_experts_per_tok": 4,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
}
_QWEN3_NEXT = {
    **_LLAMA,
    "num_hidden_layers": 4,
    "head_dim": 8,
    "partial_rotary_factor": 0.5,
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "shared_expert_intermediate_size": 8,
    **_MOE_TOP,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
}

_HEADS_ONLY = [  # what head space alone expresses
    Architecture("qwen3", "qwen3", "Qwen3ForCausalLM", _HEADS),
    Architecture("qwen3_moe", "qwen3_moe", "Qwen3MoeForCausalLM", {**_HEADS, **_MOE_TOP}),
    Architecture(
        "gemma2",
        "gemma2",
        "Gemma2ForCausalLM",
        {**_GEMMA3, "attn_logit_softcapping": 2.0, "num_hidden_layers": 3},
    ),
    Architecture("gemma3", "gemma3_text", "Gemma3ForCausalLM", {**_GEMMA3, **_LAYERS}),
    Architecture("olmo2", "olmo2", "Olmo2ForCausalLM", _LLAMA),
    Architecture(
        "gpt_oss", "gpt_oss", "GptOssForCausalLM", {**_HEADS, **_MOE_TOP, "sliding_window": 4, **_LAYERS}
    ),
    Architecture(
        "llama4",
        "llama4_text",
        "Llama4ForCausalLM",
        {**_HEADS, **_MOE_TOP, "intermediate_size_mlp": 24, "num_experts_per_tok": 1, "head_dim": 6},
    ),
    Architecture("cohere2", "cohere2", "Cohere2ForCausalLM", {**_LLAMA, "sliding_window": 4, **_LAYERS}),
    Architecture("deepseek_v3", "deepseek_v3", "DeepseekV3ForCausalLM", _LATENT),
    Architecture("qwen3_next", "qwen3_next", "Qwen3NextForCausalLM", _QWEN3_NEXT),
    Architecture(
        "hrm_text",
        "hrm_text",
        "HrmTextForCausalLM",
        {**_HEADS, "num_layers_per_stack": 1, "num_hidden_layers": 8},
    ),
]

_IN_BOTH = (
    "llama",
    "mistral sliding",
    "phi3 longrope",
    "gpt_neox",
    "gpt2",
    "gpt2 layerwise",
    "gpt_bigcode",
    "opt",
    "bert",
    "distilbert",
    "bert to bert",
    "t5",
    "bart",
    "whisper",
    "modernbert",
    "albert",
)
IN_HEAD_SPACE = [
    replace(each, name=each.name if each in _HEADS_ONLY else f"{each.name} heads", space="heads")
    for each in (*_HEADS_ONLY, *(each for each in ARCHITECTURES if each.name in _IN_BOTH))
]
"""What head space is tested with."""
