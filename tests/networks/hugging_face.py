"""Classifiers of the transformers package, from small configurations with random weights."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Small(NamedTuple):
    """A class of transformers, its configuration, and the shape of an input, of tokens where it is one number."""

    model: str
    configuration: str
    settings: dict[str, Any]
    shape: tuple[int, ...]


_PADDED = {"vocab_size": 50, "pad_token_id": 0}
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_TEXT = {**_PADDED, "max_position_embeddings": 24, **_SIZES}
_DECODER = {**_TEXT, "num_key_value_heads": 1, "use_cache": False}
_IMAGE = {"image_size": 16, "patch_size": 4, **_SIZES}
_PICTURE = (3, 16, 16)
_WIDE = {"image_size": 32}
_WINDOWS = {**_WIDE, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}
_LARGER = (3, 32, 32)
_PYRAMID = {
    "depths": [1, 1],
    "hidden_sizes": [8, 16],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_encoder_blocks": 2,
}
_STAGES = {"depths": [1, 1], "num_channels": 3}
_SPEECH = {
    "conv_dim": [8, 8],
    "conv_kernel": [5, 3],
    "conv_stride": [3, 2],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
    **_SIZES,
}


def _family(name: str, settings: dict[str, Any], shape: tuple[int, ...], task: str, configuration: str = "") -> Small:
    return Small(f"{name}For{task}Classification", f"{configuration or name}Config", settings, shape)


def _text(name: str, settings: dict[str, Any] | None = None) -> Small:
    return _family(name, _TEXT if settings is None else settings, (7,), "Sequence")


def _image(name: str, settings: dict[str, Any], shape: tuple[int, ...] = _LARGER) -> Small:
    return _family(name, settings, shape, "Image")


MODELS: dict[str, Small] = {
    "BERT": _text("Bert"),
    "RoBERTa": _text("Roberta"),
    "DistilBERT": _text(
        "DistilBert",
        {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 24},
    ),
    "ALBERT": _text("Albert", {**_TEXT, "embedding_size": 8}),
    "ELECTRA": _text("Electra", {**_TEXT, "embedding_size": 8}),
    "MPNet": _text("MPNet"),
    "XLM-RoBERTa": _text("XLMRoberta"),
    "CamemBERT": _text("Camembert"),
    "ModernBERT": _text("ModernBert", {**_TEXT, "attn_implementation": "eager"}),
    "DeBERTa v2": _text(
        "DebertaV2",
        {**_TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "FNet": _text("FNet"),
    "XLNet": _text("XLNet", {"vocab_size": 50, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}),
    "GPT-2": _text("GPT2", {**_PADDED, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}),
    "GPT-Neo": _text(
        "GPTNeo",
        {
            **_PADDED,
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 24,
        },
    ),
    "OPT": _text("OPT", {**_TEXT, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    "Bloom": _text("Bloom", {**_PADDED, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "Llama": _text("Llama", _DECODER),
    "Mistral": _text("Mistral", _DECODER),
    "Qwen2": _text("Qwen2", _DECODER),
    "Gemma": _text("Gemma", {**_DECODER, "head_dim": 8}),
    "Phi": _text("Phi", {**_DECODER, "num_key_value_heads": 2}),
    "T5": _text(
        "T5",
        {
            "vocab_size": 50,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 2,
            "decoder_start_token_id": 0,
        },
    ),
    "BART": _text(
        "Bart",
        {
            "vocab_size": 50,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 24,
        },
    ),
    "ViT": _image("ViT", _IMAGE, _PICTURE),
    "DeiT": _image("DeiT", _IMAGE, _PICTURE),
    "BEiT": _image("Beit", {**_IMAGE, "use_relative_position_bias": True}, _PICTURE),
    "DINOv2": _image("Dinov2", _IMAGE, _PICTURE),
    "Swin": _image("Swin", _WINDOWS),
    "Swin v2": _image("Swinv2", _WINDOWS),
    "ConvNeXt": _image("ConvNext", {"hidden_sizes": [8, 16], "num_stages": 2, **_STAGES}),
    "ConvNeXt v2": _image("ConvNextV2", {"hidden_sizes": [8, 16], "num_stages": 2, **_STAGES}),
    "ResNet": _image("ResNet", {"embedding_size": 8, "hidden_sizes": [16, 32], **_STAGES}),
    "RegNet": _image("RegNet", {"embedding_size": 8, "hidden_sizes": [16, 32], "groups_width": 8, **_STAGES}),
    "LeViT": _image(
        "Levit",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [4, 4, 4],
            "down_ops": [["Subsample", 4, 4, 2, 2, 2], ["Subsample", 4, 6, 2, 2, 2]],
        },
        (3, 64, 64),
    ),
    "MobileNet v2": _image("MobileNetV2", {"image_size": 32, "depth_multiplier": 0.25}),
    "MobileViT": _image(
        "MobileViT",
        {"image_size": 64, "hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 12, 16, 16, 20, 24]},
        (3, 64, 64),
    ),
    "MobileViT v2": _image("MobileViTV2", {"image_size": 64, "width_multiplier": 0.25}, (3, 64, 64)),
    "PoolFormer": _image(
        "PoolFormer",
        {
            **_PYRAMID,
            "padding": [2, 1],
        },
    ),
    "SegFormer": _image(
        "Segformer",
        {
            **_PYRAMID,
            "sr_ratios": [2, 1],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
            "decoder_hidden_size": 8,
        },
    ),
    "CvT": _image(
        "Cvt",
        {
            "num_heads": [1, 2, 2],
            "depth": [1, 2, 3],
            "embed_dim": [8, 16, 16],
        },
        (3, 64, 64),
    ),
    "FocalNet": _image(
        "FocalNet", {**_WIDE, "embed_dim": 8, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3]}
    ),
    "EfficientNet": _image(
        "EfficientNet", {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320}
    ),
    "AST": _family(
        "AST",
        {"max_length": 24, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8, "time_stride": 8, **_SIZES},
        (24, 16),
        "Audio",
    ),
    "Wav2Vec2": _family("Wav2Vec2", {**_SPEECH, "do_stable_layer_norm": False}, (200,), "Sequence"),
    "Whisper": _family(
        "Whisper",
        {
            "d_model": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "num_mel_bins": 8,
            "max_source_positions": 10,
            "vocab_size": 60,
            "classifier_proj_size": 8,
        },
        (8, 20),
        "Audio",
    ),
}


class Logits(nn.Module):
    """A model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def make(name: str) -> tuple[nn.Module, Tensor]:
    """A model in evaluation mode and one input for it. Weights are larger than at the beginning of a training, where
    outputs of small models are next to nothing."""
    import transformers

    small = MODELS[name]
    configuration = getattr(transformers, small.configuration)(num_labels=3, **small.settings)
    model = Logits(getattr(transformers, small.model)(configuration)).eval().requires_grad_(False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    if not hasattr(configuration, "vocab_size") or len(small.shape) > 1 or small is MODELS["Wav2Vec2"]:
        return model, torch.randn(1, *small.shape)
    tokens = torch.randint(3, 50, (1, *small.shape))
    if configuration.is_encoder_decoder:
        tokens[:, -1] = configuration.eos_token_id  # whose place they classify at
    return model, tokens
