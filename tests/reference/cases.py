"""The small models of the reference: their configs, random weights and prompts."""

import zlib

import numpy as np

BLOCK, WINDOW, SINK = 16, 2, 1  # of the recorded power mask
STEPS = 32  # decoded tokens, forced and greedy

# `dtype` is that of the stored weights; everything is computed in float32. `peak` scales the q and
# k projections (or their norms) so that attention picks out few keys: without that a random model
# averages over all of them and would hide a wrong mask.
CASES = {
    "llama": dict(
        model_type="llama", dtype="float32", peak=2.2, lengths=(205, 77, 1), old_config=True,
        config=dict(
            hidden_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=96, vocab_size=100, max_position_embeddings=4096,
            rms_norm_eps=1e-5, tie_word_embeddings=False,
            rope_parameters=dict(
                rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                high_freq_factor=4.0, original_max_position_embeddings=64))),
    "llama-linear": dict(
        model_type="llama", dtype="float16", peak=2.1, lengths=(205, 77, 1), old_config=True,
        config=dict(
            hidden_size=80, num_hidden_layers=3, num_attention_heads=5, num_key_value_heads=1,
            intermediate_size=112, vocab_size=110, max_position_embeddings=4096,
            rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0))),
    "qwen2": dict(
        model_type="qwen2", dtype="bfloat16", peak=2.1, lengths=(205, 77, 1), old_config=False,
        config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=128, vocab_size=200, max_position_embeddings=32768,
            rms_norm_eps=1e-6, tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen3": dict(
        model_type="qwen3", dtype="bfloat16", peak=2.0, lengths=(205, 77, 1), old_config=False,
        config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=24, intermediate_size=96, vocab_size=130, max_position_embeddings=512,
            rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters=dict(
                rope_type="yarn", rope_theta=1000000.0, factor=4.0,
                original_max_position_embeddings=128))),
    "mistral": dict(
        model_type="mistral", dtype="float16", peak=2.1, lengths=(205, 77, 1), old_config=False,
        shard_size="100KB",
        config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=128, vocab_size=160, max_position_embeddings=32768,
            rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=None,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0))),
}

# Positions beyond 100,000, full attention only.
LONG_LENGTH = 100500
LONG_CASE = dict(
    model_type="llama", dtype="float32", peak=2.6, lengths=(LONG_LENGTH,), old_config=False,
    config=dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=64, vocab_size=97, max_position_embeddings=131072,
        rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0)))

# Without an end token greedy decoding never stops early.
NO_TOKENS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)


def generator(*words):
    return np.random.Generator(np.random.PCG64(zlib.crc32(" ".join(map(str, words)).encode())))


def random_tensor(case_name, case, name, shape):
    """Random float32 weights of a tensor, the same on every run."""
    rng = generator(case_name, name)
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return (case["peak"] * rng.uniform(0.7, 1.3, shape)).astype(np.float32)
    if name.endswith("norm.weight"):
        return rng.uniform(0.6, 1.4, shape).astype(np.float32)
    values = rng.standard_normal(shape)
    if name.endswith(".bias"):
        return (0.5 * values).astype(np.float32)
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        return values.astype(np.float32)
    values /= np.sqrt(shape[1])
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        values *= case["peak"]
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        values *= 0.7
    return values.astype(np.float32)


def random_tokens(words, count, vocabulary):
    return generator("tokens", *words).integers(0, vocabulary, count).astype(np.int32)


def allowed_pairs(mask, tokens):
    """(tokens, tokens) of bool: may query q (row) attend to key k (column)?"""
    position = np.arange(tokens)
    causal = position[None, :] <= position[:, None]
    if mask == "full":
        return causal
    if mask != "power":
        raise ValueError(f"unknown mask {mask}")
    block = position // BLOCK
    distance = block[:, None] - block[None, :]
    sink = np.broadcast_to(block[None, :] < SINK, distance.shape)
    power = (distance >= 0) & ((distance & (distance - 1)) == 0)
    return causal & (sink | (distance < WINDOW) | power)
